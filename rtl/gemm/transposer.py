"""Turns tiles of bytes from rows into columns while it buffers them."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.hdl import unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.interfaces import stat_word

__all__ = ["Transposer"]


def _rotate(word: Value, lanes: Value) -> Value:
    """Move every byte up by a variable number of lanes, those at the top to the bottom."""
    for bit, choose in enumerate(lanes):
        word = Mux(choose, word.rotate_left(8 << bit), word)
    return word


class Transposer(wiring.Component):
    """A first-in first-out buffer of ``slots`` tiles; word i of an output tile is row i of the
    input tile, or its column i if ``transposed``.

    One word a cycle in and out at the same time. A tile appears at the output two cycles after its
    last word was accepted, and its slot is free when its last word is the one at the output.

    Raises
    ------
    ValueError
        If ``slots`` is not a power of two or less than 2.

    Members
    -------
    i : In(stream of {word: int8[tile], transposed: 1})
        ``tile`` words make a tile; ``transposed`` counts with the last one.
    o : Out(stream of int8[tile])
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, cfg: Config, *, slots: int) -> None:
        if slots < 2 or slots & (slots - 1):
            raise ValueError(f"slots must be a power of two and at least 2, got {slots}")
        self._cfg, self._slots = cfg, slots
        word = stat_word(cfg)
        row = data.StructLayout({"word": word, "transposed": unsigned(1)})
        super().__init__({"i": In(stream.Signature(row)), "o": Out(stream.Signature(word))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        index_bits = (self._cfg.tile - 1).bit_length()
        pointer = index_bits + (self._slots - 1).bit_length()
        write, read = Signal(pointer + 1), Signal(pointer + 1)  # the top bit tells full from empty
        same_slot = write[index_bits:-1] == read[index_bits:-1]
        wrapped = write[-1] != read[-1]
        column, advance = Signal(self._slots), Signal()
        m.d.comb += [
            self.i.ready.eq(~(same_slot & wrapped)),
            advance.eq(~self.o.valid | self.o.ready),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                write.eq(write + 1),
                column.bit_select(write[index_bits:-1], 1).eq(self.i.payload.transposed),
            ]
        with m.If(advance):
            m.d.sync += self.o.valid.eq(~same_slot | wrapped)
            with m.If(~same_slot | wrapped):
                m.d.sync += read.eq(read + 1)
        transposed = column.bit_select(read[index_bits:-1], 1)
        self._lanes(m, write[:-1], read[:-1], transposed, advance)
        return m

    def _lanes(
        self, m: Module, write: Value, read: Value, transposed: Value, advance: Value
    ) -> None:
        """One memory a lane: lane ``(i + j) % tile`` holds element j of row i at address i, so that
        a row and a column both have one element in every lane. What is read there is turned in the
        cycle after."""
        tile = self._cfg.tile
        index_bits = (tile - 1).bit_length()
        index, slot = read[:index_bits], read[index_bits:]
        stored, found = Signal(8 * tile), Signal(8 * tile)
        word, turn = Signal(8 * tile, reset_less=True), Signal(index_bits, reset_less=True)
        m.d.comb += [
            stored.eq(_rotate(self.i.payload.word.as_value(), write[:index_bits])),
            self.o.payload.eq(_rotate(word, turn)),
        ]
        with m.If(advance):
            m.d.sync += [word.eq(found), turn.eq(-index)]
        for lane in range(tile):
            bank = memory.Memory(shape=8, depth=self._slots * tile, init=[])
            m.submodules[f"lane_{lane}"] = bank
            put, get = bank.write_port(), bank.read_port(domain="comb")
            m.d.comb += [
                put.en.eq(self.i.valid & self.i.ready),
                put.addr.eq(write),
                put.data.eq(stored.word_select(lane, 8)),
                get.addr.eq(Cat(Mux(transposed, (lane - index)[:index_bits], index), slot)),
                found.word_select(lane, 8).eq(get.data),
            ]
