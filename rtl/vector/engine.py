"""The vector unit: sums, products, and the normalisation of residual sums, row by row."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.hdl import ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden import isa
from transept.golden.config import Config
from transept.rtl.arith.fixed import rank, tree_sum
from transept.rtl.arith.pipeline import delay
from transept.rtl.interfaces import (
    act_read,
    act_write,
    clipped_layout,
    engine_members,
    instruction_layout,
    rowstat_write,
)
from transept.rtl.memory.pair_reader import PairReader
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.row_engine import run_rows
from transept.rtl.memory.row_writer import RowWriter
from transept.rtl.vector.feeder import ChunkFeeder, chunk_layout
from transept.rtl.vector.lane import NormLane
from transept.rtl.vector.parameters import (
    PARAMETER_READ_LATENCY,
    ParameterMemory,
    vparam_write,
)
from transept.rtl.vector.row_scalars import RowScalars, scalars_layout
from transept.rtl.vector.sums import RowSums, sums_layout
from transept.rtl.vector.walker import Sweeps, is_elementwise, visit_tag

__all__ = ["VectorEngine"]

#: Rows that have been measured and not yet normalised, see ``Sweeps``.
ROWS_WAITING = 2


class VectorEngine(wiring.Component):
    """Runs NORM: residual sums, their LayerNorm or RMSNorm, or both, anywhere, also in place; and
    ELEMENTWISE: sums and products, which are plain results without parameters.

    ``vector_lanes`` elements a cycle. A row that is normalised is visited twice, once for its
    statistics, once for each result that is written; with a residual a word needs two reads, so a
    visit to w words takes ``w * max(2, tile / vector_lanes)`` cycles. Rowstat gets the maximum
    magnitude of each row. Golden functions: ``golden.numerics.norm``,
    ``golden.numerics.elementwise``.

    Members
    -------
    instr, retire, busy, stall : see ``engine_members``
    act_read : Out(act_read); act_write : Out(act_write); rowstat_write : Out(rowstat_write)
    vparam : In(vparam_write)
    clipped : Out(always-ready stream of clipped_layout), for each instruction

    Raises
    ------
    ValueError
        See ``ParameterMemory`` and ``RowScalars``.
    """

    clipped: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                **engine_members(),
                "act_read": Out(act_read(cfg)),
                "act_write": Out(act_write(cfg)),
                "rowstat_write": Out(rowstat_write(cfg)),
                "vparam": In(vparam_write(cfg)),
                "clipped": Out(stream.Signature(clipped_layout(cfg), always_ready=True)),
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
        constants = self._constants(m, fields, accepted)

        go, chunk = Signal(), feeder.o.payload
        m.submodules.scalars = scalars = Queue(scalars_layout(), ROWS_WAITING)
        scaled = chunk.writes & ~chunk.plain
        m.d.comb += [
            *(
                getattr(feeder, name).eq(constants[name])
                for name in ("count", "param", "sum", "normalise", "elementwise")
            ),
            feeder.o.ready.eq(~chunk.writes | ((chunk.plain | scalars.o.valid) & writer.room)),
            go.eq(feeder.o.valid & feeder.o.ready),
            scalars.o.ready.eq(go & scaled & chunk.last),
            writer.reserve.eq(go & chunk.writes & chunk.word_last),
            writer.bare.eq(constants["bare"]),
        ]
        # the choice of the elements and that of going take a cycle
        go, chunk, row = (
            delay(m, go, 1),
            data.View(chunk_layout(cfg), delay(m, chunk, 1, reset_less=True)),
            data.View(scalars_layout(), delay(m, scalars.o.payload, 1, reset_less=True)),
        )
        lanes = self._lanes(m, chunk, row, constants)
        self._measure(m, lanes, go, chunk, scalars, constants)
        computed = delay(m, go & chunk.writes, NormLane.LATENCY)
        self._collect(m, lanes, computed, chunk, writer)
        self._tally(m, lanes, computed, chunk, constants, accepted)
        return m

    def _constants(self, m: Module, fields: data.View, accepted: Signal) -> dict[str, Signal]:
        """Operands of the instruction at hand."""
        its = data.View(instruction_layout(isa.Opcode.ELEMENTWISE), self.instr.payload)
        elementwise = is_elementwise(self._cfg, self.instr.payload)
        names = ("count", "inverse_count", "epsilon", "out_shift", "param", "centre")
        values = {
            **{name: fields[name] for name in names},
            "tally": Mux(elementwise, its.tally, fields.tally),
            "normalise": fields.normalise & ~elementwise,
            "sum": fields.sum | elementwise,
            "elementwise": elementwise,
            "shift": its.shift,
            "product": elementwise & (its.operation == isa.Operation.PRODUCT),
            "narrow": elementwise & (its.out_mode == isa.OutMode.ACT8),
            "bare": elementwise & ~its.stats,
        }
        constants = {
            name: Signal.like(Value.cast(value), name=name) for name, value in values.items()
        }
        with m.If(accepted):
            m.d.sync += [constants[name].eq(value) for name, value in values.items()]
        return constants

    def _lanes(
        self, m: Module, chunk: data.View, scalars: data.View, constants: dict[str, Signal]
    ) -> list[NormLane]:
        """The lanes, with their parameters and the scalars of the row, each when it is needed."""

        def later(value: object, cycles: int) -> object:
            return delay(m, value, cycles, reset_less=True)

        m.submodules.parameters = parameters = ParameterMemory(self._cfg)
        connect(m, flipped(self.vparam), parameters.write)
        gamma_row = later(chunk.row, NormLane.GAMMA - PARAMETER_READ_LATENCY)
        m.d.comb += [
            parameters.shift_row.eq(chunk.row),
            parameters.gamma_row.eq(gamma_row),
            parameters.beta_row.eq(later(gamma_row, NormLane.BETA - NormLane.GAMMA)),
        ]
        plain = later(chunk.plain, NormLane.SHIFT)
        at_gamma = later(plain, NormLane.GAMMA - NormLane.SHIFT)
        at_end = later(at_gamma, NormLane.OUT_SHIFT - NormLane.GAMMA)
        # the rounded sum is a normalised element with these scalars
        mean = Mux(chunk.plain, 0, scalars.mean)
        mantissa = Mux(chunk.plain, 1, scalars.mantissa)
        elementwise, product = constants["elementwise"], constants["product"]
        shift = later(Mux(elementwise, constants["shift"], scalars.shift), NormLane.SHIFT)
        by_channel = later(chunk.plain & ~elementwise, NormLane.SHIFT)
        lanes = []
        for number in range(self._cfg.engines.vector_lanes):
            m.submodules[f"lane_{number}"] = lane = NormLane(self._cfg)
            keep = chunk.keep[number]
            sum_shift = later(parameters.sum_shift[number], NormLane.SHIFT - PARAMETER_READ_LATENCY)
            m.d.comb += [
                lane.y.eq(Mux(keep, chunk.y[number], 0)),
                lane.x.eq(Mux(keep & chunk.paired & ~product, chunk.x[number], 0)),
                lane.y_shift.eq(Mux(elementwise, 0, parameters.y_shift[number])),
                lane.x_shift.eq(Mux(elementwise, 0, parameters.x_shift[number])),
                lane.product.eq(product),
                lane.factor.eq(later(chunk.x[number], NormLane.SUM)),
                lane.narrow.eq(constants["narrow"]),
                lane.gamma.eq(parameters.gamma[number]),
                lane.beta.eq(parameters.beta[number]),
                lane.normalise.eq(later(chunk.writes, NormLane.SUM)),
                lane.mean.eq(later(mean, NormLane.SUM)),
                lane.mantissa.eq(later(mantissa, NormLane.SUM)),
                lane.shift.eq(Mux(by_channel, sum_shift, shift)),
                lane.plain.eq(at_gamma),
                lane.out_shift.eq(Mux(at_end, 0, constants["out_shift"])),
            ]
            lanes.append(lane)
        return lanes

    def _measure(
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
            sums.valid.eq(delay(m, go & ~chunk.writes, NormLane.SUM)),
            sums.first.eq(delay(m, chunk.first, NormLane.SUM)),
            sums.last.eq(delay(m, chunk.last, NormLane.SUM)),
            *(sums.z[k].eq(lane.z) for k, lane in enumerate(lanes)),
            *(sums.w[k].eq(lane.w) for k, lane in enumerate(lanes)),
            *(sums.square[k].eq(lane.square) for k, lane in enumerate(lanes)),
            summed.i.valid.eq(sums.o.valid),
            summed.i.payload.eq(sums.o.payload),
            row_scalars.count.eq(constants["count"]),
            row_scalars.centre.eq(constants["centre"]),
            row_scalars.inverse.eq(constants["inverse_count"]),
            row_scalars.epsilon.eq(constants["epsilon"]),
        ]
        connect(m, summed.o, row_scalars.i)
        connect(m, row_scalars.o, scalars.i)

    def _collect(
        self,
        m: Module,
        lanes: list[NormLane],
        computed: Signal,
        chunk: data.View,
        writer: RowWriter,
    ) -> None:
        """From results to whole words and the row's maximum magnitude, one level a cycle."""
        levels = max(1, (len(lanes) - 1).bit_length())

        def then(value: ValueLike) -> Value:
            return delay(m, value, NormLane.LATENCY + levels, reset_less=True)

        keep = delay(m, chunk.keep, NormLane.LATENCY, reset_less=True)
        results = Cat(Mux(keep[k], lane.out, 0)[:16] for k, lane in enumerate(lanes))
        word = Signal(16 * self._cfg.tile, reset_less=True)
        running, total = Signal(16), Signal(16)
        ranks = [rank(results.word_select(k, 16)) for k in range(len(lanes))]
        for _ in range(levels):
            pairs = zip(ranks[::2], ranks[1::2] or ranks, strict=True)
            ranks = [delay(m, Mux(a > b, a, b), 1, reset_less=True) for a, b in pairs]
        largest = ranks[0]
        late = delay(m, results, levels - 1, reset_less=True)
        with m.If(delay(m, computed, levels - 1)):
            m.d.sync += word.eq(Cat(word, late)[16 * len(lanes) :])
        last = then(chunk.last)
        complete = delay(m, computed, levels)
        m.d.comb += [
            total.eq(Mux(running > largest, running, largest)),
            writer.i.valid.eq(complete & then(chunk.word_last)),
            writer.i.payload.word.eq(word),
            writer.i.payload.addr.eq(then(chunk.addr)),
            writer.i.payload.entry.eq(then(chunk.entry)),
            writer.i.payload.last.eq(last),
            writer.i.payload.statistic.eq((total + 1) >> 1),
        ]
        with m.If(complete & then(chunk.counts)):
            m.d.sync += running.eq(Mux(last, 0, total))

    def _tally(
        self,
        m: Module,
        lanes: list[NormLane],
        computed: Signal,
        chunk: data.View,
        constants: dict[str, Signal],
        accepted: Signal,
    ) -> None:
        """Count the elements of which the sum, the normalised value, or both were clipped."""
        told = self.clipped.payload
        keep, counts = (
            delay(m, value, NormLane.LATENCY, reset_less=True)
            for value in (chunk.keep, chunk.counts)
        )
        here = Cat(lane.clipped for lane in lanes)
        # of the word whose sum was written just before
        before = Signal(self._cfg.tile)
        joins = counts & constants["sum"] & constants["normalise"]
        clipped = (here | Mux(joins, before[: len(lanes)], 0)) & keep
        m.d.comb += [self.clipped.valid.eq(self.retire), told.tally.eq(constants["tally"])]
        with m.If(accepted):
            m.d.sync += told.count.eq(0)
        with m.If(computed):
            m.d.sync += before.eq(Cat(before, here)[len(lanes) :])
            with m.If(counts):
                m.d.sync += told.count.eq(told.count + tree_sum(list(clipped)))
