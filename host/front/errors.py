"""What goes wrong between a torch module and a quantised graph."""

from __future__ import annotations

__all__ = ["ExportError", "UnsupportedModelError"]


class ExportError(ValueError):
    """The model or its inputs cannot be exported; the message says what torch said."""


class UnsupportedModelError(ValueError):
    """No part of the model can run on the accelerator; the message says why."""
