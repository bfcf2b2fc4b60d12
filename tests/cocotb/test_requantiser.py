"""The epilogue's requantiser lanes against ``requantise``."""

import pytest
from settings import prove

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.gemm.requantise import Requantiser
from transept.rtl.hls.blocks import HlsRequantiser


@pytest.mark.parametrize("block", [Requantiser, HlsRequantiser])
@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_requantiser(cfg, block):
    assert prove(block(cfg), "requantiser", cfg) == 3
