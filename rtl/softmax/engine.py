"""The softmax engine: scores to unnormalised probabilities in place, and their row sums."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out, connect, flipped

from transept.golden import isa
from transept.golden.config import ROWSTAT_BITS, Config
from transept.golden.numerics.softmax import DITHER, OFFSET
from transept.rtl.arith.fixed import index_bits, select, tree_sum
from transept.rtl.arith.pipeline import delay
from transept.rtl.attention.selection import selection_read
from transept.rtl.hls.blocks import chosen
from transept.rtl.interfaces import (
    act_read,
    act_write,
    engine_members,
    instruction_layout,
    rowstat_read,
    rowstat_write,
)
from transept.rtl.memory.row_engine import run_rows
from transept.rtl.memory.row_writer import RowWriter
from transept.rtl.memory.word_reader import WordReader
from transept.rtl.softmax.exponential import LEVEL_BITS, Exponential
from transept.rtl.softmax.walker import KeptTiles, score_tag

__all__ = ["SoftmaxEngine"]


class SoftmaxEngine(wiring.Component):
    """Runs SOFTMAX: ``P = level - 127``, the level of ``254 * 2**((S - max) / 256)`` by an ordered
    dither, on the kept key tiles.

    ``exp_lanes`` elements a cycle; rows follow each other without a gap. Scores of -32768 are
    masked. With ``keep`` the sum of a row is added to the one found. Golden function:
    ``golden.numerics.softmax.softmax_rows``.

    Members
    -------
    instr, retire, busy, stall : see ``engine_members``
    act_read : Out(act_read); act_write : Out(act_write)
    rowstat_read : Out(rowstat_read); rowstat_write : Out(rowstat_write)
    selection : Out(selection_read)
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                **engine_members(),
                "act_read": Out(act_read(cfg)),
                "act_write": Out(act_write(cfg)),
                "rowstat_read": Out(rowstat_read(cfg)),
                "rowstat_write": Out(rowstat_write(cfg)),
                "selection": Out(selection_read(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.tiles = tiles = KeptTiles(cfg)
        m.submodules.reader = reader = WordReader(cfg, score_tag(cfg))
        m.submodules.writer = writer = RowWriter(cfg, LEVEL_BITS)
        connect(m, tiles.rowstat, flipped(self.rowstat_read))
        connect(m, tiles.selection, flipped(self.selection))
        connect(m, reader.port, flipped(self.act_read))
        connect(m, writer.act_write, flipped(self.act_write))
        connect(m, writer.rowstat_write, flipped(self.rowstat_write))
        m.d.comb += [
            reader.i.valid.eq(tiles.o.valid),
            reader.i.payload.addr.eq(tiles.o.payload.addr),
            reader.i.payload.tag.eq(tiles.o.payload),
            tiles.o.ready.eq(reader.i.ready),
        ]
        fields = data.View(instruction_layout(isa.Opcode.SOFTMAX), self.instr.payload)
        run_rows(m, self, fields.rows, tiles.i, writer)
        self._exponentials(m, reader, writer)
        return m

    def _exponentials(self, m: Module, reader: WordReader, writer: RowWriter) -> None:
        """Lanes, and behind them the word being assembled and the sum of the row."""
        cfg = self._cfg
        chunks = cfg.tile // cfg.engines.exp_lanes
        chunk = Signal(index_bits(chunks))
        go, last_chunk = Signal(), Signal()
        tag = reader.o.payload.tag
        m.d.comb += [
            last_chunk.eq(chunk == chunks - 1),
            go.eq(reader.o.valid & ((chunk != 0) | writer.room)),
            reader.o.ready.eq(go & last_chunk),
            writer.reserve.eq(reader.o.ready),
        ]
        with m.If(go):
            m.d.sync += chunk.eq(Mux(last_chunk, 0, chunk + 1))

        scores, lanes = list(reader.o.payload.word), cfg.engines.exp_lanes
        levels = []
        for number in range(lanes):
            m.submodules[f"lane_{number}"] = lane = chosen(cfg, Exponential)()
            dither = [Const(DITHER[key % len(DITHER)]) for key in range(number, cfg.tile, lanes)]
            m.d.comb += [
                lane.score.eq(select(scores[number::lanes], chunk)),
                lane.maximum.eq(tag.maximum),
                lane.dither.eq(select(dither, chunk)),
            ]
            levels.append(lane.level)

        word = Signal(cfg.tile * LEVEL_BITS)
        partial, total = Signal(range(256 * lanes)), Signal(ROWSTAT_BITS)
        running = Signal(ROWSTAT_BITS)
        computed = delay(m, go, Exponential.LATENCY)
        with m.If(computed):
            operands = [(level - OFFSET)[:LEVEL_BITS] for level in levels]
            m.d.sync += [
                word.eq(Cat(word, *operands)[LEVEL_BITS * lanes :]),
                partial.eq(tree_sum(levels)),
            ]
        added = delay(m, computed, 1)
        complete = delay(m, reader.o.ready, Exponential.LATENCY + 1)
        late = data.View(score_tag(cfg), delay(m, tag, Exponential.LATENCY + 1, reset_less=True))
        m.d.comb += [
            total.eq(running + partial),
            writer.i.valid.eq(complete),
            writer.i.payload.word.eq(word),
            writer.i.payload.addr.eq(late.addr),
            writer.i.payload.entry.eq(late.entry),
            writer.i.payload.last.eq(late.last),
            writer.i.payload.statistic.eq(total + late.found),
        ]
        with m.If(added):
            m.d.sync += running.eq(Mux(complete & late.last, 0, total))
