"""The vector unit: LayerNorm of residual sums, row by row."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden import isa
from transept.golden.config import Config
from transept.rtl.arith.fixed import rank, tree
from transept.rtl.arith.pipeline import delay
from transept.rtl.interfaces import (
    act_read,
    act_write,
    engine_members,
    instruction_layout,
    rowstat_write,
)
from transept.rtl.memory.pair_reader import PairReader
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.row_engine import run_rows
from transept.rtl.memory.row_writer import RowWriter
from transept.rtl.vector.feeder import ChunkFeeder
from transept.rtl.vector.lane import NormLane
from transept.rtl.vector.parameters import ParameterMemory, vparam_write
from transept.rtl.vector.row_scalars import RowScalars, scalars_layout
from transept.rtl.vector.sums import RowSums, sums_layout
from transept.rtl.vector.walker import Sweeps, visit_tag

__all__ = ["VectorEngine"]

#: Rows that have been summed and not yet normalised, see ``Sweeps``.
ROWS_WAITING = 2


class VectorEngine(wiring.Component):
    """Runs NORM: ``X = LayerNorm(Y + X)`` row by row, the result anywhere, also in place.

    ``vector_lanes`` elements a cycle, each row twice; with a residual a word needs two reads, so a
    row of w words takes ``2 * w * max(2, tile / vector_lanes)`` cycles. Rowstat gets the maximum
    magnitude of each row. Golden function: ``golden.numerics.norm.layer_norm``.

    Members
    -------
    instr, retire, busy, stall : see ``engine_members``
    act_read : Out(act_read); act_write : Out(act_write); rowstat_write : Out(rowstat_write)
    vparam : In(vparam_write)

    Raises
    ------
    ValueError
        See ``ParameterMemory`` and ``RowScalars``.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                **engine_members(),
                "act_read": Out(act_read(cfg)),
                "act_write": Out(act_write(cfg)),
                "rowstat_write": Out(rowstat_write(cfg)),
                "vparam": In(vparam_write(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.sweeps = sweeps = Sweeps(cfg)
        m.submodules.reader = reader = PairReader(cfg, visit_tag(cfg))
        m.submodules.feeder = feeder = ChunkFeeder(cfg)
        m.submodules.writer = writer = RowWriter(cfg, 16)
        connect(m, sweeps.o, reader.i)
        connect(m, reader.o, feeder.i)
        connect(m, reader.port, flipped(self.act_read))
        connect(m, writer.act_write, flipped(self.act_write))
        connect(m, writer.rowstat_write, flipped(self.rowstat_write))

        fields = data.View(instruction_layout(isa.Opcode.NORM), self.instr.payload)
        accepted = run_rows(m, self, fields.rows, sweeps.i, writer)
        names = ("count", "inverse_count", "epsilon", "out_shift", "param")
        constants = {name: Signal.like(fields[name], name=name) for name in names}
        with m.If(accepted):
            m.d.sync += [constant.eq(fields[name]) for name, constant in constants.items()]

        go, chunk = Signal(), feeder.o.payload
        m.submodules.scalars = scalars = Queue(scalars_layout(), ROWS_WAITING)
        m.d.comb += [
            feeder.count.eq(constants["count"]),
            feeder.param.eq(constants["param"]),
            feeder.o.ready.eq(~chunk.normalise | (scalars.o.valid & writer.room)),
            go.eq(feeder.o.valid & feeder.o.ready),
            scalars.o.ready.eq(go & chunk.normalise & chunk.last),
            writer.reserve.eq(go & chunk.normalise & chunk.word_last),
        ]
        lanes = self._lanes(m, chunk, scalars.o.payload, constants["out_shift"])
        self._sum(m, lanes, go, chunk, scalars, constants)
        self._collect(m, lanes, go, chunk, writer)
        return m

    def _lanes(
        self, m: Module, chunk: data.View, scalars: data.View, out_shift: Signal
    ) -> list[NormLane]:
        """The lanes, with their parameters and the scalars of the row, each when it is needed."""
        m.submodules.parameters = parameters = ParameterMemory(self._cfg)
        connect(m, flipped(self.vparam), parameters.write)
        gamma_row = delay(m, chunk.row, NormLane.GAMMA, reset_less=True)
        m.d.comb += [
            parameters.shift_row.eq(chunk.row),
            parameters.gamma_row.eq(gamma_row),
            parameters.beta_row.eq(
                delay(m, gamma_row, NormLane.BETA - NormLane.GAMMA, reset_less=True)
            ),
        ]
        normalise, mean, mantissa = (
            delay(m, value, NormLane.SUM, reset_less=True)
            for value in (chunk.normalise, scalars.mean, scalars.mantissa)
        )
        shift = delay(m, scalars.shift, NormLane.SHIFT, reset_less=True)
        lanes = []
        for number in range(self._cfg.engines.vector_lanes):
            m.submodules[f"lane_{number}"] = lane = NormLane()
            keep = chunk.keep[number]
            m.d.comb += [
                lane.y.eq(Mux(keep, chunk.y[number], 0)),
                lane.x.eq(Mux(keep & chunk.paired, chunk.x[number], 0)),
                lane.y_shift.eq(parameters.y_shift[number]),
                lane.x_shift.eq(parameters.x_shift[number]),
                lane.gamma.eq(parameters.gamma[number]),
                lane.beta.eq(parameters.beta[number]),
                lane.normalise.eq(normalise),
                lane.mean.eq(mean),
                lane.mantissa.eq(mantissa),
                lane.shift.eq(shift),
                lane.out_shift.eq(out_shift),
            ]
            lanes.append(lane)
        return lanes

    def _sum(
        self,
        m: Module,
        lanes: list[NormLane],
        go: Signal,
        chunk: data.View,
        scalars: Queue,
        constants: dict[str, Signal],
    ) -> None:
        """From the first sweep to the scalars of the row."""
        m.submodules.sums = sums = RowSums(self._cfg)
        m.submodules.summed = summed = Queue(sums_layout(self._cfg), ROWS_WAITING)
        m.submodules.row_scalars = row_scalars = RowScalars(self._cfg)
        m.d.comb += [
            sums.valid.eq(delay(m, go & ~chunk.normalise, NormLane.SUM)),
            sums.first.eq(delay(m, chunk.first, NormLane.SUM)),
            sums.last.eq(delay(m, chunk.last, NormLane.SUM)),
            *(sums.z[k].eq(lane.z) for k, lane in enumerate(lanes)),
            *(sums.w[k].eq(lane.w) for k, lane in enumerate(lanes)),
            *(sums.square[k].eq(lane.square) for k, lane in enumerate(lanes)),
            summed.i.valid.eq(sums.o.valid),
            summed.i.payload.eq(sums.o.payload),
            row_scalars.count.eq(constants["count"]),
            row_scalars.inverse.eq(constants["inverse_count"]),
            row_scalars.epsilon.eq(constants["epsilon"]),
        ]
        connect(m, summed.o, row_scalars.i)
        connect(m, row_scalars.o, scalars.i)

    def _collect(
        self, m: Module, lanes: list[NormLane], go: Signal, chunk: data.View, writer: RowWriter
    ) -> None:
        """From the second sweep to whole words and the row's maximum magnitude."""
        keep = delay(m, chunk.keep, NormLane.LATENCY, reset_less=True)
        results = [Mux(keep[k], lane.out, 0)[:16] for k, lane in enumerate(lanes)]
        word = Signal(16 * self._cfg.tile, reset_less=True)
        largest, running, total = Signal(16), Signal(16), Signal(16)
        computed = delay(m, go & chunk.normalise, NormLane.LATENCY)
        with m.If(computed):
            m.d.sync += [
                word.eq(Cat(word, *results)[16 * len(lanes) :]),
                largest.eq(tree(lambda a, b: Mux(a > b, a, b), [rank(x) for x in results])),
            ]
        latency = NormLane.LATENCY + 1
        last = delay(m, chunk.last, latency, reset_less=True)
        m.d.comb += [
            total.eq(Mux(running > largest, running, largest)),
            writer.i.valid.eq(delay(m, go & chunk.normalise & chunk.word_last, latency)),
            writer.i.payload.word.eq(word),
            writer.i.payload.addr.eq(delay(m, chunk.addr, latency, reset_less=True)),
            writer.i.payload.entry.eq(delay(m, chunk.entry, latency, reset_less=True)),
            writer.i.payload.last.eq(last),
            writer.i.payload.statistic.eq((total + 1) >> 1),
        ]
        with m.If(delay(m, computed, 1)):
            m.d.sync += running.eq(Mux(last, 0, total))
