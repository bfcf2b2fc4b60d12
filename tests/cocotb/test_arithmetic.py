"""Polynomials, reciprocals and the exponential against their golden functions."""

from arithmetic import Arithmetic
from settings import prove

from transept.golden.config import TINY


def test_arithmetic():
    assert prove(Arithmetic(), "arithmetic", TINY) == 13
