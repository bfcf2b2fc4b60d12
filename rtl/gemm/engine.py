"""The GEMM engine: matrix products, attention scores and context."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden.config import Config
from transept.golden.registers import Stall
from transept.rtl.attention.bank import FilterBank
from transept.rtl.attention.selection import selection_read
from transept.rtl.gemm.accumulator import Accumulators
from transept.rtl.gemm.array import SystolicArray
from transept.rtl.gemm.epilogue import Epilogue
from transept.rtl.gemm.sequencer import Sequencer
from transept.rtl.gemm.stationary import StationaryLoader
from transept.rtl.gemm.streamer import RowStreamer
from transept.rtl.gemm.table import table_write
from transept.rtl.interfaces import (
    act_read,
    act_write,
    clipped_layout,
    engine_members,
    observation_layout,
    rowstat_read,
    rowstat_write,
    stat_read,
    stat_write,
)

__all__ = ["GemmEngine"]


class GemmEngine(wiring.Component):
    """Runs MATMUL, SCORES and CONTEXT.

    A pass of R rows takes R cycles of the array, at least ``tile``; passes follow each other
    without a bubble across groups and instructions as long as the epilogue keeps up.
    Golden functions: ``golden.emulator.gemm``.

    Members
    -------
    those of ``engine_members``, and
    act_read : Out(act_read), must always be ready; act_write : Out(act_write)
    stat_read : Out(stat_read), of tiles; param_read : Out(stat_read), of channel parameters
    stat_write : Out(stat_write)
    rowstat_read : Out(rowstat_read), of the row streamer
    epilogue_rowstat_read : Out(rowstat_read); rowstat_write : Out(rowstat_write)
    clipped : Out(always-ready stream of clipped_layout)
    table : In(table_write), the activation table, if it is built; not while an instruction uses it
    selection : In(selection_read), the key tiles kept by SCORES, if there is attention
    observe : In(always-ready stream of observation_layout), if a key filter looks at keys
    array_active : Out(1), a row enters the array
    """

    instr: stream.Interface
    retire: Signal
    busy: Signal
    stall: Signal
    act_read: wiring.PureInterface
    act_write: wiring.PureInterface
    stat_read: wiring.PureInterface
    param_read: wiring.PureInterface
    stat_write: wiring.PureInterface
    rowstat_read: wiring.PureInterface
    epilogue_rowstat_read: wiring.PureInterface
    rowstat_write: wiring.PureInterface
    clipped: stream.Interface
    table: wiring.PureInterface
    selection: wiring.PureInterface
    observe: stream.Interface
    array_active: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        observation = stream.Signature(observation_layout(cfg), always_ready=True)
        optional = {
            "table": (cfg.blocks.activation, In(table_write(cfg))),
            "selection": (cfg.blocks.attention, In(selection_read(cfg))),
            "observe": (cfg.observes, In(observation)),
        }
        super().__init__(
            {
                **engine_members(),
                **{name: member for name, (built, member) in optional.items() if built},
                "act_read": Out(act_read(cfg)),
                "act_write": Out(act_write(cfg)),
                "stat_read": Out(stat_read(cfg)),
                "param_read": Out(stat_read(cfg)),
                "stat_write": Out(stat_write(cfg)),
                "rowstat_read": Out(rowstat_read(cfg)),
                "epilogue_rowstat_read": Out(rowstat_read(cfg)),
                "rowstat_write": Out(rowstat_write(cfg)),
                "clipped": Out(stream.Signature(clipped_layout(cfg), always_ready=True)),
                "array_active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.sequencer = sequencer = Sequencer(cfg)
        m.submodules.streamer = streamer = RowStreamer(cfg)
        m.submodules.loader = loader = StationaryLoader(cfg, entry_delay=streamer.ENTRY_DELAY)
        m.submodules.array = array = SystolicArray(cfg)
        m.submodules.accumulators = sums = Accumulators(cfg, latency=array.latency)
        m.submodules.epilogue = epilogue = Epilogue(cfg)

        connect(m, sequencer.tiles, loader.tiles)
        connect(m, sequencer.passes, streamer.passes)
        connect(m, sequencer.jobs, epilogue.jobs)
        connect(m, streamer.scale_write, sums.scale_write)
        connect(m, loader.sums, epilogue.columns)
        connect(m, epilogue.acc_read, sums.read)

        connect(m, flipped(self.instr), sequencer.instr)
        if cfg.blocks.activation:
            connect(m, flipped(self.table), epilogue.table)
        if cfg.blocks.attention:
            self._filter(m, sequencer, streamer)
        for inner, port in {
            streamer.act_read: self.act_read,
            streamer.rowstat_read: self.rowstat_read,
            loader.read: self.stat_read,
            epilogue.param_read: self.param_read,
            epilogue.act_write: self.act_write,
            epilogue.stat_write: self.stat_write,
            epilogue.rowstat_read: self.epilogue_rowstat_read,
            epilogue.rowstat_write: self.rowstat_write,
            epilogue.clipped: self.clipped,
        }.items():
            connect(m, inner, flipped(port))

        m.d.comb += [
            streamer.tile_ready.eq(loader.tile_ready),
            loader.tile_taken.eq(streamer.tile_taken),
            array.weight_en.eq(loader.weight_en),
            array.weight_index.eq(loader.weight_index),
            array.weight_word.eq(loader.weight_word),
            array.row.eq(streamer.row),
            array.row_valid.eq(streamer.row_valid),
            array.row_swap.eq(streamer.row_swap),
            sums.tag.eq(streamer.tag),
            sums.tag_valid.eq(streamer.tag_valid),
            epilogue.group_done.eq(sums.group_done),
            loader.sums_slot.eq(epilogue.columns_slot),
            loader.sums_wanted.eq(epilogue.columns_wanted),
            streamer.slot_free.eq(epilogue.slot_free),
            sequencer.job_retired.eq(epilogue.retire),
            sequencer.pass_retired.eq(streamer.retired),
            self.array_active.eq(streamer.row_valid),
            self.retire.eq(sequencer.retire),
            self.busy.eq(sequencer.busy),
        ]
        m.d.comb += [total.eq(of) for total, of in zip(sums.sums, array.sums, strict=True)]
        self._explain(m, sequencer, streamer, loader)
        return m

    def _filter(self, m: Module, sequencer: Sequencer, streamer: RowStreamer) -> None:
        """The key filters, and what they look at."""
        m.submodules.filters = filters = FilterBank(self._cfg)
        connect(m, sequencer.request, filters.request)
        connect(m, filters.select, sequencer.select)
        connect(m, flipped(self.selection), sequencer.selection)
        if self._cfg.observes:
            connect(m, streamer.query, filters.query)
            connect(m, flipped(self.observe), filters.observe)

    def _explain(
        self, m: Module, sequencer: Sequencer, streamer: RowStreamer, loader: StationaryLoader
    ) -> None:
        """Say why no row is issued."""
        refused = loader.read.en & ~loader.read.ready
        with m.If(streamer.issuing):
            m.d.comb += self.stall.eq(Stall.NONE)
        with m.Elif(streamer.no_slot):
            m.d.comb += self.stall.eq(Stall.ACCUMULATOR)
        with m.Elif(streamer.passes.valid & refused):
            m.d.comb += self.stall.eq(Stall.SCRATCHPAD)
        with m.Elif(streamer.passes.valid):
            m.d.comb += self.stall.eq(Stall.WEIGHTS)
        with m.Elif(sequencer.no_answer):
            m.d.comb += self.stall.eq(Stall.FILTER)
