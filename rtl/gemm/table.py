"""The activation of the GEMM epilogue: a loaded table of 64 quadratic segments."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.layouts import HEADER_RECORD, RECORD_BYTES, SEGMENT_RECORD, table_words
from transept.golden.numerics.requantise import SEGMENTS
from transept.rtl.arith.fixed import clips, saturate, select
from transept.rtl.arith.pipeline import delay
from transept.rtl.arith.shifter import RoundShift
from transept.rtl.interfaces import record_layout, stat_word

__all__ = ["Activation", "activation_interval", "table_write"]

#: One segment and the header, as they lie in memory.
SEGMENT, HEADER = record_layout(SEGMENT_RECORD), record_layout(HEADER_RECORD)
#: Requantiser lanes that share one activation lane. A product with an activation has many k tiles,
#: so that its groups leave the array more slowly than scores do.
SHARE = 4
INDEX_BITS = (SEGMENTS - 1).bit_length()
SHIFT_BITS = HEADER_RECORD["out_shift"].width
OFFSET_BITS = 17  # of a difference of two int16, and of positions in a segment


def activation_interval(cfg: Config) -> int:
    """Least distance in cycles of two beats of ``epilogue_lanes`` values through the activation; 1
    if there is none."""
    return min(SHARE, cfg.engines.epilogue_lanes) if cfg.blocks.activation else 1


def table_write(cfg: Config) -> wiring.Signature:
    """Write port of the table, never refused: word ``addr`` of ``golden.layouts.pack_table``."""
    addr = range(table_words(cfg.tile))
    return wiring.Signature({"en": Out(1), "addr": Out(addr), "data": Out(stat_word(cfg))})


class SegmentMemory(wiring.Component):
    """The segments of one lane in distributed RAM.

    Members
    -------
    write : In(table_write); words beyond the segments are ignored
    index : In(6), segment : Out(SEGMENT), in the same cycle
    """

    write: wiring.PureInterface
    index: Signal
    segment: data.View

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {"write": In(table_write(cfg)), "index": In(INDEX_BITS), "segment": Out(SEGMENT)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tile = self._cfg.tile
        banks = max(1, tile // RECORD_BYTES)  # segments in one word
        parts = max(1, RECORD_BYTES // tile)  # words of one segment
        bank_bits, part_bits = banks.bit_length() - 1, parts.bit_length() - 1
        row_bits = INDEX_BITS - bank_bits
        word = self.write.data.as_value()
        # a row index has fewer bits than the address, whose top bit tells segments from the header
        row = self.write.addr[part_bits : part_bits + row_bits]
        segments = self.write.en & (self.write.addr < SEGMENTS * RECORD_BYTES // tile)

        choices: list[Value] = []
        for bank in range(banks):
            bits = 8 * RECORD_BYTES
            m.submodules[f"bank_{bank}"] = ram = memory.Memory(
                shape=bits, depth=SEGMENTS // banks, init=[]
            )
            read, write = ram.read_port(domain="comb"), ram.write_port(granularity=bits // parts)
            m.d.comb += [
                write.addr.eq(row),
                write.data.eq(word.replicate(parts) if parts > 1 else word[bits * bank :]),
                write.en.eq(segments << self.write.addr[:part_bits]),
                read.addr.eq(self.index[bank_bits:]),
            ]
            choices.append(read.data)
        m.d.comb += self.segment.eq(select(choices, self.index[:bank_bits]))
        return m


class Activation(wiring.Component):
    """``f(x)`` of the loaded table on int16, ``epilogue_lanes`` values in ``interval`` cycles.

    Values leave ``latency`` cycles after they enter, for one cycle. There are
    ``epilogue_lanes / interval`` lanes of two DSP slices. Golden model: ``activation``. The table
    must not change while values are under way.

    Members
    -------
    table : In(table_write)
    i : In(int16[epilogue_lanes]), i_valid : In(1), at least ``interval`` cycles apart
    i_clipped : In(bit for each), they have been clipped before
    o : Out(int16[epilogue_lanes]), o_clipped : Out(bit for each), then or here
    """

    #: offset, index in two steps, segment, position; slope; value
    LANE_LATENCY = 5 + (1 + RoundShift.LATENCY + 2) + (2 + RoundShift.LATENCY)

    table: wiring.PureInterface
    i: data.View
    i_valid: Signal
    i_clipped: Signal
    o: data.View
    o_clipped: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._interval = activation_interval(cfg)
        values = data.ArrayLayout(signed(16), cfg.engines.epilogue_lanes)
        super().__init__(
            {
                "table": In(table_write(cfg)),
                "i": In(values),
                "i_valid": In(1),
                "i_clipped": In(cfg.engines.epilogue_lanes),
                "o": Out(values),
                "o_clipped": Out(cfg.engines.epilogue_lanes),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from values to results."""
        return self._interval + self.LANE_LATENCY

    def elaborate(self, platform: object) -> Module:
        m = Module()
        header = self._header(m)
        lanes = self._cfg.engines.epilogue_lanes // self._interval
        waiting, waiting_clipped = Signal(self.i.shape()), Signal.like(self.i_clipped)
        with m.If(self.i_valid):
            m.d.sync += [waiting.eq(self.i), waiting_clipped.eq(self.i_clipped)]
        with m.Else():
            m.d.sync += [
                waiting.eq(waiting.as_value()[16 * lanes :]),
                waiting_clipped.eq(waiting_clipped[lanes:]),
            ]

        results, clipped = [], []
        for lane in range(lanes):
            m.submodules[f"segments_{lane}"] = segments = SegmentMemory(self._cfg)
            m.d.comb += [
                segments.write.en.eq(self.table.en),
                segments.write.addr.eq(self.table.addr),
                segments.write.data.eq(self.table.data),
            ]
            segment, position = self._locate(m, header, waiting[lane], segments)
            result, here = self._evaluate(m, lane, header, segment, position)
            before = delay(m, waiting_clipped[lane], self.LANE_LATENCY, reset_less=True)
            results.append(result)
            clipped.append(before | here)
        m.d.comb += [
            self.o.eq(self._collect(m, Cat(*results))),
            self.o_clipped.eq(self._collect(m, Cat(*clipped))),
        ]
        return m

    def _collect(self, m: Module, latest: Value) -> Value:
        """What the lanes give in ``interval`` cycles, the first in the lowest bits."""
        collected = Signal(len(latest) * (self._interval - 1), reset_less=True)
        m.d.sync += collected.eq(Cat(collected, latest)[len(latest) :])
        return Cat(collected, latest)

    def _header(self, m: Module) -> data.View:
        """The header's registers; each byte is written with the word that holds it."""
        header = Signal(HEADER)
        tile = self._cfg.tile
        for byte in range(RECORD_BYTES):
            word, lane = divmod(SEGMENTS * RECORD_BYTES + byte, tile)
            with m.If(self.table.en & (self.table.addr == word)):
                m.d.sync += header.as_value().word_select(byte, 8).eq(self.table.data[lane])
        return header

    def _locate(
        self, m: Module, header: data.View, x: Value, segments: SegmentMemory
    ) -> tuple[data.View, Value]:
        """Segment (4 cycles after x) and position in it (5 cycles after x)."""
        width = header.width
        offset, steps = Signal(signed(OFFSET_BITS)), Signal(signed(OFFSET_BITS))
        index, segment = Signal(INDEX_BITS), Signal(SEGMENT)
        # never above the offset, if that is positive: no bit is lost
        base = Signal(OFFSET_BITS - 1)
        position = Signal(signed(OFFSET_BITS))
        above = Mux(steps[INDEX_BITS:].any(), SEGMENTS - 1, steps[:INDEX_BITS])
        m.d.comb += segments.index.eq(index)
        m.d.sync += [
            offset.eq(x - header.start),
            steps.eq(offset >> width),
            index.eq(Mux(steps[-1], 0, above)),
            segment.eq(segments.segment),
            base.eq(index << width),
            position.eq(delay(m, offset, 3, reset_less=True) - base),
        ]
        return segment, position

    def _evaluate(
        self, m: Module, lane: int, header: data.View, segment: data.View, position: Value
    ) -> tuple[Value, Value]:
        """Horner's rule, and whether it clipped; ``segment`` comes a cycle before ``position``."""
        to_slope = 1 + RoundShift.LATENCY
        c2, c1, c0 = (
            delay(m, coefficient, cycles, reset_less=True)
            for coefficient, cycles in (
                (segment.c2, 1),
                (segment.c1, 1 + to_slope),
                (segment.c0, 1 + to_slope + 3),
            )
        )
        m.submodules[f"slope_{lane}"] = slope_shift = RoundShift(33, SHIFT_BITS, 26)
        m.submodules[f"out_{lane}"] = out_shift = RoundShift(43, SHIFT_BITS, 16)
        curvature = Signal(signed(33), name=f"curvature_{lane}")
        slope = Signal(signed(25), name=f"slope_{lane}")
        product = Signal(signed(42), name=f"product_{lane}")
        value = Signal(signed(43), name=f"value_{lane}")
        steep = Signal(name=f"steep_{lane}")
        # what saturates at 26 bits would at 25 bits after the sum with any c1
        total = Signal(signed(27), name=f"total_{lane}")
        m.d.comb += [
            slope_shift.x.eq(curvature),
            slope_shift.shift.eq(header.slope_shift),
            out_shift.x.eq(value),
            out_shift.shift.eq(header.out_shift),
        ]
        m.d.sync += [
            curvature.eq(c2 * position),
            total.eq(c1 + slope_shift.o),
            slope.eq(saturate(total, 25)),
            steep.eq(clips(total, 25)),
            product.eq(slope * delay(m, position, to_slope + 2, reset_less=True)),
            value.eq(product + (c0 << 8)),
        ]
        return out_shift.o, out_shift.clipped | delay(m, steep, 2 + RoundShift.LATENCY)
