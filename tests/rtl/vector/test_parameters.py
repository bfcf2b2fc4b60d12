"""A written word lies within one row of parameters."""

import pytest
from unused import unused

from transept.golden.config import TINY
from transept.golden.layouts import RECORD_BYTES
from transept.rtl.vector.parameters import ParameterMemory


def test_the_fewest_lanes_of_a_tile():
    with unused():
        ParameterMemory(TINY.replace(vector_lanes=1, tile=RECORD_BYTES))
        with pytest.raises(ValueError, match=r"^vector_lanes=1 must be at least tile / 8: "):
            ParameterMemory(TINY.replace(vector_lanes=1, tile=2 * RECORD_BYTES))
