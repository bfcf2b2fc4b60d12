"""Transept: an open transformer accelerator, bit for bit the same wherever it runs.

``compile(model, example)`` makes a :class:`Program`; ``Program.run`` runs it on a device,
``Program.save`` and ``load`` keep it in a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Program", "compile", "load"]

if TYPE_CHECKING:
    from transept.host.runtime.program import Program, compile, load


def __getattr__(name: str) -> object:
    # torch is imported only by those who compile, so that a board can run programs without it
    if name in __all__:
        from transept.host.runtime import program

        return getattr(program, name)
    raise AttributeError(f"module 'transept' has no attribute {name!r}")
