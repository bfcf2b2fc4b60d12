"""What attention masks say: which keys a query sees, and which key filter says the same.

A mask is padding at the end of each sequence, and a pattern over positions that a filter of
``golden.filters`` expresses. The pattern is fixed when the model is compiled, the lengths are read
from every run's masks, and what is not such a mask is noticed before anything is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from transept.golden.filters import Causal, Dense, KeyFilter, Window
from transept.golden.filters.window import REACH_BITS

if TYPE_CHECKING:
    from transept.host.front.matches import AttentionMatch, Mask

__all__ = ["MASKED", "MaskError", "describe", "is_mask", "key_lengths"]

#: Nothing survives a softmax that had this added to its score.
MASKED = -1e4


class MaskError(ValueError):
    """A run's mask is not what the model was compiled for; the message names the attention."""


def is_mask(mask: Mask, value: torch.Tensor) -> bool:
    """Whether a tensor only lets scores pass or drops them."""
    if mask.kind != "add":
        return value.dtype == torch.bool
    if value.dtype == torch.bool:
        return False
    return bool(((value == 0) | (value * mask.factor <= MASKED)).all())


def describe(match: AttentionMatch, values: Mapping[fx.Node, Any]) -> KeyFilter | None:
    """The filter that keeps the same keys as the masks do; None if there is none."""
    kept = _kept(match, [values[mask.node] for mask in match.masks])
    if kept is None:
        return None
    lengths = _lengths(kept)
    rule = _rule(match, kept, lengths)
    return rule if _agrees(match, kept, lengths, rule) else None


def key_lengths(match: AttentionMatch, masks: list[torch.Tensor]) -> list[int]:
    """Real keys of every sequence, from the values of the masks in one run.

    Raises
    ------
    MaskError
        If the masks say anything else than the filter and a length for every sequence.
    """
    kept = None
    if all(is_mask(mask, value) for mask, value in zip(match.masks, masks, strict=True)):
        kept = _kept(match, masks)
    if kept is None:
        raise MaskError(f"mask of {match.name} is a bias, or differs from head to head")
    lengths = _lengths(kept)
    if not _agrees(match, kept, lengths, match.filter):
        kind = match.filter.kind.name.lower()
        raise MaskError(
            f"mask of {match.name} is not {kind} with padding at the end, as it was on the example"
        )
    return lengths


def _kept(match: AttentionMatch, masks: list[torch.Tensor]) -> torch.Tensor | None:
    """bool[batch, t, s]; None if the heads of a sequence differ."""
    (batch, t), s = match.queries.shape, match.keys.shape[1]
    kept = torch.ones(batch, t, s, dtype=torch.bool)
    if match.causal:
        kept &= torch.ones(t, s, dtype=torch.bool).tril()
    for mask, value in zip(match.masks, masks, strict=True):
        passes = {"add": value == 0, "keep": value, "drop": value == 0}[mask.kind]
        part = _by_sequence(match, mask, passes, (t, s))
        if part is None:
            return None
        kept &= part
    return kept


def _by_sequence(
    match: AttentionMatch, mask: Mask, passes: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor | None:
    """The mask of every sequence, bool[batch, t, s]; None if its heads have different ones, or it
    makes more scores of fewer."""
    whole = (*match.leading, *shape)
    if math.prod(mask.shape) != math.prod(whole):
        return None
    varied = math.prod(passes.shape[:-2]) > 1 or mask.shape != whole
    slices = passes.expand(mask.shape).reshape(whole)
    batch = len(match.queries)
    first = [int((match.slices == b).nonzero()[0]) for b in range(batch)]
    picked = torch.stack([slices[np.unravel_index(i, match.leading)] for i in first])
    if varied:
        for index, sequence in enumerate(match.slices.tolist()):
            if index in first:
                continue
            if not torch.equal(slices[np.unravel_index(index, match.leading)], picked[sequence]):
                return None
    return picked


def _lengths(kept: torch.Tensor) -> list[int]:
    """One behind the last key that any query of a sequence sees, at least 1."""
    seen = kept.any(1)  # (batch, s)
    positions = torch.arange(1, seen.shape[1] + 1)
    return (seen * positions).amax(1).clamp(min=1).tolist()


def _rule(match: AttentionMatch, kept: torch.Tensor, lengths: list[int]) -> KeyFilter:
    """The narrowest of the filters that keeps at least what the masks keep."""
    t, s = kept.shape[1:]
    distance = torch.arange(t)[:, None] - torch.arange(s)
    if not kept.any() or _agrees(match, kept, lengths, Dense()):
        return Dense()
    before = int(distance.expand_as(kept)[kept].max())
    after = int((-distance).expand_as(kept)[kept].max())
    if after <= 0 and before >= max(lengths) - 1:
        return Causal()
    most = (1 << REACH_BITS) - 1
    return Window(min(max(before, 0), most), min(max(after, 0), most))


def _rows_that_count(match: AttentionMatch, kept: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """bool[batch, t]: query rows whose results count. Padding may see nothing at all; what is
    padding can only be told where queries are the keys' rows."""
    if match.queries.shape != match.keys.shape:
        return torch.ones(kept.shape[:2], dtype=torch.bool)
    return kept.any(2) | (torch.arange(kept.shape[1]) < torch.tensor(lengths)[:, None])


def _agrees(match: AttentionMatch, kept: torch.Tensor, lengths: list[int], rule: KeyFilter) -> bool:
    """Whether the filter and the lengths keep exactly the same keys, for every row that counts."""
    t, s = kept.shape[1:]
    query, key = torch.arange(t)[:, None], torch.arange(s)
    pattern = torch.as_tensor(rule.sees(query, key)) & (key < torch.tensor(lengths)[:, None, None])
    rows = _rows_that_count(match, kept, lengths)[:, :, None]
    return not bool(((kept != pattern) & rows).any())
