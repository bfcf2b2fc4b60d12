"""Rounding, saturation, shifting, sums as expressions; the mirror of ``golden.numerics.fixed``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from amaranth import Cat, Const, Mux, Value
from amaranth.hdl import ValueLike

__all__ = [
    "clips",
    "index_bits",
    "narrow_shift",
    "normalise",
    "rank",
    "round_clips",
    "round_saturate",
    "round_shift",
    "round_shift_by",
    "saturate",
    "select",
    "tree",
    "tree_sum",
]


def index_bits(depth: int) -> int:
    """Bits of an index below ``depth``, at least one."""
    return max(1, (depth - 1).bit_length())


def round_shift(x: ValueLike, shift: int) -> Value:
    """``floor(x / 2**shift + 1/2)`` for a constant ``shift`` >= 0, by the narrowest adder."""
    x = Value.cast(x)
    return x if shift == 0 else ((x >> (shift - 1)) + 1) >> 1


def round_shift_by(x: ValueLike, shift: ValueLike) -> Value:
    """``floor(x / 2**shift + 1/2)`` for an unsigned value ``shift``, all in one cycle.

    A barrel shifter and an adder; ``arith.shifter.RoundShift`` is the pipelined form.
    """
    return (((Value.cast(x) << 1) >> Value.cast(shift)) + 1) >> 1


def saturate(x: ValueLike, bits: int) -> Value:
    """Clamp to ``+-(2**(bits-1) - 1)``: signed(bits). The lowest code is never produced."""
    x = Value.cast(x)
    if not x.shape().signed:
        x = Cat(x, Const(0, 1)).as_signed()
    if len(x) < bits:
        return x
    limit = (1 << (bits - 1)) - 1
    negative = x[-1]
    lost = _loses(x, bits - 1)
    under = negative & (lost | ~x[: bits - 1].any())
    return Mux(~negative & lost, limit, Mux(under, -limit, x))[:bits].as_signed()


def clips(x: ValueLike, bits: int) -> Value:
    """Whether ``saturate`` changes a signed x."""
    x = Value.cast(x)
    if len(x) < bits:
        return Const(0, 1)
    return _loses(x, bits - 1) | (x[-1] & ~x[: bits - 1].any())


def round_saturate(x: ValueLike, bits: int, lost: ValueLike = 0) -> Value:
    """``saturate((x + 1) >> 1, bits)`` in the one adder that the rounding takes: signed(bits).

    x is signed; ``lost`` says that it stands for a value of its sign beyond its own range.
    """
    x = Value.cast(x)
    negative = x[-1]
    whole = x[1 : bits + 1]
    lost = Value.cast(lost) | _loses(x, bits)
    # from the lowest code the carry leads to -limit, at +limit there must be none
    at_top, at_bottom = ~negative & whole[:-1].all(), negative & ~whole[:-1].any()
    carry = Mux(lost, negative, (x[0] & ~at_top) | at_bottom)
    floor = Mux(lost, Cat((~negative).replicate(bits - 1), negative), whole)
    return (floor + carry)[:bits].as_signed()


def round_clips(x: ValueLike, bits: int, lost: ValueLike = 0) -> Value:
    """Whether ``round_saturate`` of the same arguments is another value than ``(x + 1) >> 1``."""
    x = Value.cast(x)
    negative, whole = x[-1], x[1 : bits + 1]
    above = ~negative & whole[:-1].all() & x[0]
    below = negative & ~whole[:-1].any() & ~x[0]
    return Value.cast(lost) | _loses(x, bits) | above | below


def narrow_shift(x: ValueLike, digit: Value, step: int, width: int) -> tuple[Value, Value]:
    """One digit of a right shifter that ends in saturation: ``x >> (digit * step)``, cut.

    ``step`` is a power of two.

    Returns the low ``width`` bits (unsigned) and whether a bit above them differs from the sign.
    """
    x = Value.cast(x)
    window = (x >> Cat(Const(0, step.bit_length() - 1), digit))[:width]
    lost = [_loses(x, min(step * i + width, len(x))) for i in range(1 << len(digit))]
    return window, select(lost, digit)


def _loses(x: Value, width: int) -> Value:
    """Whether any bit of x from ``width`` up differs from its sign."""
    high = x[width:]
    return (high ^ x[-1].replicate(len(high))).any() if len(high) else Const(0, 1)


def select(choices: Sequence[Value], index: Value) -> Value:
    """``choices[index]`` as a tree of multiplexers; an index past the end gives the last choice."""
    if len(choices) == 1:
        return choices[0]
    half = 1 << ((len(choices) - 1).bit_length() - 1)
    upper, lower = choices[half:], choices[:half]
    top = half.bit_length() - 1
    return Mux(index[top], select(upper, index[:top]), select(lower, index[:top]))


def normalise(x: Value, steps: Sequence[int]) -> tuple[Value, Value]:
    """Shift x left by each step (a power of two, descending) whose upper bits are all zero.

    Returns x and one flag for each step, the last step in bit 0. All steps ``width/2, ..., 1``
    bring the leading one to the top; then ``~flags`` is its position, ``floor(log2 x)``.
    """
    flags = []
    for step in steps:
        flag = ~x[-step:].any()
        x = Mux(flag, Cat(Const(0, step), x[:-step]), x)
        flags.insert(0, flag)
    return x, Cat(flags)


def rank(x: Value) -> Value:
    """``2 * abs(x) - (x < 0)``: orders signed values by magnitude without an adder.

    The magnitude is ``(rank + 1) >> 1``.
    """
    return Cat(x[-1], x[:-1] ^ x[-1].replicate(len(x) - 1))


def tree(operator: Callable[[Value, Value], Value], terms: Iterable[Value]) -> Value:
    """Terms combined pairwise: logarithmic depth, and sums widen by one bit a level."""
    level = list(terms)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [operator(a, b) for a, b in pairs] + level[len(level) & ~1 :]
    return level[0]


def tree_sum(terms: Iterable[Value]) -> Value:
    """Sum of the terms by a balanced tree."""
    return tree(lambda a, b: a + b, terms)
