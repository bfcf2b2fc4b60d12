"""The softmax engine against ``softmax_rows``."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.softmax.engine import SoftmaxEngine

#: (rows, key tiles)
SHAPES = {
    TINY.name: [(1, 1), (7, 3), (16, 5), (9, 16)],
    PYNQ_Z2.name: [(3, 64), (18, 2)],
}
REFUSALS = [0.0, 0.3, 0.8]


@pytest.mark.parametrize("cfg", SIZES, ids=named)
def test_softmax(cfg):
    shapes = SHAPES[cfg.name]
    facts = {"shapes": shapes, "refusals": REFUSALS}
    assert prove(SoftmaxEngine(cfg), "softmax", cfg, **facts) == 15 * len(shapes) + 3
