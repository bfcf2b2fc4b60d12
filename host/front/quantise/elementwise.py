"""Products of elements and rotary embeddings: shifts and scales of operands and results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from transept.golden.ops import Multiply, Rotary
from transept.host.front.errors import UnfitError
from transept.host.front.matches import MultiplyMatch, RotaryMatch
from transept.host.front.quantise.grids import INT16, MARGIN16

__all__ = [
    "ROTATED_SHIFT",
    "ProductScales",
    "both_given",
    "one_free",
    "quantise_product",
    "quantise_rotary",
]

#: Largest right shift of a product of elements.
MOST_SHIFT = 15
#: Bits that an element has before it is rotated beyond those it has then: 127 steps become 16,256,
#: and what is as large again still fits.
ROTATED_SHIFT = 7
#: Steps of a product's factor and of the product itself, as a share of what its readers see of the
#: product: int8 rows lose as much.
MOST_ERROR = 1 / 128


@dataclass(frozen=True, eq=False)
class ProductScales:
    """shift; free, out: float64[width], the real value of one step of the factor whose scale can be
    chosen, if there is one, and of the product; error: see ``MOST_ERROR``."""

    shift: int
    free: np.ndarray | None
    out: np.ndarray
    error: float

    def checked(self, operator: str) -> ProductScales:
        """UnfitError if too little is left of the product."""
        if self.error > MOST_ERROR:
            raise UnfitError(operator, "there are no scales for its factors and its result")
        return self


def one_free(
    fixed: np.ndarray,
    wanted: np.ndarray,
    *,
    largest: tuple[np.ndarray, np.ndarray, np.ndarray],
    weight: np.ndarray,
    widens: bool,
    together: Callable[[np.ndarray], np.ndarray],
) -> ProductScales:
    """The scales with the least error, if one factor has a given scale and the other any.

    fixed: of the given factor; wanted: what the readers of the product want; largest: magnitudes of
    the given factor, of the other one, and of the product; weight: how much readers make of each
    channel; widens: the product may have a coarser scale than is wanted; together: the largest
    number of each group of channels that share a scale. All float64[width].
    """
    given, other, product = largest
    need = other * MARGIN16 / INT16
    found = []
    for shift in range(MOST_SHIFT + 1):
        least = together(fixed * need) * 2.0**shift
        out = np.maximum(wanted, least) if widens else wanted
        free = out / (fixed * 2.0**shift)
        clipped = np.maximum(need - free, 0) * INT16
        lost = np.hypot(np.hypot(free, clipped) * given, out)
        found.append(ProductScales(shift, free, out, _share(lost, product, weight)))
    return min(found, key=lambda scales: scales.error)


def both_given(
    y: np.ndarray, x: np.ndarray, *, largest: np.ndarray, weight: np.ndarray
) -> ProductScales:
    """The finest scale that the product of two factors with given scales fits; largest: magnitudes
    of the product, weight: as above."""
    need = largest * MARGIN16 / INT16
    shift = int(np.clip(np.ceil(np.log2((need / (y * x)).max())), 0, MOST_SHIFT))
    out = y * x * 2.0**shift
    lost = np.hypot(out, np.maximum(need - out, 0) * INT16)
    return ProductScales(shift, None, out, _share(lost, largest, weight))


def _share(lost: np.ndarray, largest: np.ndarray, weight: np.ndarray) -> float:
    return float(np.linalg.norm(weight * lost) / max(np.linalg.norm(weight * largest), 1e-300))


def quantise_product(op: MultiplyMatch, shift: int) -> Multiply:
    """shift: between the product of the operands' scales and that of the result."""
    y, x = op.inputs
    return Multiply(op.name, y, x, op.outputs[0], shift)


def quantise_rotary(op: RotaryMatch) -> Rotary:
    """Scales are as ``Scales`` makes them: cosines have a fixed one, the result's is 2**7 times the
    operand's."""
    x, cos, sin = op.inputs
    return Rotary(op.name, x, cos, sin, op.outputs[0], op.heads, ROTATED_SHIFT)
