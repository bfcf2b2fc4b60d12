"""What goes wrong between a torch module and a quantised graph."""

from __future__ import annotations

__all__ = ["ExportError"]


class ExportError(ValueError):
    """The model or its inputs cannot be exported; the message says what torch said."""
