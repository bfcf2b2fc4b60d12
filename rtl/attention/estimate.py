"""Estimates of attention scores from tile sums, for filters that look at the data."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.numerics.filters import ESTIMATE_SHIFT
from transept.rtl.gemm.descriptors import observation_layout
from transept.rtl.interfaces import stat_word

__all__ = ["TileEstimator"]

D_TILES = 16


def sums_layout(cfg: Config) -> data.ArrayLayout:
    """Sums of up to ``tile`` int8 words."""
    return data.ArrayLayout(signed(8 + cfg.tile.bit_length() - 1), cfg.tile)


class TileEstimator(wiring.Component):
    """``floor((sum of queries) . (sum of keys) / 2**4)`` for each key tile of a sequence.

    Golden function: ``filters.tile_estimate``. Key sums are kept for every tile of the stationary
    scratchpad as the words are written. One estimate takes ``d_tiles * tile / 2`` cycles on two
    multipliers; estimates of a block follow each other without a gap.

    Members
    -------
    observe : In(stream of observations, always ready)
    query : In(stream of int8 words, always ready), rows of the block, d tile by d tile
    start : In(1), with rows (minus one), last_tile, region (summary index of tile 0), d_tiles
    valid : Out(1), for one cycle for each tile, with tile, estimate, last
    """

    observe: stream.Interface
    query: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._steps = max(2, cfg.tile // 2)
        self._word_sum = sums_layout(cfg)
        tile_bits = max(1, (cfg.key_tiles - 1).bit_length())
        product_bits = 2 * self._word_sum.elem_shape.width
        self._dot = signed(product_bits + (cfg.tile * D_TILES).bit_length())
        super().__init__(
            {
                "observe": In(stream.Signature(observation_layout(cfg), always_ready=True)),
                "query": In(stream.Signature(stat_word(cfg), always_ready=True)),
                "start": In(1),
                "rows": In(cfg.tile.bit_length() - 1),
                "last_tile": In(tile_bits),
                "region": In(16),
                "d_tiles": In(4),
                "valid": Out(1),
                "tile": Out(tile_bits),
                "estimate": Out(signed(self._dot.width - ESTIMATE_SHIFT)),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        depth = cfg.memories.stat_words // cfg.tile
        m.submodules.keys = keys = memory.Memory(shape=self._word_sum, depth=depth, init=[])
        m.submodules.queries = queries = memory.Memory(shape=self._word_sum, depth=D_TILES, init=[])
        self._sum_keys(m, keys.write_port())
        summed = self._sum_queries(m, queries.write_port())
        self._estimate(m, summed, keys.read_port(), queries.read_port())
        return m

    def _sum_keys(self, m: Module, port: memory.WritePort) -> None:
        """Running sum of the words of a tile, written after each of them."""
        seen, observation = Signal(), Signal.like(self.observe.payload)
        m.d.sync += [seen.eq(self.observe.valid), port.en.eq(seen)]
        with m.If(self.observe.valid):
            m.d.sync += observation.eq(self.observe.payload)
        with m.If(seen):
            m.d.sync += port.addr.eq(observation.index)
            for total, word in zip(port.data, observation.word, strict=True):
                m.d.sync += total.eq(Mux(observation.first, 0, total) + word)

    def _sum_queries(self, m: Module, port: memory.WritePort) -> Signal:
        """Sum the rows of each d tile; the result is high for one cycle after the last row."""
        rows, row = Signal.like(self.rows), Signal.like(self.rows)
        d_tiles, d_tile = Signal(4), Signal(4)
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
        self, m: Module, go: Signal, keys: memory.ReadPort, queries: memory.ReadPort
    ) -> None:
        """Fetch the sums of the next d tile while the ones before are multiplied."""
        d_tiles, d_tile = Signal(4), Signal(4)
        tile, last_tile = Signal.like(self.tile), Signal.like(self.tile)
        last_d = d_tile == d_tiles - 1
        step = Signal(range(self._steps))
        last_step = step == self._steps - 1
        tag = Signal(data.StructLayout({"first": 1, "final": 1, "last": 1}))
        load, running = Signal(), Signal()

        m.d.comb += queries.addr.eq(d_tile)
        with m.FSM():
            with m.State("Idle"):
                with m.If(self.start):
                    m.d.sync += [
                        d_tiles.eq(self.d_tiles),
                        last_tile.eq(self.last_tile),
                        keys.addr.eq(self.region),
                        d_tile.eq(0),
                        tile.eq(0),
                    ]
                with m.If(go):
                    m.next = "Fetch"
            with m.State("Fetch"):
                m.next = "Load"
            with m.State("Load"):
                m.d.comb += load.eq(1)
                m.next = "Multiply"
            with m.State("Multiply"):
                m.d.comb += [running.eq(1), load.eq(last_step & ~(tag.final & tag.last))]
                with m.If(last_step & tag.final & tag.last):
                    m.next = "Idle"
        with m.If(load):
            m.d.sync += [
                tag.first.eq(d_tile == 0),
                tag.final.eq(last_d),
                tag.last.eq(tile == last_tile),
                keys.addr.eq(keys.addr + 1),
                d_tile.eq(Mux(last_d, 0, d_tile + 1)),
                tile.eq(tile + last_d),
            ]
        self._multiply(m, tag, step, load, running, keys.data, queries.data)

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
        lanes = self._cfg.tile // self._steps
        last_step = step == self._steps - 1
        a, b = Signal(self._word_sum), Signal(self._word_sum)
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
