"""The softmax engine against ``softmax_rows``."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.golden.config import TINY
from transept.rtl.softmax.engine import SoftmaxEngine

REFUSALS = [0.0, 0.3, 0.8]


def shapes_of(cfg):
    """(rows, key tiles)"""
    if cfg is TINY:
        return [(1, 1), (7, 3), (16, 5), (9, 16)]
    return [(3, cfg.geometry.max_keys // cfg.tile), (18, 2)]


@pytest.mark.parametrize("cfg", SIZES, ids=named)
def test_softmax(cfg):
    shapes = shapes_of(cfg)
    facts = {"shapes": shapes, "refusals": REFUSALS}
    assert prove(SoftmaxEngine(cfg), "softmax", cfg, **facts) == 15 * len(shapes) + 3
