"""A product in a register, in the multipliers that the part has."""

from __future__ import annotations

from amaranth import Module, Signal, Value, signed

from transept.golden.config import Config

__all__ = ["registered_product"]

#: Bits of either operand of a multiplier that is no DSP slice.
MULTIPLIER_BITS = 18


def registered_product(m: Module, cfg: Config, a: Value, b: Value, bits: int) -> Value:
    """``a * b`` of signed a and b, as it was a cycle ago: ``bits`` bits; b has at most 18.

    A DSP slice has room for both and keeps the product. Other multipliers have 18 bits a side: the
    product of a wider a is that of its lower and its upper bits, and it is those that are kept, so
    that a multiplier is all that lies between registers. Their sum comes behind.
    """
    if cfg.geometry.has_dsp_slices or len(a) <= MULTIPLIER_BITS:
        product = Signal(signed(bits), name="product", reset_less=True)
        m.d.sync += product.eq(a * b)
        return product
    split = MULTIPLIER_BITS - 1  # the lower bits have no sign
    lower = Signal(signed(split + len(b)), name="lower_product", reset_less=True)
    upper = Signal(signed(bits - split), name="upper_product", reset_less=True)
    m.d.sync += [lower.eq(a[:split] * b), upper.eq(a[split:].as_signed() * b)]
    return (lower + (upper << split))[:bits].as_signed()
