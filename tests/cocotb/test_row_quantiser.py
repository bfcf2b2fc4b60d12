"""The row quantiser against ``quantise_row``."""

import pytest
from settings import prove

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.arith.row_quantiser import RowQuantiser


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_row_quantiser(cfg):
    assert prove(RowQuantiser(cfg), "row_quantiser", cfg) == 6
