"""The stationary loader with its transposer, in front of the array, against NumPy."""

import pytest
from settings import prove
from stationary_system import LoaderAndArray

from transept.golden.config import PYNQ_Z2, TINY


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_stationary(cfg):
    assert prove(LoaderAndArray(cfg), "stationary", cfg) == 17
