"""The blocks that have twins by high-level synthesis: either way the bits of golden."""

import pytest
from settings import prove
from twins import Twins

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.attention.filters.window import WindowFilter
from transept.rtl.gemm.interpolation import Interpolation
from transept.rtl.hls.blocks import HlsInterpolation, HlsWindowFilter


@pytest.mark.parametrize("block", [Interpolation, HlsInterpolation])
def test_interpolation(block):
    assert prove(block(), "interpolation", TINY) == 1


@pytest.mark.parametrize("block", [WindowFilter, HlsWindowFilter])
@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_window(cfg, block):
    assert prove(block(cfg), "window", cfg) == 2


def test_every_exponential():
    assert prove(Twins(), "twins", TINY) == 1
