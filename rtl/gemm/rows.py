"""Reads finished groups from the accumulators, row by row, at the pace of the epilogue."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.golden.numerics.requantise import HALF_BITS
from transept.rtl.arith.fixed import index_bits, select
from transept.rtl.arith.pipeline import delay
from transept.rtl.gemm.accumulator import ACC_READ_LATENCY, accumulator_read
from transept.rtl.gemm.descriptors import Statistic, band_row, slot_bits
from transept.rtl.gemm.parameters import prepared_layout
from transept.rtl.gemm.requantise import ROW_SHIFT_BITS, requantise_layout
from transept.rtl.gemm.stationary import column_sums_layout
from transept.rtl.gemm.table import activation_interval
from transept.rtl.interfaces import operand

__all__ = ["RowReader", "result_layout"]


def result_layout(cfg: Config) -> data.StructLayout:
    """Where one row goes and what is done on the way."""
    return data.StructLayout(
        {
            "addr": operand(Opcode.MATMUL, "out_addr"),
            "out_mode": operand(Opcode.MATMUL, "out_mode"),  # isa.OutMode
            "activation": 1,
            "masked": 1,
            "mask": cfg.tile,
            "statistic": Statistic,
            "keep": 1,
            "rowstat": operand(Opcode.MATMUL, "out_rowstat"),
            "observe": 1,
            "summary": index_bits(cfg.key_summaries),
            "first": 1,  # first key of a tile
            "tally": operand(Opcode.MATMUL, "tally"),
            "final": 1,  # last row of its job
            "retire": 1,  # last row of an instruction
        }
    )


class RowReader(wiring.Component):
    """Turns jobs into beats of ``epilogue_lanes`` accumulators with their parameters.

    A row is ``tile / epilogue_lanes`` beats in consecutive cycles, or ``activation_interval`` apart
    if they go through the activation. Of a row in halves two rows of accumulators are read, the
    lower one first, which joins the upper one as column sums do. A job begins once its group is
    complete; if it is prepared by then and a row takes at least two cycles, there is no gap after
    the job before.

    Members
    -------
    prepared : In(stream of prepared_layout)
    group_done : In(1), one pulse for each finished group, in the order of the jobs
    acc_read : Out(accumulator_read); requests may be refused for any number of cycles
    columns_slot : Out(slot), columns_wanted : Out(1), of the next job if it has ``columns``
    columns : In(stream of column_sums_layout), one item for each job with ``columns``
    beat : Out(requantise_layout), beat_valid : Out(1), beat_activated : Out(1)
    result : Out(always-ready stream of result_layout), with the first beat of each row
    slot_free : Out(1), one pulse for each group that is read; its slot may be written
    """

    prepared: stream.Interface
    group_done: Signal
    acc_read: wiring.PureInterface
    columns_slot: Signal
    columns_wanted: Signal
    columns: stream.Interface
    beat: data.View
    beat_valid: Signal
    beat_activated: Signal
    result: stream.Interface
    slot_free: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._beats = cfg.tile // cfg.engines.epilogue_lanes
        self._interval = activation_interval(cfg)
        super().__init__(
            {
                "prepared": In(stream.Signature(prepared_layout(cfg))),
                "group_done": In(1),
                "acc_read": Out(accumulator_read(cfg)),
                "columns_slot": Out(slot_bits(cfg)),
                "columns_wanted": Out(1),
                "columns": In(stream.Signature(column_sums_layout(cfg))),
                "beat": Out(requantise_layout(cfg)),
                "beat_valid": Out(1),
                "beat_activated": Out(1),
                "result": Out(stream.Signature(result_layout(cfg), always_ready=True)),
                "slot_free": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        taken, first, last, lower, upper = self._request(m)
        whole = taken & ~lower
        arrives, opens, closes, keeps, joins = (
            delay(m, flag, ACC_READ_LATENCY)
            for flag in (whole, whole & first, whole & last, taken & lower, whole & upper)
        )
        joined = self._keep(m, keeps, joins)
        m.d.sync += self.slot_free.eq(whole & last)
        m.d.comb += [
            self.columns_slot.eq(self.prepared.payload.job.slot),
            self.columns_wanted.eq(self.prepared.valid & self.prepared.payload.job.columns),
            self.prepared.ready.eq(opens),
            self.columns.ready.eq(opens & self.prepared.payload.job.columns),
        ]
        active = Signal(self.prepared.payload.shape())
        with m.If(opens):
            m.d.sync += active.eq(self.prepared.payload)
        position = self._count_beats(m, active.job.activation, arrives)
        self._form_beats(m, active, position, arrives, opens, joined)
        self._form_results(m, active, position, arrives, opens, closes)
        return m

    def _request(self, m: Module) -> tuple[Value, ...]:
        """Read the rows of one job after the other; results: accepted, first row, last row, the
        lower half of a row, the upper one."""
        cfg, job = self._cfg, self.prepared.payload.job
        complete = Signal(range(2 * cfg.geometry.acc_slots + 1))  # groups not yet begun
        reading, first, begun = Signal(), Signal(), Signal()
        left, pause = Signal(job.rows.shape()), Signal(range(self._beats * self._interval))
        slow, halves, lower = Signal(), Signal(), Signal()
        cycles = Mux(slow, self._beats * self._interval, self._beats)
        read = self.acc_read

        ready = self.prepared.valid & (~job.columns | self.columns.valid) & (complete != 0)
        begin = ready & ~begun & ~reading
        taken, last = read.en & read.ready, left == 0
        m.d.comb += read.en.eq(reading & (pause == 0))
        m.d.sync += [
            complete.eq(complete + self.group_done - begin),
            # the job stays in place until its first row arrives
            begun.eq((begun | begin) & ~self.prepared.ready),
            # the upper half follows the lower one at once
            pause.eq(Mux(taken & ~lower, cycles - 1, Mux(pause == 0, 0, pause - 1))),
        ]
        with m.If(taken):
            m.d.sync += [
                first.eq(first & lower),
                lower.eq(halves & ~lower),
                left.eq(left - ~lower),
                read.row.eq(read.row + 1),
                reading.eq(~last | lower),
            ]
        with m.If(begin):
            m.d.sync += [
                reading.eq(1),
                first.eq(1),
                slow.eq(job.activation),
                halves.eq(job.halves),
                lower.eq(job.halves),
                left.eq(job.rows),
                read.slot.eq(job.slot),
                read.row.eq(0),
            ]
        return taken, first, last, lower, halves

    def _keep(self, m: Module, keeps: Value, joins: Value) -> data.View:
        """Keep the lower half of a row until the upper one arrives; what it adds to it, 0 if there
        are no halves."""
        columns = self.columns.payload.shape()
        joined = Signal(columns)
        if self._cfg.blocks.halves:
            kept = Signal(columns, reset_less=True)
            with m.If(keeps):
                for low, accumulator in zip(kept, self.acc_read.data, strict=True):
                    m.d.sync += low.eq(accumulator >> HALF_BITS)
            with m.If(joins):
                m.d.comb += joined.eq(kept)
        return joined

    def _count_beats(self, m: Module, activated: Value, arrives: Value) -> Signal:
        """Beat of the row that arrived last."""
        position, wait = Signal(range(self._beats)), Signal(range(self._interval))
        due = wait == Mux(activated, self._interval - 1, 0)
        more = Signal()  # beats of this row to come
        m.d.comb += self.beat_activated.eq(activated)
        with m.If(arrives):
            m.d.sync += [self.beat_valid.eq(1), position.eq(0), wait.eq(0)]
            m.d.sync += more.eq(self._beats > 1)
        with m.Elif(due):
            m.d.sync += [self.beat_valid.eq(more), wait.eq(0)]
            with m.If(more):
                m.d.sync += [
                    position.eq(position + 1),
                    more.eq(position + 2 < self._beats),
                ]
        with m.Else():
            m.d.sync += [self.beat_valid.eq(0), wait.eq(wait + 1)]
        return position

    def _form_beats(
        self,
        m: Module,
        active: data.View,
        position: Signal,
        arrives: Value,
        opens: Value,
        joined: data.View,
    ) -> None:
        beat, job = self.beat, active.job
        accumulators = Signal(self.acc_read.data.shape())
        sums = Signal(self.columns.payload.shape())
        multiplier = Signal(self.acc_read.multiplier.shape())
        exponent = Signal(self.acc_read.exponent.shape())
        with m.If(arrives):
            m.d.sync += [
                accumulators.eq(self.acc_read.data),
                multiplier.eq(self.acc_read.multiplier),
                exponent.eq(self.acc_read.exponent),
            ]
        with m.If(arrives & (opens | job.halves)):
            columns = opens & self.prepared.payload.job.columns
            m.d.sync += sums.eq(Mux(columns, self.columns.payload.as_value(), joined.as_value()))

        shift, largest = job.row_shift + exponent, (1 << ROW_SHIFT_BITS) - 1
        m.d.comb += [
            beat.row_multiplier.eq(multiplier),
            beat.row_shift.eq(Mux(shift > largest, largest, shift)),
            beat.halves.eq(job.halves),
            beat.pre.eq(job.pre),
            beat.out_shift.eq(job.out_shift),
        ]
        lanes = self._cfg.engines.epilogue_lanes
        for target, source in (
            (beat.acc, accumulators),
            (beat.column_sum, sums),
            (beat.channel, active.channels),
        ):
            elements = [Value.cast(element) for element in source]
            for lane in range(lanes):
                m.d.comb += Value.cast(target[lane]).eq(select(elements[lane::lanes], position))

    def _form_results(
        self,
        m: Module,
        active: data.View,
        position: Signal,
        arrives: Value,
        opens: Value,
        closes: Value,
    ) -> None:
        """Addresses advance with the rows, from those of the job."""
        job, result = active.job, self.result.payload
        place = Signal(job.phase.shape())  # of the row in its key tile, or in its query block
        addr, summary = Signal(job.out_addr.shape()), Signal(job.summary.shape())
        rowstat, last = Signal(job.rowstat.shape()), Signal()
        with m.If(opens):
            start = self.prepared.payload.job
            m.d.sync += [
                place.eq(start.phase),
                addr.eq(start.out_addr),
                summary.eq(start.summary),
                rowstat.eq(start.rowstat),
                last.eq(closes),
            ]
        with m.Elif(arrives):
            m.d.sync += [
                place.eq(place + 1),
                addr.eq(addr + job.out_stride),
                rowstat.eq(rowstat + 1),
                last.eq(closes),
            ]
            with m.If(place.all()):
                m.d.sync += summary.eq(summary + job.out_stride)
        m.d.comb += [
            self.result.valid.eq(self.beat_valid & (position == 0)),
            result.addr.eq(addr),
            result.mask.eq(band_row(self._cfg, job.band, place)),
            result.rowstat.eq(rowstat),
            result.summary.eq(summary),
            result.first.eq(place == 0),
            result.final.eq(last),
            result.retire.eq(job.retire & last),
        ]
        for name in ("out_mode", "activation", "masked", "statistic", "keep", "observe", "tally"):
            m.d.comb += result[name].eq(job[name])
