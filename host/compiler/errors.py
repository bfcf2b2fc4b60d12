"""What the compiler cannot do."""

from __future__ import annotations

__all__ = ["CompileError"]


class CompileError(ValueError):
    """A graph or shape does not fit the accelerator; the message names the value and the limit."""
