"""Products of elements and rotary embeddings: shifts between the scales of operands and results."""

from __future__ import annotations

import numpy as np

from transept.golden.ops import Multiply, Rotary
from transept.host.front.matches import MultiplyMatch, RotaryMatch

__all__ = [
    "MOST_PRODUCT_SHIFT",
    "ROTATED_SHIFT",
    "product_shift",
    "quantise_product",
    "quantise_rotary",
]

#: Largest right shift of a product of elements.
MOST_PRODUCT_SHIFT = 15
#: Bits that an element has before it is rotated beyond those it has then: 127 steps become 16,256,
#: and what is as large again still fits.
ROTATED_SHIFT = 7


def product_shift(factor: np.ndarray, need: np.ndarray, out: np.ndarray) -> int:
    """The largest shift with which ``out / (factor * 2**shift)``, the step of the other factor of a
    product, is at least ``need``; negative if out has to be wider for that."""
    return min(MOST_PRODUCT_SHIFT, int(np.floor(np.log2(out / (factor * need)).min())))


def quantise_product(op: MultiplyMatch, shift: int) -> Multiply:
    """shift: between the product of the operands' scales and that of the result."""
    y, x = op.inputs
    return Multiply(op.name, y, x, op.outputs[0], shift)


def quantise_rotary(op: RotaryMatch) -> Rotary:
    """Scales are as ``Scales`` makes them: cosines have a fixed one, the result's is 2**7 times the
    operand's."""
    x, cos, sin = op.inputs
    return Rotary(op.name, x, cos, sin, op.outputs[0], op.heads, ROTATED_SHIFT)
