"""The constants of an ``Attention`` as kernels take them: nested roundings merge into one multiply-
add as long as nothing between them saturates, which is proved from the largest operands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from transept.golden.numerics.softmax import LEVELS
from transept.golden.ops import Attention
from transept.host.kernels.matmul import LIMIT25, left_shift

__all__ = ["AttentionBlocks", "ContextForm", "ScoreForm"]

#: Largest magnitude of an operand.
OPERAND = 127
#: Bits by which a row's mantissa, which has 17, may be shifted, and a 25-bit number.
MANTISSA_ROOM, ROOM25 = 14, 6
#: A row's largest level is 254, so the exponent of its sum is at least 7.
LEAST_EXPONENT = 7
#: Rows and columns of a tile at least, and rows of a warp: those of a warp group's product.
LEAST, WARP_ROWS = 64, 16


@dataclass(frozen=True)
class AttentionBlocks:
    """Queries and keys of a program's tile, and how it runs.

    m, n: powers of two from 64 on; warps: at most one for 16 queries, so that each has whole rows.
    registers: of a thread at most, as many as there are by default; parts: programs that share the
    queries of a head where each can hold all its keys, 0 where none shall.

    Raises
    ------
    ValueError
        If a tile is smaller, or rows would be of several warps: their maxima are a thread's.
    """

    m: int = 128
    n: int = 128
    warps: int = 4
    stages: int = 3
    registers: int | None = None
    parts: int = 0

    def __post_init__(self) -> None:
        for name, size in (("m", self.m), ("n", self.n)):
            if size < LEAST or size & (size - 1):
                raise ValueError(f"{name}={size} must be a power of two and at least {LEAST}")
        if self.warps * WARP_ROWS > self.m:
            raise ValueError(f"warps={self.warps} must be at most m / {WARP_ROWS}, m={self.m}")


@dataclass(frozen=True, eq=False)
class ScoreForm:
    """From products to scores.

    merged: whether the two roundings are one; clip: whether scores may saturate; left: bits by
    which a product is shifted; parameters: int32[2, heads], multipliers and shifts; half:
    int64[heads], what is added, with its point at bit 32.
    """

    merged: bool
    clip: bool
    left: int
    parameters: torch.Tensor
    half: torch.Tensor

    @classmethod
    def of(cls, op: Attention, depth: int, device: torch.device) -> ScoreForm:
        """depth: elements of a query."""
        multiplier, shift = op.score_multiplier, op.score_shift
        later = op.score_row_shift - 15  # the row multiplier of scores is 2**15
        largest = depth * OPERAND * OPERAND
        total = shift + later
        left = left_shift(multiplier, total, largest)
        v = (largest * multiplier >> shift) + 1
        merged, clip = later >= 0 and left is not None and v.max() <= LIMIT25, True
        half = np.zeros_like(shift)
        if left is not None and merged:
            clip = bool(((v >> later) + 1).max() > 32767)
            half = ((1 << shift) >> 1) + (((1 << later) >> 1) << shift) << (32 - total)
            multiplier = multiplier << (32 - total - left)
        parameters = torch.as_tensor(np.stack([multiplier, shift])).to(device, torch.int32)
        return cls(bool(merged), clip, left or 0, parameters, torch.as_tensor(half).to(device))


class ContextForm:
    """From sums of levels times values to rows of the output.

    channel: int32[3, heads * e], multipliers, shifts and biases; left: bits by which a sum is
    shifted if the row's rounding and the last one are one, -1 if they are not.
    """

    def __init__(self, op: Attention, device: torch.device) -> None:
        self._op = op
        multiplier, shift, bias = op.context.multiplier, op.context.shift, op.context.bias
        left = left_shift(multiplier, shift, LIMIT25)
        later = op.context_row_shift + op.context_out_shift
        short = LEAST_EXPONENT + later < 32 - MANTISSA_ROOM - ROOM25
        long = op.context_row_shift + 23 > 38
        hidden = LIMIT25 >> op.context_out_shift >= 32767
        if left is None or short or long or not hidden or bias.any():
            self.left = -1
        else:
            self.left = left
            multiplier = multiplier << (32 - shift - left)
        self.channel = torch.as_tensor(np.stack([multiplier, shift, bias])).to(device, torch.int32)

    def clip(self, keys: int) -> bool:
        """Whether 25 bits may not hold a sum over so many keys, or what its channel makes of it."""
        largest, channel = LEVELS * OPERAND * keys, self._op.context
        return largest > LIMIT25 or bool(
            ((largest * channel.multiplier >> channel.shift) + 1).max() > LIMIT25
        )

    def up(self, keys: int) -> int:
        """Bits by which a sum is shifted so that multipliers of all rows of so many keys have room
        for the rest of 32; -1 if there is no such number."""
        if self.left < 0:
            return -1
        rest = 32 - self._op.context_row_shift - self._op.context_out_shift
        least = max(0, rest - LEAST_EXPONENT - MANTISSA_ROOM)
        most = min(ROOM25, rest - (LEVELS * keys).bit_length() + 1)
        return least if least <= most else -1
