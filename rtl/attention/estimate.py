"""Estimates of attention scores from tile sums, for filters that look at the data."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden.config import Config
from transept.golden.filters import ESTIMATE_SHIFT
from transept.golden.isa import Opcode
from transept.rtl.arith.fixed import index_bits
from transept.rtl.arith.pipeline import delay
from transept.rtl.attention.summaries import KeySummaries, summary_layout
from transept.rtl.interfaces import observation_layout, operand, stat_word

__all__ = ["TileEstimator"]

_D_BITS = operand(Opcode.SCORES, "d_tiles").width


class TileEstimator(wiring.Component):
    """``floor((sum of queries) . (sum of keys) / 2**4)`` for each key tile of a sequence.

    Golden function: ``filters.TileThreshold.estimate``. One estimate takes ``d_tiles * tile /
    estimate_multipliers`` cycles; estimates of a block follow each other without a gap, unless
    words are observed in every cycle.

    Members
    -------
    observe : In(always-ready stream of observation_layout)
    query : In(always-ready stream of int8 words), rows of the block, d tile by d tile
    start : In(1), with rows (minus one), last_tile, region (summary of tile 0), d_tiles
    valid : Out(1), for one cycle for each tile, with tile, estimate, last
    """

    observe: stream.Interface
    query: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._steps = cfg.tile // cfg.filters.estimate_multipliers
        self._summary = summary_layout(cfg)
        tile = index_bits(cfg.key_tiles)
        product_bits = 2 * self._summary.elem_shape.width
        self._dot = signed(product_bits + (cfg.tile << _D_BITS).bit_length())
        super().__init__(
            {
                "observe": In(stream.Signature(observation_layout(cfg), always_ready=True)),
                "query": In(stream.Signature(stat_word(cfg), always_ready=True)),
                "start": In(1),
                "rows": In(cfg.tile.bit_length() - 1),
                "last_tile": In(tile),
                "region": In(index_bits(cfg.key_summaries)),
                "d_tiles": In(_D_BITS),
                "valid": Out(1),
                "tile": Out(tile),
                "estimate": Out(signed(self._dot.width - ESTIMATE_SHIFT)),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.keys = keys = KeySummaries(self._cfg)
        m.submodules.queries = queries = memory.Memory(
            shape=self._summary, depth=1 << _D_BITS, init=[]
        )
        connect(m, flipped(self.observe), keys.observe)
        summed = self._sum_queries(m, queries.write_port())
        self._estimate(m, summed, keys, queries.read_port())
        return m

    def _sum_queries(self, m: Module, port: memory.WritePort) -> Signal:
        """Sum the rows of each d tile; the result is high for one cycle after the last row."""
        rows, row = Signal.like(self.rows), Signal.like(self.rows)
        d_tiles, d_tile = Signal.like(self.d_tiles), Signal.like(self.d_tiles)
        last_row = row == rows
        summed = Signal()

        m.d.sync += [
            port.en.eq(self.query.valid & last_row),
            port.addr.eq(d_tile),
            summed.eq(port.en & (port.addr == d_tiles - 1)),
        ]
        with m.If(self.query.valid):
            m.d.sync += [row.eq(Mux(last_row, 0, row + 1)), d_tile.eq(d_tile + last_row)]
            for total, word in zip(port.data, self.query.payload, strict=True):
                m.d.sync += total.eq(Mux(row == 0, 0, total) + word)
        with m.If(self.start):
            m.d.sync += [rows.eq(self.rows), d_tiles.eq(self.d_tiles), d_tile.eq(0), row.eq(0)]
        return summed

    def _estimate(
        self, m: Module, go: Signal, keys: KeySummaries, queries: memory.ReadPort
    ) -> None:
        """Fetch the sums of the next d tile while the ones before are multiplied."""
        d_tiles, d_tile = Signal.like(self.d_tiles), Signal.like(self.d_tiles)
        tile, last_tile = Signal.like(self.tile), Signal.like(self.tile)
        last_d = d_tile == d_tiles - 1
        step = Signal(range(self._steps))
        last_step = step == self._steps - 1
        tag = Signal(data.StructLayout({"first": 1, "final": 1, "last": 1}))
        load, running, ends = Signal(), Signal(), Signal()

        there, summary = self._fetch(m, keys, load & ~(last_d & (tile == last_tile)), load)
        m.d.comb += [queries.addr.eq(d_tile), ends.eq(last_step & tag.final & tag.last)]
        with m.FSM():
            with m.State("Idle"):
                with m.If(self.start):
                    m.d.sync += [
                        d_tiles.eq(self.d_tiles),
                        last_tile.eq(self.last_tile),
                        d_tile.eq(0),
                        tile.eq(0),
                    ]
                with m.If(go):
                    m.next = "Load"
            with m.State("Load"):
                m.d.comb += load.eq(there)
                with m.If(load):
                    m.next = "Multiply"
            with m.State("Multiply"):
                m.d.comb += [running.eq(1), load.eq(last_step & ~ends & there)]
                with m.If(ends):
                    m.next = "Idle"
                with m.Elif(last_step & ~there):
                    m.next = "Load"
        with m.If(load):
            m.d.sync += [
                tag.first.eq(d_tile == 0),
                tag.final.eq(last_d),
                tag.last.eq(tile == last_tile),
                d_tile.eq(Mux(last_d, 0, d_tile + 1)),
                tile.eq(tile + last_d),
            ]
        self._multiply(m, tag, step, load, running, summary, queries.data)

    def _fetch(
        self, m: Module, keys: KeySummaries, more: Signal, taken: Signal
    ) -> tuple[Signal, data.View]:
        """Read one summary ahead, from ``start`` on; (it is there, its value)."""
        wanted, there, summary = Signal(), Signal(), Signal(self._summary)
        accepted = keys.en & keys.ready
        arrives = delay(m, accepted, 1)
        m.d.comb += keys.en.eq(wanted)
        with m.If(accepted):
            m.d.sync += [wanted.eq(0), keys.addr.eq(keys.addr + 1)]
        with m.If(taken):
            m.d.sync += there.eq(0)
        with m.If(arrives):
            m.d.sync += [there.eq(1), summary.eq(keys.value)]
        with m.If(more):
            m.d.sync += wanted.eq(1)
        with m.If(self.start):
            m.d.sync += [wanted.eq(1), keys.addr.eq(self.region)]
        return there, summary

    def _multiply(
        self,
        m: Module,
        tag: data.View,
        step: Signal,
        load: Signal,
        running: Signal,
        keys: data.View,
        queries: data.View,
    ) -> None:
        """Dot product of two words, ``tile / steps`` elements a cycle, then across d tiles."""
        lanes = self._cfg.filters.estimate_multipliers
        last_step = step == self._steps - 1
        a, b = Signal(self._summary), Signal(self._summary)
        products = [Signal(signed(2 * len(a[0])), name=f"product_{i}") for i in range(lanes)]
        dot = Signal(self._dot)
        multiplied, clear, final, last = Signal(), Signal(), Signal(), Signal()

        for word, fetched in ((a, keys), (b, queries)):
            with m.If(load):
                m.d.sync += word.eq(fetched)
            with m.Elif(running):
                m.d.sync += word.as_value().eq(word.as_value() >> (lanes * len(word[0])))
        m.d.sync += multiplied.eq(running)
        with m.If(running):
            m.d.sync += step.eq(Mux(last_step, 0, step + 1))
            m.d.sync += [p.eq(a[i] * b[i]) for i, p in enumerate(products)]
            m.d.sync += [
                clear.eq(tag.first & (step == 0)),
                final.eq(tag.final & last_step),
                last.eq(tag.last),
            ]
        with m.If(multiplied):
            m.d.sync += dot.eq(Mux(clear, 0, dot) + sum(products))
        m.d.sync += self.valid.eq(multiplied & final)
        with m.If(multiplied & final):
            m.d.sync += [self.last.eq(last), self.tile.eq(self.tile + 1)]
        with m.If(self.start):
            m.d.sync += self.tile.eq(-1)
        m.d.comb += self.estimate.eq(dot >> ESTIMATE_SHIFT)
