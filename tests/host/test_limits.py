"""Limits of the command line: what is just allowed, and what is not."""

import pytest

from transept.golden.config import TINY
from transept.host.limits import check_cycles, check_sequences


def test_tokens_of_a_program():
    check_sequences(tokens=64, batch=128)
    with pytest.raises(ValueError, match="1 x 8193 tokens exceed 8,192, the limit of a pro"):
        check_sequences(tokens=8193, batch=1)


def test_cycles_of_a_run():
    check_cycles("it", 5000, TINY, 5000)
    with pytest.raises(ValueError, match=r"it needs 5,001 cycles or more on tiny, .* is 5,000"):
        check_cycles("it", 5001, TINY, 5000)
