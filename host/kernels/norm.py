"""Residual sums, LayerNorm and RMSNorm; a program has a few rows."""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl

from transept.golden.numerics.norm import NormParameters, inverse_count
from transept.golden.ops import Add, Norm
from transept.host.kernels.arithmetic import (
    ASM,
    fixed_tables,
    high,
    quantised,
    round_shift,
    rsqrt,
    saturate,
    wide_round_shift,
)
from transept.host.kernels.rows import Rows, rows_at_once

__all__ = ["NormKernel"]


#: Of a program on many rows, with four warps.
ELEMENTS = 4096


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
    count,
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
    OUT_LEFT: tl.constexpr,
    RESIDUAL: tl.constexpr,
    CENTRE: tl.constexpr,
    NORMALISE: tl.constexpr,
    SUM: tl.constexpr,
    KEEP: tl.constexpr,
    QUANTISE: tl.constexpr,
    ASM: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)
    known = column < width
    inside = (row < count)[:, None] & known[None, :]
    z = tl.load(_places(y_ptr, row, column, y_stride), mask=inside, other=0).to(tl.int32)
    z = z << tl.load(y_shift_ptr + column, mask=known, other=0)[None, :]
    if RESIDUAL:
        x = tl.load(_places(x_ptr, row, column, x_stride), mask=inside, other=0).to(tl.int32)
        z = z + (x << tl.load(x_shift_ptr + column, mask=known, other=0)[None, :])
    z = saturate(z, 24)
    if SUM:
        shift = tl.load(sum_shift_ptr + column, mask=known, other=0)[None, :]
        total = saturate((z + ((1 << shift) >> 1)) >> shift, 16)
        tl.store(_places(sum_ptr, row, column, sum_stride), total.to(tl.int16), mask=inside)
    if NORMALISE:
        centred, mantissa, shift = _deviations(
            z, width.to(tl.int64), epsilon, inverse, tables_ptr, BITS, CENTRE
        )
        u = _normalised(centred, mantissa, shift, ASM)
        gamma = tl.load(gamma_ptr + column, mask=known, other=0)[None, :]
        beta = tl.load(beta_ptr + column, mask=known, other=0)[None, :]
        if OUT_LEFT >= 0:  # gamma and beta are shifted for a product's upper half
            out = high(
                u << OUT_LEFT, tl.broadcast_to(gamma, u.shape), tl.broadcast_to(beta, u.shape), ASM
            )
        else:
            product = u.to(tl.int64) * gamma.to(tl.int64) + beta
            out = (product >> OUT_SHIFT).to(tl.int32)
        out = tl.where(inside, saturate(out, 16), 0)
        if KEEP:
            tl.store(_places(out_ptr, row, column, out_stride), out.to(tl.int16), mask=inside)
        if QUANTISE:
            q, largest = quantised(tables_ptr, out, ASM)
            tl.store(_places(q_ptr, row, column, q_stride), q, mask=inside)
            tl.store(multiplier_ptr + row, largest, mask=row < count)


@triton.jit
def _places(ptr, row, column, stride):
    return (ptr + row * stride)[:, None] + column[None, :]


@triton.jit
def _deviations(z, width, epsilon, inverse, tables_ptr, BITS: tl.constexpr, CENTRE: tl.constexpr):
    """Elements less their mean, and the inverse deviation of each row: mantissa and shift."""
    w = saturate(round_shift(z, 6), 18)
    squares = tl.sum(w.to(tl.int64) * w.to(tl.int64), 1)
    v = width * squares + epsilon
    centred = z
    if CENTRE:
        mean = round_shift(tl.sum(z.to(tl.int64), 1) * inverse, 15 + BITS)
        part = tl.sum(w.to(tl.int64), 1)
        v = v - part * part
        centred = z - mean.to(tl.int32)[:, None]  # below 2**24: 25 bits hold it
    mantissa, exponent = rsqrt(tables_ptr, tl.maximum(v, 1))
    return centred, mantissa, 11 - BITS + exponent


@triton.jit
def _normalised(centred, mantissa, shift, ASM: tl.constexpr):
    """``round(centred * mantissa / 2**shift)`` in 18 bits. Of 32 - shift bits, mantissas have room
    for 14 and 25-bit elements for 6; rows of hardly any deviation need more, and 64 bits."""
    right = tl.minimum(32 - shift, 14)
    left = 32 - shift - right
    if tl.max(left, 0) <= 6:
        factor = tl.broadcast_to((mantissa << right).to(tl.int32)[:, None], centred.shape)
        rounding = tl.full(centred.shape, 1 << 31, tl.int64)
        u = high(centred << left.to(tl.int32)[:, None], factor, rounding, ASM)
    else:
        wide = centred.to(tl.int64) * mantissa[:, None]
        u = saturate(wide_round_shift(wide, shift[:, None]), 18).to(tl.int32)
    return saturate(u, 18)


class NormKernel:
    """A ``Norm`` or an ``Add`` with its constants on a device."""

    def __init__(self, op: Norm | Add, device: torch.device) -> None:
        self._op = op
        parameters: NormParameters = op.parameters
        self._width = width = len(parameters.gamma)
        self._inverse = inverse_count(max(2, width))
        gamma, beta, *shifts = (
            np.broadcast_to(np.asarray(getattr(parameters, name), np.int64), width)
            for name in ("gamma", "beta", "y_shift", "x_shift", "sum_shift")
        )
        self._out_left, gamma, beta = _output(
            op.out_shift if isinstance(op, Norm) else 0, gamma, beta
        )
        kinds = (torch.int32, torch.int64, *(torch.int32 for _ in shifts))
        self._constants = [
            torch.as_tensor(np.array(values)).to(device, kind)
            for values, kind in zip((gamma, beta, *shifts), kinds, strict=True)
        ]

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
        count, block = len(y), triton.next_power_of_2(self._width)
        at_once = rows_at_once(count, block, ELEMENTS)
        _norm[(triton.cdiv(count, at_once),)](
            y,
            unused if x is None else x,
            unused if out is None else out,
            unused if total is None else total,
            rows.elements,
            rows.multiplier,
            *self._constants,
            fixed_tables(y.device),
            count,
            self._width,
            *(unused.stride(0) if t is None else t.stride(0) for t in (y, x, out, total)),
            rows.elements.stride(0),
            op.epsilon if isinstance(op, Norm) else 0,
            self._inverse,
            BITS=(self._width - 1).bit_length(),
            OUT_SHIFT=op.out_shift if isinstance(op, Norm) else 0,
            OUT_LEFT=self._out_left,
            RESIDUAL=x is not None,
            CENTRE=isinstance(op, Norm) and op.centre,
            NORMALISE=isinstance(op, Norm),
            SUM=total is not None,
            KEEP=out is not None,
            QUANTISE=quantised is not None,
            ASM=ASM,
            ROWS=at_once,
            BLOCK=block,
            num_warps=4 if block <= 2048 else 8,
        )


def _output(
    out_shift: int, gamma: np.ndarray, beta: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray]:
    """How far 18-bit elements are shifted before they are multiplied by gamma, so that the result
    is a product's upper half, -1 if it is not; gamma, and what is added, rounding included."""
    added = (beta << 8) + ((1 << out_shift) >> 1)
    left = min(14, 32 - out_shift)
    right = 32 - out_shift - left
    if int(np.abs(gamma).max()).bit_length() + right > 31:
        return -1, gamma, added
    return left, gamma << right, added << (32 - out_shift)
