"""The vector unit against ``golden.numerics.norm``."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.vector.engine import VectorEngine

#: (rows, elements, residual)
SHAPES = {
    TINY.name: [(16, 2, True), (15, 4, False), (9, 23, True), (1, 16, True), (4, 128, True)],
    PYNQ_Z2.name: [(4, 1024, True), (4, 384, True), (4, 100, True), (4, 37, False)],
}


@pytest.mark.parametrize("cfg", SIZES, ids=named)
def test_vector(cfg):
    shapes = SHAPES[cfg.name]
    assert prove(VectorEngine(cfg), "vector", cfg, shapes=shapes) == 9 * len(shapes) + 11
