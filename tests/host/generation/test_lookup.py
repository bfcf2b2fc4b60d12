"""Drafts from what was there before."""

import pytest

from transept.host.generation.lookup import LONGEST_MATCH, draft


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        ([], []),
        ([1], []),
        ([1, 2, 3], []),
        ([1, 1], [1]),
        ([1, 2, 3, 1], [2, 3, 1]),
        ([1, 2, 9, 1, 3, 9, 1], [3, 9, 1]),  # the latest place
        ([5, 1, 2, 7, 6, 1, 2, 8, 5, 1, 2], [7, 6, 1]),  # the longest match
        ([4, 4, 4], [4]),
    ],
)
def test_what_follows_the_same_tokens(tokens, wanted):
    assert draft(tokens, 3) == wanted


def test_no_more_than_asked_for():
    assert draft([1, 2, 3, 4, 1], 2) == [2, 3]
    assert draft([1, 2, 1], 0) == []
    longest = list(range(LONGEST_MATCH + 2))
    assert draft([*longest, 99, *longest[1:], 88, *longest], 1) == [88]
