"""The epilogue's requantiser lanes against ``requantise``."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.rtl.gemm.requantise import Requantiser
from transept.rtl.hls.blocks import HlsRequantiser


@pytest.mark.parametrize("block", [Requantiser, HlsRequantiser])
@pytest.mark.parametrize("cfg", SIZES, ids=named)
def test_requantiser(cfg, block):
    assert prove(block(cfg), "requantiser", cfg) == 3
