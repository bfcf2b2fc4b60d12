"""Waveforms as arrays: what signals of the RTL are in every cycle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from transept.sim import tools

__all__ = ["lanes", "read_waves"]

#: The harness writes what a cycle settles to, and what its edge makes of that.
TIMES_PER_CYCLE = 2


def read_waves(
    path: Path, scope: str, names: Iterable[str], cycles: range
) -> dict[str, np.ndarray]:
    """Signals of a VCD that ``WaveWindow`` wrote, each as object[cycles] of unsigned integers.

    scope: the instance, e.g. ``"accelerator.core.gemm"``; names: of signals below it, e.g.
    ``"array.row_valid"``; cycles: those that are read. Before its first entry a signal is 0.

    Raises
    ------
    ToolMissing
        If pywellen is not installed.
    ValueError
        If there is no such signal.
    """
    tools.require(tools.WAVES)
    import pywellen

    # a look-up by name is content with one that begins alike
    known = {var.full_name: var for var in pywellen.Waveform(str(path)).all_vars()}
    found = {}
    for name in names:
        if (signal := known.get(f"TOP.{scope}.{name}")) is None:
            raise ValueError(f"{path.name} has no signal {scope}.{name}")
        times, values = zip((-1, 0), *signal.tv, strict=True)
        places = np.searchsorted(times, TIMES_PER_CYCLE * np.asarray(cycles), side="right") - 1
        found[name] = np.array(values, object)[places]
    return found


def lanes(words: np.ndarray, count: int, bits: int) -> np.ndarray:
    """The signed fields of packed words, lowest first, ``bits`` each: int64[words, count]."""
    places = bits * np.arange(count).astype(object)
    fields = (words[:, None] >> places) & ((1 << bits) - 1)
    signs = fields >> (bits - 1)
    return (fields - (signs << bits)).astype(np.int64)
