"""Where the words of a row lie on chip, if blocks of four-bit weights are among them."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.golden.layouts import BLOCK_WORDS, PACKED_BLOCK
from transept.golden.numerics.four_bit import GROUP
from transept.rtl.arith.fixed import index_bits
from transept.rtl.interfaces import operand

__all__ = ["BLOCK_BITS", "CODE_WORDS", "PLANES", "BlockWalk", "beside_distance"]

#: Words of codes in a block, and those of scales and minima in front of them.
CODE_WORDS, PLANES = GROUP // 2, PACKED_BLOCK - GROUP // 2
#: Bits of a place in a block, and of the blocks of a row.
_PLACE_BITS = BLOCK_WORDS.bit_length() - 1
BLOCK_BITS = operand(Opcode.LOAD, "words").width - _PLACE_BITS


def beside_distance(cfg: Config) -> int:
    """Stationary words between the two that one word of codes becomes."""
    return cfg.tile if cfg.tile < GROUP else 1


class BlockWalk(wiring.Component):
    """What the word at hand is, and where it goes; all outputs are registers or wires of them.

    Members
    -------
    moves : In(1), to the next word, if there is one; may come late
    begins : In(1), the next word is the first one of a row with so many ``blocks``
    advances : In(1), the next word follows that at hand, if it does not begin a row
    coded : Out(1), the word is part of a block: one of scales or minima, or of ``codes``
    number : Out, which of these it is
    offset : Out(16), on chip, from the first word of the row; of codes: of the first of two words
    """

    moves: Signal
    begins: Signal
    advances: Signal
    blocks: Signal
    coded: Signal
    codes: Signal
    number: Signal
    offset: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        words = operand(Opcode.LOAD, "words")
        super().__init__(
            {
                "moves": In(1),
                "begins": In(1),
                "advances": In(1),
                "blocks": In(BLOCK_BITS),
                "coded": Out(1),
                "codes": Out(1),
                "number": Out(index_bits(CODE_WORDS)),
                "offset": Out(words),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        block, left = Signal(BLOCK_BITS), Signal(BLOCK_BITS)
        behind = Signal.like(self.offset)  # of a word that is in no block
        m.d.comb += self.offset.eq(Mux(self.coded, Cat(self._place(), block), behind))
        with m.If(self.moves):
            with m.If(self.begins):
                m.d.sync += [
                    self.coded.eq(self.blocks != 0),
                    self.codes.eq(0),
                    self.number.eq(0),
                    block.eq(0),
                    left.eq(self.blocks),
                    behind.eq(Cat(Const(0, _PLACE_BITS), self.blocks)),
                ]
            with m.Elif(self.advances & self.coded):
                self._step(m, block, left)
            with m.Elif(self.advances):
                m.d.sync += behind.eq(behind + 1)
        return m

    def _step(self, m: Module, block: Signal, left: Signal) -> None:
        """To the next word of a block, or of the next one."""
        m.d.sync += self.number.eq(self.number + 1)
        with m.If(~self.codes & (self.number == PLANES - 1)):
            m.d.sync += [self.codes.eq(1), self.number.eq(0)]
        with m.If(self.codes & (self.number == CODE_WORDS - 1)):
            m.d.sync += [
                self.codes.eq(0),
                block.eq(block + 1),
                left.eq(left - 1),
                self.coded.eq(left != 1),
            ]

    def _place(self) -> Value:
        """The first word of a pair in its block: pairs come output by output, and of each its
        tiles; on chip, tile by tile."""
        order = Cat(Const(0, 1), self.number)
        tiles = (GROUP // self._cfg.tile).bit_length() - 1
        return Cat(order[tiles:], order[:tiles])
