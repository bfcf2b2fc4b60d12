"""The systolic array: tile x tile int8 MACs, weight-stationary, one or two in each multiplier."""

from __future__ import annotations

from amaranth import Const, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.gemm.packing import packing

__all__ = ["SystolicArray", "load_lead", "skew", "sum_bits"]

OPERAND_MAX = 127


def sum_bits(cfg: Config) -> int:
    """Bits of one signed sum of ``tile`` products."""
    return (cfg.tile * OPERAND_MAX**2).bit_length() + 1


def skew(cfg: Config, k: int) -> int:
    """Cycles after its entry at which a row of operands reaches array row ``k``.

    The wavefront moves one array row a cycle within a DSP cascade, and each cascade starts one
    cycle after the one above it, just in time for the partial sums that come down.
    """
    return k % cfg.geometry.dsp_chain + k // cfg.geometry.dsp_chain


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
        self._cfg, self._packing = cfg, packing(cfg)
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
        return self._cfg.geometry.dsp_chain + self._cfg.tile // self._cfg.geometry.dsp_chain + 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid, swap = self._wavefront(m)
        operands = self._skewed(m, valid)
        weights = self._weights(m, swap)
        sums: list[Value] = [Const(0, signed(2))] * self._cfg.tile
        for cascade in range(self._cfg.tile // self._cfg.geometry.dsp_chain):
            packed = self._cascade(m, cascade, operands, weights, valid)
            sums = self._add(m, cascade, packed, sums, valid)
        m.d.comb += [port.eq(total) for port, total in zip(self.sums, sums, strict=True)]
        m.d.comb += self.sums_valid.eq(valid[self.latency])
        return m

    def _wavefront(self, m: Module) -> tuple[list[Value], list[Value]]:
        """``row_valid`` and ``row_swap``, delayed by the index."""
        valid, swap = [self.row_valid], [self.row_valid & self.row_swap]
        for stage in range(self.latency):
            valid.append(Signal(name=f"valid_{stage + 1}"))
            m.d.sync += valid[-1].eq(valid[-2])
        for stage in range(skew(self._cfg, self._cfg.tile - 1)):
            swap.append(Signal(name=f"swap_{stage + 1}"))
            m.d.sync += swap[-1].eq(swap[-2])
        return valid, swap

    def _skewed(self, m: Module, valid: list[Value]) -> list[Signal]:
        """Element k of the row, ``skew(k) + 1`` cycles later: the operand of array row k."""
        operands = []
        for k in range(self._cfg.tile):
            operand = self.row[k]
            for stage in range(skew(self._cfg, k) + 1):
                delayed = Signal(signed(8), name=f"operand_{k}_{stage}", reset_less=True)
                with m.If(valid[stage]):
                    m.d.sync += delayed.eq(operand)
                operand = delayed
            operands.append(operand)
        return operands

    def _weights(self, m: Module, swap: list[Value]) -> list[list[Signal]]:
        """Active multiplicands [k][multiplier], with their shadows."""
        cfg, packing = self._cfg, self._packing
        packed = Signal(8 * cfg.tile)
        m.d.comb += packed.eq(packing.pack(self.weight_word))
        active = []
        for k in range(cfg.tile):
            shadow = Signal(8 * cfg.tile, name=f"shadow_{k}", reset_less=True)
            with m.If(self.weight_en & (self.weight_index == k)):
                m.d.sync += shadow.eq(packed)
            row = [
                Signal(signed(packing.multiplicand_bits), name=f"weight_{k}_{i}", reset_less=True)
                for i in range(cfg.tile // packing.columns)
            ]
            with m.If(swap[skew(cfg, k)]):
                m.d.sync += [
                    weight.eq(packing.multiplicand(shadow.word_select(i, 8 * packing.columns)))
                    for i, weight in enumerate(row)
                ]
            active.append(row)
        return active

    def _cascade(
        self,
        m: Module,
        cascade: int,
        operands: list[Signal],
        weights: list[list[Signal]],
        valid: list[Value],
    ) -> list[Signal]:
        """What each multiplier sums over the rows of one cascade."""
        cfg, bits = self._cfg, self._packing.total_bits
        sums: list[Value] = [Const(0)] * len(weights[0])
        for k in range(cascade * cfg.geometry.dsp_chain, (cascade + 1) * cfg.geometry.dsp_chain):
            above, sums = sums, []
            with m.If(valid[skew(cfg, k) + 1]):
                for i, weight in enumerate(weights[k]):
                    total = Signal(signed(bits), name=f"p_{k}_{i}", reset_less=True)
                    m.d.sync += total.eq(above[i] + weight * operands[k])
                    sums.append(total)
        return sums

    def _add(
        self,
        m: Module,
        cascade: int,
        totals: list[Signal],
        above: list[Value],
        valid: list[Value],
    ) -> list[Signal]:
        """Column sums over this cascade and all above it."""
        cfg, columns = self._cfg, self._packing.columns
        sums = [
            Signal(signed(sum_bits(cfg)), name=f"sum_{cascade}_{n}", reset_less=True)
            for n in range(cfg.tile)
        ]
        with m.If(valid[cfg.geometry.dsp_chain + cascade + 1]):
            for i, total in enumerate(totals):
                fields = slice(i * columns, (i + 1) * columns)
                added = self._packing.add(total, above[fields])
                m.d.sync += [s.eq(value) for s, value in zip(sums[fields], added, strict=True)]
        return sums
