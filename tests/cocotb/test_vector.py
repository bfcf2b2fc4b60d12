"""The vector unit against ``golden.numerics.norm``."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.golden.config import TINY
from transept.rtl.vector.engine import VectorEngine


def shapes_of(cfg):
    """(rows, elements, residual)"""
    if cfg in (TINY, NO_SLICES):
        return [(16, 2, True), (15, 4, False), (9, 23, True), (1, 16, True), (4, 128, True)]
    return [(4, cfg.geometry.max_hidden, True), (4, 384, True), (4, 100, True), (4, 37, False)]


NO_SLICES = TINY.replace(name="no_dsp_slices", dsp_chain=1)


@pytest.mark.parametrize("cfg", [*SIZES, NO_SLICES], ids=named)
def test_vector(cfg):
    shapes = shapes_of(cfg)
    assert prove(VectorEngine(cfg), "vector", cfg, shapes=shapes) == 17 * len(shapes) + 44
