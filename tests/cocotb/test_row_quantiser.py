"""The row quantiser against ``quantise_row``."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.rtl.arith.row_quantiser import RowQuantiser


@pytest.mark.parametrize("cfg", SIZES, ids=named)
def test_row_quantiser(cfg):
    assert prove(RowQuantiser(cfg), "row_quantiser", cfg) == 6
