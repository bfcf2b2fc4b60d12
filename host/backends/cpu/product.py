"""Products of int8 rows and weights, exact: by the CPU's own INT8 instructions where it has them.

Elsewhere float32 multiplies: the product of two operands has 14 bits, so that every sum of 1,040 of
them is below 2**24, whatever their order. Precisions that ``torch.set_float32_matmul_precision``
allows keep operands of eight bits, too.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

__all__ = ["Weights", "has_int8_products", "products"]

#: Products of 127 x 127 whose sum float32 holds.
FLOAT_DEPTH = (1 << 24) // 127**2
#: Shallower products are float32's: torch's int8 ones are wrong if the depth is 1.
INT8_DEPTH = 16
#: Multiply-accumulates of one product among many below which its call takes longer than float32.
INT8_WORK = 1 << 18
#: What a CPU calls instructions that sum int8 products in 32 bits.
INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8")


@functools.cache
def has_int8_products() -> bool:
    """Whether torch multiplies int8 fast here, and exactly: some CPUs saturate sums in between."""
    found = torch.cpu.get_capabilities()
    if not any(found.get(name) for name in INSTRUCTIONS):
        return False
    signs = torch.tensor([1, 1, -1, -1], dtype=torch.int8).repeat(64)
    x = 127 * torch.stack([signs, -signs, signs.abs()]).repeat(8, 1)
    return torch.equal(torch._int_mm(x, x.T).double(), x.double() @ x.double().T)


def products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """float64[.., rows, columns] of int8[.., rows, depth] and int8[.., depth, columns]."""
    rows, depth, columns = *a.shape[-2:], b.shape[-1]
    large = depth >= INT8_DEPTH and rows * depth * columns >= INT8_WORK
    if not (large and has_int8_products()):
        return _float_products(a, b)
    acc = torch.empty(*a.shape[:-1], columns, dtype=torch.int32)
    each = (x.flatten(0, -3) for x in (a, b, acc))
    for left, right, result in zip(*each, strict=True):
        torch._int_mm(left, right, out=result)
    return acc.double()


def _float_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    parts = zip(torch.split(a, FLOAT_DEPTH, -1), torch.split(b, FLOAT_DEPTH, -2), strict=True)
    first, *others = ((left.float() @ right.float()).double() for left, right in parts)
    for other in others:
        first += other
    return first


class Weights:
    """int8[n, k] for ``x . weight^T``; magnitudes are at most 127."""

    def __init__(self, weight: np.ndarray) -> None:
        turned = torch.tensor(weight).T
        self._int8 = len(turned) >= INT8_DEPTH and has_int8_products()
        self._turned = turned if self._int8 else turned.float()

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """float64[m, n] of int8[m, k]."""
        if self._int8:
            return torch._int_mm(x, self._turned).double()
        return _float_products(x, self._turned)
