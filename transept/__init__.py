"""Transept: an open transformer accelerator, bit for bit the same wherever it runs.

``compile(model, example)`` makes a :class:`Program`; ``Program.run`` runs it on a device,
``Program.save`` and ``load`` keep it in a file. ``language_program(name)`` makes one of a language
model, and ``generate`` lets it go on with prompts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = ["Program", "compile", "generate", "language_program", "load"]

if TYPE_CHECKING:
    from transept.host.generation.generate import generate
    from transept.host.language.kept import language_program
    from transept.host.runtime.program import Program, compile, load

_PROGRAM = "transept.host.runtime.program"
_PLACES = {
    "Program": _PROGRAM,
    "compile": _PROGRAM,
    "generate": "transept.host.generation.generate",
    "language_program": "transept.host.language.kept",
    "load": _PROGRAM,
}


def __getattr__(name: str) -> object:
    # torch is imported only by those who compile, so that a board can run programs without it
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'transept' has no attribute {name!r}")
