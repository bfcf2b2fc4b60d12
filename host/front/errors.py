"""What goes wrong between a torch module and a quantised graph."""

from __future__ import annotations

__all__ = ["ExportError", "UnfitError", "UnsupportedModelError"]


class ExportError(ValueError):
    """The model or its inputs cannot be exported; the message says what torch said."""


class UnsupportedModelError(ValueError):
    """No part of the model can run on the accelerator; the message says why."""


class UnfitError(ValueError):
    """One operator cannot be what the accelerator computes; ``operator`` names it."""

    def __init__(self, operator: str, message: str) -> None:
        super().__init__(message)
        self.operator = operator
