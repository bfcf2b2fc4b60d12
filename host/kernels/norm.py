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
    after_those_before,
    fixed_tables,
    high,
    launch_options,
    quantised,
    round_shift,
    row_factors,
    rsqrt,
    saturate,
    wide_round_shift,
)
from transept.host.kernels.rows import Rows, chunks_of, places, rows_at_once

__all__ = ["NormKernel"]


#: Of a program on many rows, with a warp for each as long as a GPU has them.
ELEMENTS, MOST_WARPS = 4096, 32


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
    CHUNKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    after_those_before(ASM)
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    squares = tl.zeros((ROWS, BLOCK), tl.int64)
    total = tl.zeros((ROWS, BLOCK), tl.int32)  # of up to 7 chunks of 24 bits
    part = tl.zeros((ROWS, BLOCK), tl.int32)
    zs = ()
    for chunk in tl.static_range(CHUNKS):
        column = chunk * BLOCK + tl.arange(0, BLOCK)
        known = column < width
        inside = (row < count)[:, None] & known[None, :]
        z = tl.load(places(y_ptr, row, column, y_stride), mask=inside, other=0).to(tl.int32)
        z = z << tl.load(y_shift_ptr + column, mask=known, other=0)[None, :]
        if RESIDUAL:
            x = tl.load(places(x_ptr, row, column, x_stride), mask=inside, other=0).to(tl.int32)
            z = z + (x << tl.load(x_shift_ptr + column, mask=known, other=0)[None, :])
        z = saturate(z, 24)
        if SUM:
            shift = tl.load(sum_shift_ptr + column, mask=known, other=0)[None, :]
            kept = saturate((z + ((1 << shift) >> 1)) >> shift, 16).to(tl.int16)
            tl.store(places(sum_ptr, row, column, sum_stride), kept, mask=inside)
        w = saturate(round_shift(z, 6), 18)
        squares += w.to(tl.int64) * w.to(tl.int64)
        total += z
        part += w
        zs = zs + (z,)
    if NORMALISE:
        v = width.to(tl.int64) * tl.sum(squares, 1) + epsilon
        mean = tl.zeros((ROWS,), tl.int32)
        if CENTRE:
            mean = round_shift(tl.sum(total.to(tl.int64), 1) * inverse, 15 + BITS).to(tl.int32)
            parts = tl.sum(part.to(tl.int64), 1)
            v = v - parts * parts
        mantissa, exponent = rsqrt(tables_ptr, tl.maximum(v, 1))
        shift = 11 - BITS + exponent
        largest = tl.zeros((ROWS,), tl.int32)
        outs = ()
        for chunk in tl.static_range(CHUNKS):
            column = chunk * BLOCK + tl.arange(0, BLOCK)
            known = column < width
            inside = (row < count)[:, None] & known[None, :]
            # a difference from the mean is below 2**24: 25 bits hold it
            u = _normalised(zs[chunk] - mean[:, None], mantissa, shift, ASM)
            gamma = tl.load(gamma_ptr + column, mask=known, other=0)[None, :]
            beta = tl.load(beta_ptr + column, mask=known, other=0)[None, :]
            if OUT_LEFT >= 0:  # gamma and beta are shifted for a product's upper half
                gamma, beta = tl.broadcast_to(gamma, u.shape), tl.broadcast_to(beta, u.shape)
                out = high(u << OUT_LEFT, gamma, beta, ASM)
            else:
                product = u.to(tl.int64) * gamma.to(tl.int64) + beta
                out = (product >> OUT_SHIFT).to(tl.int32)
            out = saturate(out, 16)
            if KEEP:
                to = places(out_ptr, row, column, out_stride)
                tl.store(to, out.to(tl.int16), mask=inside)
            if QUANTISE:
                # gamma and beta are 0 beyond the row, and so is the result
                largest = tl.maximum(largest, tl.max(tl.abs(out), 1))
            outs = outs + (out,)
        if QUANTISE:
            largest, factor = row_factors(tables_ptr, largest)
            tl.store(multiplier_ptr + row, largest, mask=row < count)
            for chunk in tl.static_range(CHUNKS):
                column = chunk * BLOCK + tl.arange(0, BLOCK)
                inside = (row < count)[:, None] & (column < width)[None, :]
                q = quantised(outs[chunk], factor, ASM)
                tl.store(places(q_ptr, row, column, q_stride), q, mask=inside)


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
        count, (chunks, block) = len(y), chunks_of(self._width)
        at_once = rows_at_once(count, chunks * block, ELEMENTS)
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
            CHUNKS=chunks,
            BLOCK=block,
            num_warps=min(at_once, MOST_WARPS) if at_once > 1 else 4,
            **launch_options(count),
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
