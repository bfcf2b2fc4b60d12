"""How many MACs share a multiplier: two in a DSP slice with an adder, one where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from amaranth import Cat, Value
from amaranth.lib import data

from transept.golden.config import Config

__all__ = ["Packing", "Pairs", "Singles", "packing"]

OPERAND_BITS = 8
#: Bits of the lower field of a packed product; the upper one starts here.
FIELD_BITS = 17


class Packing(Protocol):
    """What one multiplier holds of a word of weights, and what its sums mean."""

    columns: int  # MACs in one multiplier, neighbours in a row of the array
    multiplicand_bits: int
    total_bits: int  # of the products that one cascade sums

    def pack(self, word: data.View) -> Value:
        """An int8 word of weights as it is kept, 8 bits a weight."""

    def multiplicand(self, kept: Value) -> Value:
        """Signed ``multiplicand_bits`` from the kept bits of one multiplier."""

    def add(self, total: Value, above: Sequence[Value]) -> tuple[Value, ...]:
        """The sums of a cascade added to those of the same columns above it."""


class Singles:
    """``w``: a multiplier without an adder gives each product to the logic as it is."""

    columns = 1
    multiplicand_bits = OPERAND_BITS
    total_bits = 2 * OPERAND_BITS - 1  # of -127..127 each

    def pack(self, word: data.View) -> Value:
        """As they come."""
        return word.as_value()

    def multiplicand(self, kept: Value) -> Value:
        """The weight."""
        return kept.as_signed()

    def add(self, total: Value, above: Sequence[Value]) -> tuple[Value, ...]:
        """One sum."""
        return (above[0] + total,)


class Pairs:
    """``high * 2**17 + low``: products of two columns with one operand in one DSP slice, summed
    down its cascade without touching each other."""

    columns = 2
    multiplicand_bits = FIELD_BITS + OPERAND_BITS
    total_bits = 2 * FIELD_BITS

    def pack(self, word: data.View) -> Value:
        """Between the bytes of a multiplicand lie only copies of the sign of ``low``, which are not
        kept."""
        pairs = zip(word[0::2], word[1::2], strict=True)
        return Cat(Cat(low, (high - low[7])[:8]) for low, high in pairs)

    def multiplicand(self, kept: Value) -> Value:
        """Both weights, the sign of the lower one between them."""
        return Cat(kept[:8], kept[7].replicate(FIELD_BITS - 8), kept[8:]).as_signed()

    def add(self, total: Value, above: Sequence[Value]) -> tuple[Value, ...]:
        """Two sums. The lower field is signed, so a negative one has borrowed from the upper one,
        which gets it back as the carry of its adder."""
        low, high = total[:FIELD_BITS].as_signed(), total[FIELD_BITS:]
        carry = Cat(1, above[1]).as_signed() + Cat(low[-1], high).as_signed()
        return above[0] + low, carry >> 1


def packing(cfg: Config) -> Packing:
    """Pairs in DSP slices, whose adders sum them before the fields are split."""
    return Pairs() if cfg.geometry.has_dsp_slices else Singles()
