"""What a mask says, worked out by hand: kinds, filters, lengths."""

import pytest
import torch
from matches import attention

from transept.golden.filters import Causal, Dense, Window
from transept.host.front import masks
from transept.host.front.masks import MASKED, MaskError, describe, is_mask, key_lengths
from transept.host.front.matches import Mask

INF = torch.inf


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ([0.0, MASKED, -INF], "add", True),
        ([0.0, MASKED + 1], "add", False),
        ([0.0, -1e4], "add", True),
        ([0.0, -9999.0], "add", False),
        ([1.0, -INF], "add", False),
        ([True, False], "add", False),
        ([True, False], "keep", True),
        ([True, False], "drop", True),
        ([1.0, 0.0], "keep", False),
    ],
)
def test_what_only_drops_scores_is_a_mask(value, kind, expected):
    assert is_mask(Mask(None, kind, ()), torch.tensor(value)) is expected


@pytest.mark.parametrize(("factor", "expected"), [(1, True), (1e-4, False), (-1, False), (2, True)])
def test_a_factor_counts(factor, expected):
    assert is_mask(Mask(None, "add", (), factor), torch.tensor([0.0, MASKED])) is expected


def one_head(t, s, *kinds, batch=1, **facts):
    """Attention of one head over sequences of t queries and s keys, with masks of these kinds."""
    sequences = {
        "queries": torch.arange(batch * t).reshape(batch, t),
        "keys": torch.arange(batch * s).reshape(batch, s),
        "leading": (batch, 1),
        "slices": torch.arange(batch),
    }
    sequences |= facts
    shape = (*sequences["leading"], t, s)
    sequences["masks"] = tuple(Mask(index, kind, shape) for index, kind in enumerate(kinds))
    return attention(1, 1, **sequences)


def kept(t, s, before, after):
    """bool[t, s]: keys so far before and after a query."""
    distance = torch.arange(s) - torch.arange(t)[:, None]
    return (distance >= -before) & (distance <= after)


@pytest.mark.parametrize(
    ("t", "s", "before", "after", "expected"),
    [
        (4, 4, 3, 3, Dense()),
        (4, 4, 3, 2, Window(3, 2)),
        (4, 4, 3, 1, Window(3, 1)),
        (4, 4, 2, 3, Window(2, 3)),
        (4, 4, 3, 0, Causal()),
        (4, 4, 2, 0, Window(2, 0)),
        (4, 4, 0, 0, Window(0, 0)),
        (4, 4, -1, 1, None),  # the first of a sequence sees itself, in every filter
        (2, 6, 1, 5, Dense()),
        (6, 2, 5, 1, Dense()),
        (1, 3, 0, 2, Dense()),
        (1, 3, 0, 0, Dense()),
        (6, 2, 5, 0, Causal()),
        (2, 6, 1, 1, Window(1, 1)),
    ],
)
def test_the_filter_of_a_band(t, s, before, after, expected):
    assert describe(one_head(t, s, "keep"), {0: kept(t, s, before, after)}) == expected


def test_an_attention_without_masks():
    assert describe(one_head(3, 3), {}) == Dense()
    for t, s in ((3, 3), (2, 6), (6, 2)):
        assert describe(one_head(t, s, causal=True), {}) == Causal()
    assert key_lengths(one_head(2, 3, batch=2), []) == [3, 3]


def test_all_masks_and_the_past_count():
    """Keys up to the query, at most two before it, of sequences of five and three."""
    near, real = kept(5, 5, 2, 9), torch.arange(5) < torch.tensor([5, 3])[:, None, None, None]
    match = one_head(5, 5, "add", "drop", batch=2, causal=True)
    given = [torch.where(near, 0.0, -1e9), ~real]
    assert describe(match, dict(enumerate(given))) == Window(2, 0)
    match.filter = Window(2, 0)
    assert key_lengths(match, given) == [5, 3]
    match.causal = False
    with pytest.raises(MaskError, match="is not window with padding at the end, as it was on the"):
        key_lengths(match, given)


def test_a_sequence_without_keys_is_no_mask():
    match, real = (
        one_head(2, 2, "keep", batch=2),
        torch.tensor([[[[True, True]]], [[[True, False]]]]),
    )
    assert key_lengths(match, [real]) == [2, 1]
    with pytest.raises(MaskError, match="mask of attention is not dense with padding at the end"):
        key_lengths(match, [real & real[1:].flip(-1)])


def test_heads_of_one_sequence_have_one_mask():
    """Whichever of them comes first in the scores."""
    heads = {"leading": (2, 2), "slices": torch.tensor([0, 1, 0, 1])}
    first, second = kept(3, 3, 2, 2), kept(3, 3, 2, 2) & (torch.arange(3) < 2)
    same = torch.stack([first, second] * 2).reshape(2, 2, 3, 3)
    other = torch.stack([first, second, second, second]).reshape(2, 2, 3, 3)
    match = one_head(3, 3, "keep", batch=2, **heads)
    assert key_lengths(match, [same]) == [3, 2]
    assert describe(match, {0: same}) == Dense()
    assert describe(match, {0: other}) is None
    for wrong in (other, torch.zeros(3, 3)):
        with pytest.raises(MaskError, match="mask of attention is a bias, or differs from head to"):
            key_lengths(match, [wrong])


@pytest.mark.parametrize("leading", [(2,), (1, 2), (1, 1, 2)])
def test_two_heads_of_one_sequence_have_one_mask(leading):
    match = one_head(2, 2, "keep", leading=leading, slices=torch.tensor([0, 0]))
    same = torch.ones(*leading, 2, 2, dtype=torch.bool)
    other = torch.stack([kept(2, 2, 1, 1), kept(2, 2, 1, 0)]).reshape(*leading, 2, 2)
    assert describe(match, {0: same}) == Dense()
    assert describe(match, {0: other}) is None


def test_rows_behind_a_sequence_may_see_nothing_if_they_are_its_keys():
    """Queries of another sequence all count, and so does a row that sees something else: whoever
    called the model gets it back."""
    seen = torch.tensor([[True, False, False], [True, True, False], [False, False, False]])
    match = one_head(3, 3, "keep")
    assert describe(match, {0: seen}) == Causal()
    assert describe(one_head(4, 3, "keep"), {0: torch.cat([seen, seen[2:]])}) is None
    for row in ([False, True, False], [True, False, False]):
        assert describe(match, {0: torch.cat([seen[:2], torch.tensor([row])])}) is None
    assert (
        describe(match, {0: torch.cat([seen[:2], torch.tensor([[True, True, False]])])}) == Causal()
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"), [(7, 1, Window(7, 1)), (1, 7, Window(1, 7)), (8, 1, None)]
)
def test_a_window_reaches_as_far_as_its_registers(before, after, expected, monkeypatch):
    monkeypatch.setattr(masks, "REACH_BITS", 3)
    assert describe(one_head(12, 12, "keep"), {0: kept(12, 12, before, after)}) == expected
