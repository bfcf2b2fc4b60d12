"""Which tiles of queries and keys an attention computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from transept.golden.filters import TileThreshold
from transept.golden.filters.tile_threshold import ESTIMATE_SHIFT
from transept.golden.ops import Attention

__all__ = ["KeptTiles", "threshold_tiles"]


@dataclass(frozen=True, eq=False)
class KeptTiles:
    """Which tiles of queries and keys are computed.

    count: int32[batch, heads, query tiles]; tiles: int32[batch, heads, query tiles, key tiles], the
    kept ones first, ascending; fine: int8[batch, heads, query blocks, key blocks], which blocks of
    ``block`` rows within them, if that is told.
    """

    count: torch.Tensor
    tiles: torch.Tensor
    fine: torch.Tensor | None = None
    block: int = 0

    @classmethod
    def of(cls, kept: torch.Tensor, fine: torch.Tensor | None = None, block: int = 0) -> KeptTiles:
        """kept: bool[batch, heads, query tiles, key tiles]."""
        order = torch.sort((~kept).to(torch.int8), dim=-1, stable=True).indices.to(torch.int32)
        return cls(kept.sum(-1, dtype=torch.int32).contiguous(), order.contiguous(), fine, block)


def threshold_tiles(
    op: Attention, q: torch.Tensor, k: torch.Tensor, keys: torch.Tensor, m: int, n: int
) -> KeptTiles:
    """What ``TileThreshold`` keeps, by its estimates, in tiles of m queries and n keys.

    q: int8[batch, queries, heads * d], k: int8[batch, length, ..]; keys: int32[batch].
    """
    block = op.block
    assert isinstance(op.filter, TileThreshold)
    exists = torch.arange(k.shape[1], device=k.device) < keys[:, None]
    query_sums = _block_sums(q, op.heads, block)
    key_sums = _block_sums(k * exists[..., None], op.kv_heads, block)
    key_sums = key_sums.repeat_interleave(op.heads // op.kv_heads, 1)
    estimate = (query_sums @ key_sums.transpose(-1, -2)).long() >> ESTIMATE_SHIFT
    ends = (torch.arange(key_sums.shape[2], device=k.device) + 1) * block
    partial = (ends > keys[:, None])[:, None, None]
    fine = (estimate >= op.filter.threshold) | partial
    fine &= (ends - block < keys[:, None])[:, None, None]
    coarse = _coarse(_coarse(fine, -1, n // block), -2, m // block)
    return KeptTiles.of(coarse, fine.to(torch.int8).contiguous(), block)


def _block_sums(rows: torch.Tensor, heads: int, block: int) -> torch.Tensor:
    """float64[batch, heads, blocks, d], sums of ``block`` rows."""
    batch, count, width = rows.shape
    padded = torch.nn.functional.pad(rows.double(), (0, 0, 0, -count % block))
    sums = padded.reshape(batch, -1, block, width).sum(2)
    return sums.reshape(batch, -1, heads, width // heads).transpose(1, 2)


def _coarse(kept: torch.Tensor, dim: int, factor: int) -> torch.Tensor:
    """Whether any of ``factor`` neighbours is kept."""
    spare = -kept.shape[dim] % factor
    padding = (0, spare) if dim == -1 else (0, 0, 0, spare)
    whole = torch.nn.functional.pad(kept, padding)
    return whole.unflatten(dim, (-1, factor)).any(dim)
