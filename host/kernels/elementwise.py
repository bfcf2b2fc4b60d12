"""Products of elements, and rotary embeddings (``golden.numerics.elementwise``)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from transept.golden.numerics.elementwise import ROTARY_SHIFT
from transept.host.kernels.arithmetic import (
    ASM,
    after_those_before,
    launch_options,
    round_shift,
    saturate,
)

__all__ = ["multiplied", "rotated"]

#: Elements of a program.
BLOCK = 2048


@triton.jit
def _multiply(
    y_ptr,
    x_ptr,
    out_ptr,
    size,
    width,
    y_stride,
    x_stride,
    out_stride,
    SHIFT: tl.constexpr,
    BITS: tl.constexpr,
    ASM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    after_those_before(ASM)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    row, column = place // width, place % width
    y = tl.load(y_ptr + row * y_stride + column, mask=inside, other=0).to(tl.int32)
    x = tl.load(x_ptr + row * x_stride + column, mask=inside, other=0).to(tl.int32)
    out = saturate(round_shift(y * x, SHIFT), BITS)
    tl.store(out_ptr + row * out_stride + column, out.to(out_ptr.dtype.element_ty), mask=inside)


def multiplied(y: torch.Tensor, x: torch.Tensor, out: torch.Tensor, shift: int) -> None:
    """``sat(round(y * x / 2**shift))`` of int16 [m, n], rows of any stride; out: int16 or int8."""
    size = y.numel()
    _multiply[(triton.cdiv(size, BLOCK),)](
        y,
        x,
        out,
        size,
        y.shape[1],
        *(t.stride(0) for t in (y, x, out)),
        SHIFT=shift,
        BITS=8 if out.dtype == torch.int8 else 16,
        ASM=ASM,
        BLOCK=BLOCK,
        **launch_options(len(y)),
    )


@triton.jit
def _rotate(
    x_ptr,
    cos_ptr,
    sin_ptr,
    out_ptr,
    size,
    width,
    d,
    x_stride,
    cos_stride,
    sin_stride,
    out_stride,
    SHIFT: tl.constexpr,
    FRACTION: tl.constexpr,
    ASM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    after_those_before(ASM)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    row, column = place // width, place % width
    element = column % d
    partner = column + tl.where(element < d // 2, d // 2, -(d // 2))
    x = tl.load(x_ptr + row * x_stride + column, mask=inside, other=0).to(tl.int32)
    other = tl.load(x_ptr + row * x_stride + partner, mask=inside, other=0).to(tl.int32)
    cos = tl.load(cos_ptr + row * cos_stride + element, mask=inside, other=0).to(tl.int32)
    sin = tl.load(sin_ptr + row * sin_stride + element, mask=inside, other=0).to(tl.int32)
    direct = saturate(round_shift(x * cos, FRACTION), 16)
    crossed = saturate(round_shift(other * sin, FRACTION), 16)
    out = saturate(round_shift(direct + crossed, SHIFT), 8)
    tl.store(out_ptr + row * out_stride + column, out.to(tl.int8), mask=inside)


def rotated(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, out: torch.Tensor, shift: int
) -> None:
    """``numerics.elementwise.rotate``, head by head; rows of any stride.

    x: int16 [m, heads * d]; cos, sin: int16 [m, d]; out: int8 [m, heads * d].
    """
    size = x.numel()
    _rotate[(triton.cdiv(size, BLOCK),)](
        x,
        cos,
        sin,
        out,
        size,
        x.shape[1],
        cos.shape[1],
        *(t.stride(0) for t in (x, cos, sin, out)),
        SHIFT=shift,
        FRACTION=ROTARY_SHIFT,
        ASM=ASM,
        BLOCK=BLOCK,
        **launch_options(len(x)),
    )
