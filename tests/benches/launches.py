"""Launches of kernels, recorded in their place: programs, arguments by name, options."""

from __future__ import annotations

from transept.host.kernels import arithmetic, attention, attention_short, matmul, norm, rows

__all__ = ["boxes", "numbers", "recorded"]

KERNELS = (
    (rows, "_quantise"),
    (rows, "_move"),
    (norm, "_norm"),
    (matmul, "_matmul"),
    (attention, "_transpose"),
    (attention, "_attention"),
    (attention_short, "_short"),
)


class _Recorder:
    """In place of a kernel: its grid, and its arguments by name."""

    def __init__(self, kernel, launches):
        self._names, self._launches = kernel.arg_names, launches

    def __getitem__(self, grid):
        def launch(*args, **named):
            self._launches.append(
                {"grid": grid, **dict(zip(self._names, args, strict=False)), **named}
            )

        return launch


def recorded(monkeypatch):
    """What is launched from now on, as on a card; nothing runs."""
    found = []
    for module, name in KERNELS:
        monkeypatch.setattr(module, name, _Recorder(getattr(module, name), found))
    for module in (arithmetic, attention, attention_short):
        monkeypatch.setattr(module, "INTERPRETED", False)
    return found


def numbers(launch):
    """All but the tensors, and what follows from the machine."""
    known = (bool, int, float, tuple, type(None))
    return {
        name: value for name, value in launch.items() if isinstance(value, known) and name != "ASM"
    }


def boxes(launch, *names):
    """Shapes of the boxes of some tensor descriptors."""
    return [list(launch[name].block_shape) for name in names]
