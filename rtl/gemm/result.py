"""Writes finished rows: mask, saturation, row statistic, word assembly."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import OutMode
from transept.golden.numerics.softmax import MASKED
from transept.rtl.arith.fixed import clips, rank, saturate, tree_sum
from transept.rtl.arith.pipeline import delay
from transept.rtl.gemm.descriptors import Statistic
from transept.rtl.gemm.rows import result_layout
from transept.rtl.interfaces import (
    act_write,
    clipped_layout,
    rowstat_read,
    rowstat_write,
    stat_write,
)

__all__ = ["ResultWriter"]

#: What turns a signed element into a number without a sign that orders it, and back.
_LOWEST = 1 << 15


class ResultWriter(wiring.Component):
    """``epilogue_lanes`` outputs a cycle to words of ``tile`` outputs and a statistic for each row.

    Results of 8 bits are saturated; then a masked element becomes -32768. The statistic is taken of
    what is written: the signed maximum, or where none is masked the maximum magnitude. An element
    that was clipped on its way here, or by the last saturation, counts unless it is masked. The
    write ports must always be ready.

    Members
    -------
    values : In(int16[epilogue_lanes]), values_clipped : In(bit for each), values_valid : In(1)
        ``tile / epilogue_lanes`` beats a row
    result : In(stream of result_layout)
        One item for each row, there with its first beat and taken with its last
    act_write : Out(act_write), stat_write : Out(stat_write)
    rowstat_read : Out(rowstat_read), rowstat_write : Out(rowstat_write)
    clipped : Out(always-ready stream of clipped_layout), for each job
    retire : Out(1), in the cycle of the last write of an instruction
    """

    values: data.View
    values_clipped: Signal
    values_valid: Signal
    result: stream.Interface
    act_write: wiring.PureInterface
    stat_write: wiring.PureInterface
    rowstat_read: wiring.PureInterface
    rowstat_write: wiring.PureInterface
    clipped: stream.Interface
    retire: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        #: Cycles from a row's last values to its last write.
        self.latency = 3 + (cfg.engines.epilogue_lanes - 1).bit_length()
        self._beats = cfg.tile // cfg.engines.epilogue_lanes
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(16), cfg.engines.epilogue_lanes)),
                "values_clipped": In(cfg.engines.epilogue_lanes),
                "values_valid": In(1),
                "result": In(stream.Signature(result_layout(cfg))),
                "act_write": Out(act_write(cfg)),
                "stat_write": Out(stat_write(cfg)),
                "rowstat_read": Out(rowstat_read(cfg)),
                "rowstat_write": Out(rowstat_write(cfg)),
                "clipped": Out(stream.Signature(clipped_layout(cfg), always_ready=True)),
                "retire": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        position = Signal(range(self._beats))
        last = position == self._beats - 1
        m.d.comb += self.result.ready.eq(self.values_valid & last)
        with m.If(self.values_valid):
            m.d.sync += position.eq(Mux(last, 0, position + 1))

        elements, clipped = self._finish(m, position)
        result = Signal(self.result.payload.shape())
        valid, first, complete = Signal(), Signal(), Signal()
        m.d.sync += [
            valid.eq(self.values_valid),
            first.eq(position == 0),
            complete.eq(self.values_valid & last),
        ]
        with m.If(self.values_valid):
            m.d.sync += result.eq(self.result.payload)
        self._count(m, clipped, valid, result, complete)
        self._write_word(m, elements, valid, result, complete)
        self._write_statistic(m, elements, first, result, complete)
        return m

    def _finish(self, m: Module, position: Signal) -> tuple[list[Signal], Signal]:
        """Elements as they are written, and which of them were clipped."""
        result, lanes = self.result.payload, self._cfg.engines.epilogue_lanes
        narrow = result.out_mode != OutMode.ACT16
        kept = result.mask.word_select(position, lanes)
        elements, clipped = [], Signal(lanes)
        for lane, (value, keep) in enumerate(zip(self.values, kept, strict=True)):
            element = Signal(signed(16), name=f"element_{lane}")
            finished = Mux(narrow, saturate(value, 8), value)
            masked = result.masked & ~keep
            with m.If(self.values_valid):
                m.d.sync += [
                    element.eq(Mux(masked, MASKED, finished)),
                    clipped[lane].eq(
                        (self.values_clipped[lane] | (narrow & clips(value, 8))) & ~masked
                    ),
                ]
            elements.append(element)
        return elements, clipped

    def _count(
        self, m: Module, clipped: Signal, valid: Signal, result: data.View, complete: Signal
    ) -> None:
        """Add up the clipped elements of a job and tell them with its last row."""
        told, ends = self.clipped.payload, complete & result.final
        running = Signal(told.count.shape())
        total = running + tree_sum(list(clipped))
        with m.If(valid):
            m.d.sync += [
                running.eq(Mux(ends, 0, total)),
                told.count.eq(total),
                told.tally.eq(result.tally),
            ]
        m.d.sync += self.clipped.valid.eq(ends)

    def _write_word(
        self, m: Module, elements: list[Signal], valid: Signal, result: data.View, complete: Signal
    ) -> None:
        word = Signal(self.act_write.data.shape())
        step = 16 * len(elements)
        to_stat = result.out_mode == OutMode.STAT8
        stat = self.stat_write
        with m.If(valid):
            m.d.sync += word.eq(Cat(word.as_value()[step:], *elements))
        m.d.sync += [
            self.act_write.en.eq(complete & ~to_stat),
            stat.en.eq(complete & to_stat),
        ]
        with m.If(complete):
            m.d.sync += [
                self.act_write.addr.eq(result.addr),
                stat.addr.eq(result.addr),
                stat.observe.eq(result.observe),
                stat.summary.eq(result.summary),
                stat.first.eq(result.first),
            ]
        m.d.comb += self.act_write.data.eq(word)
        m.d.comb += [narrow.eq(element) for narrow, element in zip(stat.data, word, strict=True)]

    def _write_statistic(
        self, m: Module, elements: list[Signal], first: Signal, result: data.View, complete: Signal
    ) -> None:
        """One level of the maximum a cycle, then over the beats of the row, then with rowstat.

        Elements are compared as numbers without a sign: by their ``rank``, where the magnitude
        counts and none is masked, else by their distance from the lowest.
        """
        magnitudes = Signal()
        m.d.comb += magnitudes.eq(result.statistic == Statistic.MAGNITUDE)
        level: list[Value] = []
        for element in elements:
            level.append(Signal(16))
            m.d.sync += level[-1].eq(Mux(magnitudes, rank(element), element ^ _LOWEST))
        cycles = 1
        while len(level) > 1:
            pairs, level = list(zip(level[::2], level[1::2], strict=True)), []
            for a, b in pairs:
                level.append(Signal(16))
                m.d.sync += level[-1].eq(Mux(a > b, a, b))
            cycles += 1

        opens, complete = delay(m, first, cycles), delay(m, complete, cycles)
        writes = result.statistic != Statistic.NONE
        facts = Cat(result.rowstat, result.keep, writes, result.retire, magnitudes)
        facts = delay(m, facts, cycles, reset_less=True)
        largest = Signal(16)
        m.d.sync += largest.eq(Mux(opens | (level[0] > largest), level[0], largest))
        self._update_rowstat(m, largest, facts, complete)

    def _update_rowstat(self, m: Module, largest: Signal, facts: Value, complete: Value) -> None:
        """Read and write in consecutive cycles; ``largest``, a number that orders what it stands
        for, comes one cycle after ``complete``.

        Rows with the same entry belong to different jobs, which are at least two cycles apart, so
        the write of one is seen by the read of the next.
        """
        addr_bits = len(self.result.payload.rowstat)
        addr, keep, writes, retires, magnitudes = facts[:addr_bits], *facts[addr_bits:]
        read, write = self.rowstat_read, self.rowstat_write
        kept, ranked, value = Signal(), Signal(), Signal(signed(16))
        m.d.comb += [read.en.eq(complete & writes & keep), read.addr.eq(addr)]
        m.d.sync += [
            write.en.eq(complete & writes),
            write.addr.eq(addr),
            kept.eq(keep),
            ranked.eq(magnitudes),
            self.retire.eq(complete & retires),
        ]
        found = read.data.as_signed()
        m.d.comb += [
            value.eq(Mux(ranked, (largest + 1) >> 1, largest ^ _LOWEST)),
            write.data.eq(Mux(kept & (found > value), found, value)),
        ]
