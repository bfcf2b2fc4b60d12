"""INT8 matrix products with the requantiser in the epilogue.

Nested roundings merge: what follows the channel's multiplication is one multiply-add,

    y = floor((v r + B) / 2**T),   T = row_shift + out_shift,
    B = 2**(row_shift - 1) + (bias + 2**(out_shift - 1)) 2**row_shift,

as long as nothing between them saturates. That is proved when weights are prepared, from the sums
of their magnitudes; layers of which it cannot be proved take the requantiser step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from transept.golden.numerics.requantise import ONE, ChannelParameters
from transept.golden.ops import Linear
from transept.host.kernels.arithmetic import (
    ASM,
    after_those_before,
    high,
    launch_options,
    saturate,
    wide_round_shift,
)
from transept.host.kernels.rows import ALIGNMENT, Rows

__all__ = ["Blocks", "LinearKernel", "Merged", "joinable", "left_shift", "merged"]

#: Largest magnitude of a 25-bit number.
LIMIT25 = (1 << 24) - 1
#: Largest row multiplier.
MOST = ONE


@dataclass(frozen=True)
class Blocks:
    """Sizes of a program's tile, and how it runs; group: row blocks that run together."""

    m: int = 128
    n: int = 128
    k: int = 128
    warps: int = 4
    stages: int = 3
    group: int = 8


@dataclass(frozen=True)
class Merged:
    """Constants of the merged requantiser.

    left: bits by which accumulators are shifted first; multiplier: int32[n], so that the channel's
    shift is 32 bits; addend: int64[n], ``B`` with its point at bit 32; row_left, value_left[n]:
    bits by which row multipliers and ``v`` are shifted for that; clip: whether accumulators may
    exceed 25 bits.
    """

    left: int
    multiplier: np.ndarray
    addend: np.ndarray
    row_left: int
    value_left: np.ndarray
    clip: bool


def left_shift(multiplier: np.ndarray, shift: np.ndarray, largest: int) -> int | None:
    """The fewest bits by which a factor of at most ``largest`` is shifted, so that multipliers
    shifted for the rest of 32 bits fit, too; None if there is no such number."""
    bits = np.array([int(m).bit_length() for m in multiplier])
    left = max(0, int((bits + 32 - shift).max()) - 31)
    fits = left <= min(31 - largest.bit_length(), 32 - int(shift.max()))
    return left if fits else None


def merged(ops: Sequence[Linear], bits: int) -> Merged | None:
    """The merged form of layers side by side with results of ``bits``; None if a step between may
    saturate in a way that can be seen, or a constant is too long."""
    channel, o = stacked(ops), ops[0].out_shift
    t = np.repeat([op.row_shift for op in ops], [len(op.weight) for op in ops])
    largest = 127 * np.concatenate([np.abs(op.weight.astype(np.int64)).sum(1) for op in ops])
    clip = bool(largest.max() > LIMIT25)
    largest = np.minimum(largest, LIMIT25)
    left = left_shift(channel.multiplier, channel.shift, int(largest.max()))
    v = (largest * channel.multiplier >> channel.shift) + 1
    z = (v * MOST >> t) + 1
    half_t, half_o = (1 << t) >> 1, (1 << o) >> 1
    # where z saturates, the result does so too
    most, bias = (1 << bits - 1) - 1, int(np.abs(channel.bias).max())
    hidden = LIMIT25 - bias + half_o >> o >= most and bias - LIMIT25 + half_o >> o <= -most
    up = 32 - t - o
    row_left = min(int(up.min()), 15)
    if (
        left is None
        or v.max() > LIMIT25
        or (z.max() > LIMIT25 and not hidden)
        or up.min() < 0
        or up.max() > row_left + 6
    ):
        return None
    multiplier = channel.multiplier << (32 - channel.shift - left)
    addend = (half_t + ((channel.bias + half_o) << t)) << up
    return Merged(left, multiplier, addend, row_left, up - row_left, clip)


def stacked(ops: Sequence[Linear]) -> ChannelParameters:
    """Channel parameters of layers side by side."""
    names = ("multiplier", "shift", "bias")
    return ChannelParameters(
        *(np.concatenate([getattr(op.channel, name) for op in ops]) for name in names)
    )


def joinable(ops: Sequence[Linear], bits: int) -> bool:
    """Whether layers of the same rows can be one product with results of ``bits``."""
    if len({op.out_shift for op in ops}) > 1 or any(op.table is not None for op in ops):
        return False
    return len({op.row_shift for op in ops}) == 1 or merged(ops, bits) is not None


@triton.jit
def _matmul(
    x_desc,
    w_desc,
    y_desc,
    row_ptr,
    multiplier_ptr,
    addend_ptr,
    shift_ptr,
    maxima_ptr,
    m,
    n,
    k,
    one,
    LEFT: tl.constexpr,
    ROW_LEFT: tl.constexpr,
    VALUE_LEFT: tl.constexpr,
    UNLIKE: tl.constexpr,
    CLIP: tl.constexpr,
    MERGED: tl.constexpr,
    ROW_SHIFT: tl.constexpr,
    OUT_SHIFT: tl.constexpr,
    DYNAMIC: tl.constexpr,
    MAXIMA: tl.constexpr,
    BITS: tl.constexpr,
    ASM: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
):
    after_those_before(ASM)
    rows, columns = tl.cdiv(m, BM), tl.cdiv(n, BN)
    program = tl.program_id(0)
    first = program // (GROUP * columns) * GROUP
    height = tl.minimum(rows - first, GROUP)
    inner = program % (GROUP * columns)
    at_m, at_n = (first + inner % height) * BM, inner // height * BN
    acc = tl.zeros((BM, BN), tl.int32)
    for at_k in range(0, k, BK):
        x = x_desc.load([at_m, at_k])
        w = w_desc.load([at_n, at_k])
        acc = tl.dot(x, w.T, acc, out_dtype=tl.int32)
    row, column = at_m + tl.arange(0, BM), at_n + tl.arange(0, BN)
    inside = column < n
    multiplier = tl.load(multiplier_ptr + column, mask=inside, other=0)[None, :]
    addend = tl.load(addend_ptr + column, mask=inside, other=0)[None, :]
    scale = one
    if DYNAMIC:
        scale = tl.load(row_ptr + row, mask=row < m, other=0)[:, None]
    if CLIP:
        acc = saturate(acc, 25)
    if MERGED:
        half = tl.zeros((BM, BN), tl.int64) + (1 << 31)
        v = high(acc << LEFT, tl.broadcast_to(multiplier, (BM, BN)), half, ASM)
        scale = tl.zeros((BM, BN), tl.int32) + (scale << ROW_LEFT)
        if UNLIKE:  # layers whose row shifts differ
            v = v << tl.load(shift_ptr + column, mask=inside, other=0)[None, :]
        y = high(v << VALUE_LEFT, scale, tl.broadcast_to(addend, (BM, BN)), ASM)
    else:
        shift = tl.load(shift_ptr + column, mask=inside, other=0).to(tl.int64)[None, :]
        v = saturate(wide_round_shift(acc.to(tl.int64) * multiplier, shift), 25)
        half_row: tl.constexpr = (1 << ROW_SHIFT) >> 1
        half_out: tl.constexpr = (1 << OUT_SHIFT) >> 1
        z = saturate((v * scale + half_row) >> ROW_SHIFT, 25)
        y = ((z + addend + half_out) >> OUT_SHIFT).to(tl.int32)
    y = saturate(y, BITS)
    if MAXIMA:
        tl.atomic_max(maxima_ptr + row, tl.max(tl.abs(y), 1), mask=row < m, sem="relaxed")
    y_desc.store([at_m, at_n], y.to(tl.int16 if BITS == 16 else tl.int8))


class LinearKernel:
    """Layers of the same rows side by side, their weights on a device. Activations are for whoever
    reads the result.

    weights: int8[n, k padded]. ``bits``: of the result before the activation.
    """

    def __init__(self, ops: Sequence[Linear], bits: int, device: torch.device) -> None:
        weight = np.concatenate([op.weight for op in ops])
        n, k = weight.shape
        padded = np.zeros((n, -(-k // ALIGNMENT) * ALIGNMENT), np.int8)
        padded[:, :k] = weight
        self.weights = torch.as_tensor(padded).to(device)
        self.bits, self._op, self._merged = bits, ops[0], merged(ops, bits)
        channel, known = stacked(ops), self._merged
        self._unlike = known is not None and len(set(known.value_left)) > 1
        constants = {
            torch.int32: channel.multiplier if known is None else known.multiplier,
            torch.int64: channel.bias if known is None else known.addend,
        }
        self._multiplier, self._addend = (
            torch.as_tensor(np.ascontiguousarray(values)).to(device, dtype)
            for dtype, values in constants.items()
        )
        shift = channel.shift if known is None else known.value_left
        self._shift = torch.as_tensor(np.ascontiguousarray(shift)).to(device, torch.int32)

    def __call__(
        self,
        x: Rows,
        y: torch.Tensor,
        *,
        dynamic: bool,
        maxima: torch.Tensor | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        """y: int16 or int8 [m, n padded to 16 bytes a row]; dynamic: rows have multipliers of their
        own; maxima: int32[m], raised to the largest magnitude of each row."""
        blocks = blocks or Blocks()
        m, (n, k) = len(x.elements), self.weights.shape
        known, op = self._merged, self._op
        grid = (triton.cdiv(m, blocks.m) * triton.cdiv(n, blocks.n),)
        _matmul[grid](
            TensorDescriptor.from_tensor(x.elements, [blocks.m, blocks.k]),
            TensorDescriptor.from_tensor(self.weights, [blocks.n, blocks.k]),
            TensorDescriptor.from_tensor(y, [blocks.m, blocks.n]),
            x.multiplier,
            self._multiplier,
            self._addend,
            self._shift,
            x.multiplier if maxima is None else maxima,
            m,
            n,
            k,
            ONE,
            LEFT=known.left if known else 0,
            ROW_LEFT=known.row_left if known else 0,
            VALUE_LEFT=int(known.value_left[0]) if known and not self._unlike else 0,
            UNLIKE=self._unlike,
            CLIP=known.clip if known else True,
            MERGED=known is not None,
            ROW_SHIFT=op.row_shift,
            OUT_SHIFT=op.out_shift,
            DYNAMIC=dynamic,
            MAXIMA=maxima is not None,
            BITS=self.bits,
            ASM=ASM,
            BM=blocks.m,
            BN=blocks.n,
            BK=blocks.k,
            GROUP=blocks.group,
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            **launch_options(m),
        )
