"""What a program cannot be used for."""

from __future__ import annotations

__all__ = ["ProgramError"]


class ProgramError(ValueError):
    """A program, a program file or what it is given cannot be used; the message says why."""
