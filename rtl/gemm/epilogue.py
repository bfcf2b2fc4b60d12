"""The end of the GEMM engine: from finished groups to words in the scratchpads."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden.config import Config
from transept.rtl.arith.pipeline import delay, resting
from transept.rtl.gemm.accumulator import accumulator_read
from transept.rtl.gemm.descriptors import job_layout, slot_bits
from transept.rtl.gemm.parameters import ParameterFetch
from transept.rtl.gemm.requantise import Requantiser
from transept.rtl.gemm.result import ResultWriter
from transept.rtl.gemm.rows import RowReader
from transept.rtl.gemm.stationary import column_sums_layout
from transept.rtl.gemm.table import Activation, table_write
from transept.rtl.hls.blocks import chosen
from transept.rtl.interfaces import (
    act_write,
    clipped_layout,
    rowstat_read,
    rowstat_write,
    stat_read,
    stat_write,
)
from transept.rtl.memory.queue import Queue

__all__ = ["Epilogue"]


class Epilogue(wiring.Component):
    """Requantises, activates, masks and writes finished groups, ``epilogue_lanes`` outputs a cycle.

    Jobs drain back to back: a row takes ``tile / epilogue_lanes`` cycles, ``activation_interval``
    times as many with ``activation``; jobs whose rows take one cycle are one cycle apart. From the
    read to the last write of a row nothing stalls. Golden models: ``requantise``, ``activation``.

    Members
    -------
    jobs : In(stream of job_layout)
        One job is prepared while another drains; more than that waits outside
    group_done : In(1), one pulse for each finished group, in the order of the jobs
    acc_read : Out(accumulator_read)
    columns_slot : Out(slot), columns_wanted : Out(1), of the next job if it has ``columns``
    columns : In(stream of column_sums_layout), one item for each job with ``columns``
    param_read : Out(stat_read)
    table : In(table_write), if there is an activation; not while a job with ``activation`` drains
    act_write : Out(act_write), stat_write : Out(stat_write), must always be ready
    rowstat_read : Out(rowstat_read), rowstat_write : Out(rowstat_write), must always be ready
    clipped : Out(always-ready stream of clipped_layout), for each job, about when it ends
    slot_free : Out(1), one pulse for each group that is read; its slot may be written
    retire : Out(1), in the cycle of the last write of a job with ``retire``
    """

    jobs: stream.Interface
    group_done: Signal
    acc_read: wiring.PureInterface
    columns_slot: Signal
    columns_wanted: Signal
    columns: stream.Interface
    param_read: wiring.PureInterface
    table: wiring.PureInterface
    act_write: wiring.PureInterface
    stat_write: wiring.PureInterface
    rowstat_read: wiring.PureInterface
    rowstat_write: wiring.PureInterface
    clipped: stream.Interface
    slot_free: Signal
    retire: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        table = {"table": In(table_write(cfg))} if cfg.blocks.activation else {}
        super().__init__(
            table
            | {
                "jobs": In(stream.Signature(job_layout(cfg))),
                "group_done": In(1),
                "acc_read": Out(accumulator_read(cfg)),
                "columns_slot": Out(slot_bits(cfg)),
                "columns_wanted": Out(1),
                "columns": In(stream.Signature(column_sums_layout(cfg))),
                "param_read": Out(stat_read(cfg)),
                "act_write": Out(act_write(cfg)),
                "stat_write": Out(stat_write(cfg)),
                "rowstat_read": Out(rowstat_read(cfg)),
                "rowstat_write": Out(rowstat_write(cfg)),
                "clipped": Out(stream.Signature(clipped_layout(cfg), always_ready=True)),
                "slot_free": Out(1),
                "retire": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.parameters = parameters = ParameterFetch(cfg)
        m.submodules.reader = reader = RowReader(cfg)
        writer = ResultWriter(cfg)
        m.submodules.writer = resting(m, writer, writer.latency, writer.values_valid)
        requantised, activated, latency = self._compute(m, reader)
        # one entry for each row under way
        rows_under_way = latency * cfg.engines.epilogue_lanes // cfg.tile + 2
        m.submodules.results = results = Queue(reader.result.payload.shape(), rows_under_way)

        connect(m, flipped(self.jobs), parameters.jobs)
        connect(m, parameters.read, flipped(self.param_read))
        connect(m, parameters.prepared, reader.prepared)
        connect(m, reader.acc_read, flipped(self.acc_read))
        connect(m, flipped(self.columns), reader.columns)
        connect(m, results.o, writer.result)
        for name in ("act_write", "stat_write", "rowstat_read", "rowstat_write", "clipped"):
            connect(m, getattr(writer, name), flipped(getattr(self, name)))

        m.d.comb += [
            reader.group_done.eq(self.group_done),
            self.columns_slot.eq(reader.columns_slot),
            self.columns_wanted.eq(reader.columns_wanted),
            self.slot_free.eq(reader.slot_free),
            results.i.valid.eq(reader.result.valid),
            results.i.payload.eq(reader.result.payload),
            Cat(writer.values, writer.values_clipped).eq(
                Mux(results.o.payload.activation, activated, requantised)
            ),
            writer.values_valid.eq(delay(m, reader.beat_valid, latency)),
            self.retire.eq(writer.retire),
        ]
        return m

    def _compute(self, m: Module, reader: RowReader) -> tuple[Value, Value, int]:
        """Requantised values with their clipped lanes, the same with activation (if there is one),
        and the cycles that either takes."""
        requantiser = chosen(self._cfg, Requantiser)(self._cfg)
        beat, latency = reader.beat_valid, requantiser.LATENCY
        m.d.comb += requantiser.i.eq(reader.beat)
        m.submodules.requantiser = resting(m, requantiser, latency, beat)
        requantised = Cat(requantiser.o, requantiser.clipped)
        if not self._cfg.blocks.activation:
            return requantised, requantised, latency

        activation, bypass = Activation(self._cfg), Module()
        later = delay(bypass, requantised, activation.latency, reset_less=True)
        latency += activation.latency
        connect(m, flipped(self.table), activation.table)
        m.d.comb += [
            activation.i.eq(requantiser.o),
            activation.i_clipped.eq(requantiser.clipped),
            activation.i_valid.eq(delay(m, beat & reader.beat_activated, requantiser.LATENCY)),
        ]
        m.submodules.bypass = resting(m, bypass, latency, beat)
        m.submodules.activation = resting(
            m, activation, activation.latency, activation.i_valid, unless=activation.table.en
        )
        return later, Cat(activation.o, activation.o_clipped), latency
