"""Residual sums, LayerNorm and RMSNorm; a row is one program."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from transept.golden.numerics.norm import NormParameters, inverse_count
from transept.golden.ops import Add, Norm
from transept.host.kernels.arithmetic import (
    ASM,
    fixed_tables,
    quantised,
    round_shift,
    rsqrt,
    saturate,
    wide_round_shift,
)
from transept.host.kernels.rows import Rows

__all__ = ["NormKernel"]


@triton.jit
def _norm(
    y_ptr,
    x_ptr,
    out_ptr,
    sum_ptr,
    q_ptr,
    multiplier_ptr,
    gamma_ptr,
    beta_ptr,
    y_shift_ptr,
    x_shift_ptr,
    sum_shift_ptr,
    tables_ptr,
    width,
    y_stride,
    x_stride,
    out_stride,
    sum_stride,
    q_stride,
    epsilon,
    inverse,
    BITS: tl.constexpr,
    OUT_SHIFT: tl.constexpr,
    RESIDUAL: tl.constexpr,
    CENTRE: tl.constexpr,
    NORMALISE: tl.constexpr,
    SUM: tl.constexpr,
    KEEP: tl.constexpr,
    QUANTISE: tl.constexpr,
    ASM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    z = tl.load(y_ptr + row * y_stride + column, mask=inside, other=0).to(tl.int32)
    z = z << tl.load(y_shift_ptr + column, mask=inside, other=0)
    if RESIDUAL:
        x = tl.load(x_ptr + row * x_stride + column, mask=inside, other=0).to(tl.int32)
        z = z + (x << tl.load(x_shift_ptr + column, mask=inside, other=0))
    z = saturate(z, 24)
    if SUM:
        shift = tl.load(sum_shift_ptr + column, mask=inside, other=0)
        total = saturate((z + ((1 << shift) >> 1)) >> shift, 16)
        tl.store(sum_ptr + row * sum_stride + column, total.to(tl.int16), mask=inside)
    if NORMALISE:
        w = saturate(round_shift(z, 6), 18).to(tl.int64)
        count = width.to(tl.int64)
        v = count * tl.sum(w * w, 0) + epsilon
        mean = tl.zeros_like(v)
        if CENTRE:
            mean = round_shift(tl.sum(z.to(tl.int64), 0) * inverse, 15 + BITS)
            part = tl.sum(w, 0)
            v = v - part * part
        mantissa, exponent = rsqrt(tables_ptr, tl.maximum(v, 1))
        centred = saturate(z - mean.to(tl.int32), 25).to(tl.int64)
        u = saturate(wide_round_shift(centred * mantissa, 11 - BITS + exponent), 18)
        gamma = tl.load(gamma_ptr + column, mask=inside, other=0).to(tl.int64)
        beta = tl.load(beta_ptr + column, mask=inside, other=0).to(tl.int64)
        out = saturate(round_shift(u * gamma + (beta << 8), OUT_SHIFT), 16).to(tl.int32)
        out = tl.where(inside, out, 0)
        if KEEP:
            tl.store(out_ptr + row * out_stride + column, out.to(tl.int16), mask=inside)
        if QUANTISE:
            q, largest = quantised(tables_ptr, out, ASM)
            tl.store(q_ptr + row * q_stride + column, q, mask=inside)
            tl.store(multiplier_ptr + row, largest)


class NormKernel:
    """A ``Norm`` or an ``Add`` with its constants on a device."""

    def __init__(self, op: Norm | Add, device: torch.device) -> None:
        self._op = op
        parameters: NormParameters = op.parameters
        names = ("gamma", "beta", "y_shift", "x_shift", "sum_shift")
        width = len(parameters.gamma)
        self._constants = [
            torch.as_tensor(getattr(parameters, name), dtype=torch.int32)
            .expand(width)
            .contiguous()
            .to(device)
            for name in names
        ]
        self._width = width
        self._inverse = inverse_count(max(2, width))

    def __call__(
        self,
        y: torch.Tensor,
        x: torch.Tensor | None,
        out: torch.Tensor | None,
        total: torch.Tensor | None,
        quantised: Rows | None = None,
    ) -> None:
        """int16[m, n] each, rows of any stride; quantised: gets the norm as operands of a
        product; out, total: None if nobody reads them."""
        op, unused = self._op, y
        rows = quantised or Rows(unused, unused)
        _norm[(len(y),)](
            y,
            unused if x is None else x,
            unused if out is None else out,
            unused if total is None else total,
            rows.elements,
            rows.multiplier,
            *self._constants,
            fixed_tables(y.device),
            self._width,
            *(unused.stride(0) if t is None else t.stride(0) for t in (y, x, out, total)),
            rows.elements.stride(0),
            op.epsilon if isinstance(op, Norm) else 0,
            self._inverse,
            BITS=(self._width - 1).bit_length(),
            OUT_SHIFT=op.out_shift if isinstance(op, Norm) else 0,
            RESIDUAL=x is not None,
            CENTRE=isinstance(op, Norm) and op.centre,
            NORMALISE=isinstance(op, Norm),
            SUM=total is not None,
            KEEP=out is not None,
            QUANTISE=quantised is not None,
            ASM=ASM,
            BLOCK=triton.next_power_of_2(self._width),
            num_warps=4 if self._width <= 2048 else 8,
        )
