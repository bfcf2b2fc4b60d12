"""The row streamer: reads, quantises and streams the rows of a pass, one a cycle."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.numerics.requantise import ONE
from transept.rtl.arith.pipeline import delay, resting
from transept.rtl.arith.reciprocal import RowFactor, row_maximum
from transept.rtl.arith.row_quantiser import RowQuantiser
from transept.rtl.gemm.accumulator import row_tag_layout, scale_write
from transept.rtl.gemm.descriptors import pass_layout
from transept.rtl.interfaces import (
    ACT_GEMM_READ_LATENCY,
    ROWSTAT_READ_LATENCY,
    act_read,
    operand,
    rowstat_read,
    stat_word,
)

__all__ = ["RowStreamer"]


class RowStreamer(wiring.Component):
    """Streams passes: row m is the word at ``addr + m * stride``, raw or quantised by its maximum,
    to 8 bits or to two halves, the lower one first.

    A row takes ENTRY_DELAY cycles from its issue to the array, always; rows of consecutive passes
    follow each other without a bubble. Before its first row a pass waits for ``tile_ready``, and
    the first one of a group for an accumulator slot; never later. The address of a row waits for
    its scale, so no data is buffered. On the last pass of a group the scale of each row is written
    beside the accumulators: 2**15, the row maximum (256 to 32767), or the reciprocal of the row sum
    (``golden.numerics.polynomial.reciprocal``).

    Members
    -------
    passes : In(stream of pass_layout)
    tile_ready : In(1), tile_taken : Out(1), of the stationary loader
    slot_free : In(1), one pulse for each slot that the epilogue has read
    act_read : Out(act_read), always accepted; rowstat_read : Out(rowstat_read)
    row, row_valid, row_swap : Out, to SystolicArray
    tag, tag_valid : Out, scale_write : Out(scale_write), to Accumulators
    query : Out(always-ready stream of int8[tile]), rows of ``observe`` passes
    retired : Out(1), the last row of a pass with ``retire`` enters the array
    issuing : Out(1), a row is issued in this cycle
    no_slot : Out(1), a pass waits for an accumulator slot
    """

    ENTRY_DELAY = 1 + ROWSTAT_READ_LATENCY + RowFactor.LATENCY + RowQuantiser.LATENCY

    passes: stream.Interface
    tile_ready: Signal
    tile_taken: Signal
    slot_free: Signal
    act_read: wiring.PureInterface
    rowstat_read: wiring.PureInterface
    row: data.View
    row_valid: Signal
    row_swap: Signal
    tag: data.View
    tag_valid: Signal
    scale_write: wiring.PureInterface
    query: stream.Interface
    retired: Signal
    issuing: Signal
    no_slot: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._place = row_tag_layout(cfg)
        # what travels with a row from its issue to the array
        self._row = data.StructLayout(
            {
                "place": self._place,
                "scale": 1,  # the row scale is written
                "row_scale": operand(isa.Opcode.MATMUL, "row_scale"),
                "quantise": 1,
                "low": 1,  # the lower half
                "statistic": 1,  # rowstat is read
                "observe": 1,
                "swap": 1,
                "retire": 1,
            }
        )
        super().__init__(
            {
                "passes": In(stream.Signature(pass_layout(cfg))),
                "tile_ready": In(1),
                "tile_taken": Out(1),
                "slot_free": In(1),
                "act_read": Out(act_read(cfg)),
                "rowstat_read": Out(rowstat_read(cfg)),
                "row": Out(stat_word(cfg)),
                "row_valid": Out(1),
                "row_swap": Out(1),
                "tag": Out(self._place),
                "tag_valid": Out(1),
                "scale_write": Out(scale_write(cfg)),
                "query": Out(stream.Signature(stat_word(cfg), always_ready=True)),
                "retired": Out(1),
                "issuing": Out(1),
                "no_slot": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        factor = RowFactor()
        m.submodules.factor = resting(m, factor, factor.LATENCY, factor.i.valid)
        m.submodules.quantiser = quantiser = RowQuantiser(self._cfg)
        row, addr, rowstat = self._issue(m)

        asked = 1  # cycles after the issue
        found = asked + ROWSTAT_READ_LATENCY
        scaled = found + RowFactor.LATENCY
        read = scaled - ACT_GEMM_READ_LATENCY
        valid = [self.issuing]
        rows = [row]
        for _ in range(self.ENTRY_DELAY):
            valid.append(delay(m, valid[-1], 1))
            rows.append(data.View(self._row, delay(m, rows[-1].as_value(), 1, reset_less=True)))

        m.d.sync += [
            self.rowstat_read.en.eq(valid[0] & rows[0].statistic),
            self.rowstat_read.addr.eq(rowstat),
        ]
        m.d.comb += [
            factor.i.valid.eq(valid[found]),
            factor.i.payload.statistic.eq(self.rowstat_read.data),
            factor.i.payload.quantise.eq(rows[found].quantise),
            self.act_read.en.eq(valid[read]),
            self.act_read.addr.eq(delay(m, addr, read, reset_less=True)),
            quantiser.i.valid.eq(valid[scaled]),
            quantiser.i.row.eq(self.act_read.data),
            quantiser.i.scale.eq(factor.o.payload.scale),
            quantiser.i.raw.eq(~rows[scaled].quantise),
            quantiser.i.low.eq(rows[scaled].low),
        ]
        row_max = self._row_max(m, scaled - found)
        self._write_scale(m, valid[scaled], rows[scaled], factor.o.payload, row_max)
        self._deliver(m, quantiser, valid[-1], rows[-1])
        return m

    def _issue(self, m: Module) -> tuple[data.View, Signal, Signal]:
        """Step through the rows of the pass at hand; results: the row, its addresses."""
        current = self.passes.payload
        index = Signal.like(self.tag.row)
        addr, next_addr = Signal.like(self.act_read.addr), Signal.like(self.act_read.addr)
        rowstat, next_rowstat = Signal.like(current.rowstat), Signal.like(current.rowstat)
        first, last = Signal(init=1), index == current.rows  # first: index is 0
        row = Signal(self._row)
        lower = current.halves & ~index[0]

        starts = first & ~current.observe
        opens = starts & current.first
        m.d.comb += [
            self.no_slot.eq(self.passes.valid & opens & ~self._slot_left(m, opens)),
            self.issuing.eq(self.passes.valid & (~starts | self.tile_ready) & ~self.no_slot),
            self.tile_taken.eq(self.issuing & starts),
            self.passes.ready.eq(self.issuing & last),
            addr.eq(Mux(first, current.addr, next_addr)),
            rowstat.eq(Mux(first, current.rowstat, next_rowstat)),
            row.place.slot.eq(current.slot),
            row.place.row.eq(index),
            row.place.first.eq(current.first),
            row.place.last.eq(current.last & last),
            row.scale.eq(current.last & ~current.observe),
            row.row_scale.eq(current.row_scale),
            row.quantise.eq(current.mode == isa.AMode.DYNAMIC),
            row.statistic.eq(
                (current.mode == isa.AMode.DYNAMIC) | (current.row_scale != isa.RowScale.ONE)
            ),
            row.low.eq(lower),
            row.observe.eq(current.observe),
            row.swap.eq(first),
            row.retire.eq(current.retire & last),
        ]
        with m.If(self.issuing):
            m.d.sync += [
                index.eq(Mux(last, 0, index + 1)),
                first.eq(last),
                next_addr.eq(addr + Mux(lower, 0, current.stride)),
                next_rowstat.eq(rowstat + ~lower),
            ]
        return row, addr, rowstat

    def _slot_left(self, m: Module, opens: Value) -> Value:
        """Whether a slot is left. They are opened and freed in the same rotation."""
        slots = 2 * self._cfg.geometry.acc_slots
        unfinished = Signal(range(slots + 1))
        m.d.sync += unfinished.eq(unfinished + (opens & self.issuing) - self.slot_free)
        return unfinished != slots

    def _row_max(self, m: Module, cycles: int) -> Value:
        """The row maximum, limited, ``cycles`` after it was found."""
        return delay(m, row_maximum(self.rowstat_read.data), cycles, reset_less=True)

    def _write_scale(
        self, m: Module, valid: Value, row: data.View, factor: data.View, row_max: Value
    ) -> None:
        """Write the row scale ahead of the sums that it belongs to."""
        write = self.scale_write
        m.d.sync += write.en.eq(valid & row.scale)
        with m.If(valid & row.scale):
            m.d.sync += [
                write.slot.eq(row.place.slot),
                write.row.eq(row.place.row),
                write.exponent.eq(0),
            ]
            with m.Switch(row.row_scale):
                with m.Case(isa.RowScale.ROW_MAX):
                    m.d.sync += write.multiplier.eq(row_max)
                with m.Case(isa.RowScale.RECIPROCAL):
                    m.d.sync += [
                        write.multiplier.eq(factor.mantissa),
                        write.exponent.eq(factor.exponent),
                    ]
                with m.Default():
                    m.d.sync += write.multiplier.eq(ONE)

    def _deliver(self, m: Module, quantiser: RowQuantiser, valid: Value, row: data.View) -> None:
        """Rows go to the array with their place, or to the key filter."""
        m.d.comb += [
            self.row.eq(quantiser.o.row),
            self.row_valid.eq(valid & ~row.observe),
            self.row_swap.eq(row.swap),
            self.tag.eq(row.place),
            self.tag_valid.eq(self.row_valid),
            self.retired.eq(self.row_valid & row.retire),
            self.query.valid.eq(valid & row.observe),
            self.query.payload.eq(quantiser.o.row),
        ]
