"""The stationary loader with its transposer, in front of the array, against NumPy."""

import pytest
from settings import prove
from sizes import SIZES, named
from stationary_system import LoaderAndArray


@pytest.mark.parametrize("cfg", SIZES, ids=named)
def test_stationary(cfg):
    assert prove(LoaderAndArray(cfg), "stationary", cfg) == 18
