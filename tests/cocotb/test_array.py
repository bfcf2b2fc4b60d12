"""The systolic array against NumPy."""

import pytest
from settings import prove

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.gemm.array import SystolicArray

CONFIGS = {
    "tiny": TINY,
    "half_chains": TINY.replace(name="half_chains", dsp_chain=2),
    "single_rows": TINY.replace(name="single_rows", dsp_chain=1),
    "pynq_z2": PYNQ_Z2,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_array(name):
    assert prove(SystolicArray(CONFIGS[name]), "array", CONFIGS[name]) == 12
