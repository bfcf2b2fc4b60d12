"""Polynomials, reciprocals and the exponential against their golden functions."""

import pytest
from arithmetic import Arithmetic
from settings import prove

from transept.golden.config import TINY


@pytest.mark.parametrize("hls", [(), ("exponential", "rsqrt")], ids=["amaranth", "hls"])
def test_arithmetic(hls):
    cfg = TINY.replace(hls=hls)
    assert prove(Arithmetic(cfg), "arithmetic", cfg) == 13
