"""Turns tiles of bytes from rows into columns while it buffers them."""

from __future__ import annotations

from amaranth import Module
from amaranth.hdl import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.interfaces import stat_word

__all__ = ["Transposer"]


class Transposer(wiring.Component):
    """A first-in first-out buffer of ``slots`` tiles; word i of an output tile is row i of the
    input tile, or its column i if ``transposed``.

    One word a cycle in and out at the same time. A tile appears at the output in the cycle after
    its last word was accepted, and its slot is free after its last word was taken.

    Members
    -------
    i : In(stream of {word: int8[tile], transposed: 1})
        ``tile`` words make a tile; ``transposed`` counts with the last one.
    o : Out(stream of int8[tile])
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, cfg: Config, *, slots: int) -> None:
        self._cfg, self._slots = cfg, slots
        word = stat_word(cfg)
        row = data.StructLayout({"word": word, "transposed": unsigned(1)})
        super().__init__({"i": In(stream.Signature(row)), "o": Out(stream.Signature(word))})
