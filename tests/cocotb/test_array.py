"""The systolic array against NumPy."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.golden.config import TINY
from transept.rtl.gemm.array import SystolicArray

CHAINS = [
    TINY.replace(name="half_chains", dsp_chain=2),
    TINY.replace(name="single_rows", dsp_chain=1),
]


@pytest.mark.parametrize("cfg", [*SIZES, *CHAINS], ids=named)
def test_array(cfg):
    assert prove(SystolicArray(cfg), "array", cfg) == 12
