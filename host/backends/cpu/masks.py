"""Which keys an attention sees, as what is added to scores: 0, or so much that no level is left."""

from __future__ import annotations

import torch

from transept.golden.filters import TileThreshold
from transept.golden.filters.tile_threshold import ESTIMATE_SHIFT
from transept.golden.ops import Attention

__all__ = ["Mask"]

#: Added to the score of a key that is not seen. Levels end 2,816 below the largest score seen, or
#: below -32,768 if there is none.
HIDDEN = -float(1 << 17)


class Mask:
    """What lengths and filter hide in one run.

    q: [batch, heads, queries, d], k: [batch, heads, length, d], of any type; lengths: real keys of
    each sequence; first: position of its first query. Parts of it are slices of these; lists hold a
    tensor, or none where every key is seen.
    """

    def __init__(
        self,
        op: Attention,
        q: torch.Tensor,
        k: torch.Tensor,
        lengths: list[int],
        first: list[int],
    ) -> None:
        self._op, self._lengths, self._first = op, lengths, first
        self._tiles = self._kept_tiles(q, k) if isinstance(op.filter, TileThreshold) else None

    def positions(self, sequences: slice, queries: slice, keys: int) -> list[torch.Tensor]:
        """float32, broadcastable to [batch, heads, queries, keys]: what positions say, and padding
        among the first ``keys``."""
        key, lengths = torch.arange(keys), self._lengths[sequences]
        position = torch.arange(queries.start, queries.stop)[:, None]
        first = self._first[sequences]
        if len(set(first)) == 1:  # one mask serves all
            position = position + first[0]
        else:
            position = position + torch.tensor(first)[:, None, None, None]
        seen = self._op.filter.sees(position, key)
        if min(lengths) < keys:
            seen = (key < torch.tensor(lengths)[:, None, None, None]) & seen
        return [] if seen is True else [_hidden(seen)]

    def tiles(
        self, sequences: slice, heads: slice, queries: slice, keys: int
    ) -> list[torch.Tensor]:
        """float32[batch, heads, queries, keys]: what a filter says of the data."""
        if self._tiles is None:
            return []
        rows = torch.arange(queries.start, queries.stop) // self._op.block
        columns = torch.arange(keys) // self._op.block
        return [_hidden(self._tiles[sequences, heads][:, :, rows][..., columns])]

    def _kept_tiles(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """``TileThreshold``: bool[batch, heads, query blocks, key tiles]; among tiles beyond the
        length of a sequence, too."""
        block, rule = self._op.block, self._op.filter
        assert isinstance(rule, TileThreshold)
        lengths = torch.tensor(self._lengths)[:, None, None, None]
        exists = torch.arange(k.shape[2])[:, None] < lengths
        query_sums, key_sums = _block_sums(q, block), _block_sums(k * exists, block)
        estimate = (query_sums @ key_sums.transpose(2, 3)).long() >> ESTIMATE_SHIFT
        ends = torch.arange(1, key_sums.shape[2] + 1) * block
        return (estimate >= rule.threshold) | (ends > lengths)


def _hidden(seen: torch.Tensor) -> torch.Tensor:
    return (~seen).float().mul_(HIDDEN)


def _block_sums(x: torch.Tensor, block: int) -> torch.Tensor:
    """float64[batch, heads, blocks, d]: sums of ``block`` rows, the last ones may be fewer."""
    padded = torch.nn.functional.pad(x.double(), (0, 0, 0, -x.shape[2] % block))
    return torch.unflatten(padded, 2, (-1, block)).sum(3)
