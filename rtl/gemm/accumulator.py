"""Accumulators of the GEMM engine: read-modify-write of array sums in two banks of block RAM."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.hdl import signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.gemm.array import sum_bits
from transept.rtl.gemm.descriptors import slot_bits

__all__ = [
    "ACC_BITS",
    "ACC_READ_LATENCY",
    "REVISIT_CYCLES",
    "Accumulators",
    "accumulator_read",
    "row_tag_layout",
    "scale_write",
]

#: Bits of one accumulator: 4096 products of 127 x 127.
ACC_BITS = 27
#: Cycles from an accepted read request to its data.
ACC_READ_LATENCY = 2
#: Least distance in cycles of two array rows that go to the same accumulator row. The loader
#: starts passes at least this far apart.
REVISIT_CYCLES = 3
MULTIPLIER_BITS = 17
EXPONENT_BITS = 5


def row_tag_layout(cfg: Config) -> data.StructLayout:
    """Where the sums of one array row go.

    ``slot``: accumulator slot, bit 0 is the bank; ``row``: row of the slot; ``first``: overwrite,
    else add; ``last``: the last row of the last pass of a group.
    """
    return data.StructLayout(
        {"slot": slot_bits(cfg), "row": range(cfg.max_rows), "first": 1, "last": 1}
    )


def accumulator_read(cfg: Config) -> wiring.Signature:
    """Read port as seen by the epilogue: accepted when ``en & ready``, and ACC_READ_LATENCY cycles
    later, for one cycle, ``data`` (int27[tile]), ``multiplier`` and ``exponent`` of that row."""
    return wiring.Signature(
        {
            "en": Out(1),
            "slot": Out(slot_bits(cfg)),
            "row": Out(range(cfg.max_rows)),
            "ready": In(1),
            "data": In(data.ArrayLayout(signed(ACC_BITS), cfg.tile)),
            "multiplier": In(MULTIPLIER_BITS),
            "exponent": In(EXPONENT_BITS),
        }
    )


def scale_write(cfg: Config) -> wiring.Signature:
    """Write port of the row scales, never refused; seen by reads from the next cycle on."""
    return wiring.Signature(
        {
            "en": Out(1),
            "slot": Out(slot_bits(cfg)),
            "row": Out(range(cfg.max_rows)),
            "multiplier": Out(MULTIPLIER_BITS),
            "exponent": Out(EXPONENT_BITS),
        }
    )


class Accumulators(wiring.Component):
    """``acc[slot][row][n] = (0 if first else acc[slot][row][n]) + sums[n]``, one row a cycle.

    ``latency`` is that of the array: the tag of a row is given in the cycle in which the row enters
    the array, its sums arrive ``latency`` (at least 2) cycles later. Rows of one (slot, row) must be
    REVISIT_CYCLES apart.

    Members
    -------
    tag : In(row_tag_layout), tag_valid : In(1), together with ``row_valid`` of the array
    sums : In(signed(sum_bits))[tile], from the array
    group_done : Out(1)
        One pulse for each tag with ``last``, in order; a read in the next cycle sees the group.
    read : In(accumulator_read)
        Refused only in cycles in which the array itself reads the same bank (rows without
        ``first``).
    scale_write : In(scale_write)
    """

    tag: data.View
    tag_valid: Signal
    sums: list[Signal]
    group_done: Signal
    read: wiring.PureInterface
    scale_write: wiring.PureInterface

    def __init__(self, cfg: Config, *, latency: int) -> None:
        if latency < 2:
            raise ValueError(f"latency={latency} of the array must be at least 2")
        self._cfg, self._latency = cfg, latency
        super().__init__(
            {
                "tag": In(row_tag_layout(cfg)),
                "tag_valid": In(1),
                "sums": In(signed(sum_bits(cfg))).array(cfg.tile),
                "group_done": Out(1),
                "read": In(accumulator_read(cfg)),
                "scale_write": In(scale_write(cfg)),
            }
        )
