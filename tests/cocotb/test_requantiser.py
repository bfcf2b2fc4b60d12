"""The epilogue's requantiser lanes against ``requantise``."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.rtl.gemm.requantise import Requantiser


@pytest.mark.parametrize("cfg", SIZES, ids=named)
def test_requantiser(cfg):
    assert prove(Requantiser(cfg), "requantiser", cfg) == 3
