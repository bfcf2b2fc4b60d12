"""The systolic array: tile x tile int8 MACs, weight-stationary, two MACs in each DSP slice."""

from __future__ import annotations

from amaranth import Cat, Module, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config

__all__ = ["SystolicArray", "load_lead", "skew", "sum_bits"]

#: Bits of the lower field of a packed product; the upper one starts here.
FIELD_BITS = 17
OPERAND_MAX = 127


def sum_bits(cfg: Config) -> int:
    """Bits of one signed sum of ``tile`` products."""
    return (cfg.tile * OPERAND_MAX**2).bit_length() + 1


def skew(cfg: Config, k: int) -> int:
    """Cycles after its entry at which a row of operands reaches array row ``k``.

    The wavefront moves one array row a cycle within a DSP cascade, and each cascade starts one
    cycle after the one above it, just in time for the partial sums that come down.
    """
    return k % cfg.dsp_chain + k // cfg.dsp_chain


def load_lead(cfg: Config) -> int:
    """Least number of cycles from the write of weight row 0 to the entry of the pass that uses it,
    if the rows are written one a cycle, in order."""
    return 1 + max(k - skew(cfg, k) for k in range(cfg.tile))


class SystolicArray(wiring.Component):
    """``sums[n] = sum over k of row[k] * weight[k][n]``, one row a cycle, ``latency`` cycles later.

    Operands and weights are -127..127. Each array row k has active and shadow weights. The first
    row of a pass carries ``row_swap``, which travels with its wavefront and makes the shadow
    weights active, so that passes follow each other without a bubble.

    A pass that enters in cycle t swaps array row k in cycle ``t + skew(k)``. Its weights must have
    been written in cycle ``t + skew(k) - 1`` at the latest, and those of the next pass may be
    written from cycle ``t + skew(k)`` on. Hence a loader that writes the rows 0, 1, ... in
    consecutive cycles, row 0 in cycle W, needs ``t + load_lead <= next t`` and
    ``W + load_lead <= t <= next W``.

    Members
    -------
    row : In(int8[tile]), row_valid : In(1), row_swap : In(1)
        ``row_swap`` only with ``row_valid``.
    weight_en : In(1), weight_index : In(k), weight_word : In(int8[tile])
        Writes ``weight[k][n] = weight_word[n]`` into the shadow weights.
    sums : Out(signed(sum_bits))[tile], sums_valid : Out(1)
        Held while ``sums_valid`` is low.
    """

    row: data.View
    row_valid: Signal
    row_swap: Signal
    weight_en: Signal
    weight_index: Signal
    weight_word: data.View
    sums: list[Signal]
    sums_valid: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        word = data.ArrayLayout(signed(8), cfg.tile)
        super().__init__(
            {
                "row": In(word),
                "row_valid": In(1),
                "row_swap": In(1),
                "weight_en": In(1),
                "weight_index": In(range(cfg.tile)),
                "weight_word": In(word),
                "sums": Out(signed(sum_bits(cfg))).array(cfg.tile),
                "sums_valid": Out(1),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from ``row_valid`` to the ``sums_valid`` of the same row."""
        return self._cfg.dsp_chain + self._cfg.tile // self._cfg.dsp_chain + 1
