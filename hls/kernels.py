"""The kernels: blocks of the accelerator in DSLX, each with how XLS is to pipeline it.

A kernel computes what its golden function computes, bit for bit. Tables and widths are written
into its source from ``golden``, so that no number of the contract stands in two places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.filters.window import REACH_BITS
from transept.golden.isa import Opcode
from transept.golden.numerics import tables
from transept.golden.numerics.softmax import CONTEXT_KEYS, DITHER_BITS, FRACTION_BITS

__all__ = [
    "CELLS",
    "FOLDER",
    "VANISHED",
    "Kernel",
    "exponential",
    "interpolation",
    "kernels",
    "requantiser",
    "rsqrt",
    "window",
]

FOLDER = Path(__file__).resolve().parent / "dslx"
#: Verilog of the modules that ``fixed.x`` names.
CELLS = (FOLDER / "cells.v").read_text()
#: Shifts of the exponential from here on leave less than what the largest dither makes a level.
VANISHED = max(c0 for c0, _, _ in tables.EXP2).bit_length() - FRACTION_BITS + DITHER_BITS


@dataclass(frozen=True)
class Kernel:
    """One function or process of DSLX, and how it is pipelined: one result a cycle.

    name: of the block, the function and its file; source: everything that XLS reads; latency: of
    the pipeline in cycles, 0 for a process, which has no registers but its state; strategy: of
    XLS's scheduler.
    """

    name: str
    source: str
    latency: int
    strategy: str = "sdc"
    process: bool = False

    @property
    def module(self) -> str:
        """Name of the Verilog module."""
        return f"hls_{self.name}"

    @property
    def top(self) -> str:
        """What XLS calls the function or process."""
        return f"__{self.name}__{self.name}" + ("_0_next" if self.process else "")


def _read(*names: str) -> str:
    return "\n".join((FOLDER / f"{name}.x").read_text() for name in names)


def _numbers(**values: int) -> str:
    return "".join(f"const {name} = u32:{value};\n" for name, value in values.items())


def _table(name: str, rows: Sequence[tuple[int, int, int]]) -> str:
    """Rows (c0, c1, c2) of the least widths that hold them; c1 is negative, c2 is not."""
    c1_bits = 1 + max((-c1 - 1).bit_length() for _, c1, _ in rows)
    c2_bits = max(c2.bit_length() for _, _, c2 in rows)
    lines = (f"(u17:{c0}, s{c1_bits}:{c1}, u{c2_bits}:{c2})" for c0, c1, c2 in rows)
    return f"const {name} = [\n    " + ",\n    ".join(lines) + "\n];\n"


def exponential() -> Kernel:
    """The block ``exponential``."""
    source = f"const VANISHED = u8:{VANISHED};\n" + _table("EXP2", tables.EXP2)
    return Kernel("exponential", source + _read("fixed", "polynomial", "exponential"), 8, "asap")


def interpolation() -> Kernel:
    """The block ``interpolation``."""
    return Kernel("interpolation", _read("fixed", "interpolation"), 11)


def rsqrt() -> Kernel:
    """The block ``rsqrt``."""
    source = _table("RSQRT", tables.RSQRT) + _read("fixed", "polynomial", "rsqrt")
    return Kernel("rsqrt", source, 8)


def requantiser() -> Kernel:
    """The block ``requantiser``."""
    source = _numbers(COLUMN_BITS=8 + (CONTEXT_KEYS - 1).bit_length())
    return Kernel("requantiser", source + _read("fixed", "requantiser"), 16)


def window(cfg: Config) -> Kernel:
    """The block ``window`` for the tile and the widths of a configuration."""

    def bits(name: str) -> int:
        return isa.operand(Opcode.SCORES, name).width

    exponent = cfg.tile.bit_length() - 1
    source = _numbers(
        REACH_BITS=REACH_BITS,
        KEYS_BITS=bits("keys"),
        KEY_BASE_BITS=bits("key_base"),
        POSITION_BITS=bits("position") + 1,
        AHEAD_BITS=bits("position") + 2,
        DIAGONAL_BITS=max(1, exponent) + 1,
        TILE_BITS=max(1, (cfg.key_tiles - 1).bit_length()),
        TILE_EXPONENT=exponent,
    )
    return Kernel("window", source + _read("window"), 0, process=True)


def kernels(cfg: Config) -> dict[str, Kernel]:
    """The kernel of every block of ``HLS_BLOCKS``."""
    found = (exponential(), interpolation(), rsqrt(), requantiser(), window(cfg))
    return {kernel.name: kernel for kernel in found}
