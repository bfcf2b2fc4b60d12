"""The longest row whose normalised values have all their fractional bits."""

import dataclasses

import pytest

from transept.golden.config import TINY
from transept.rtl.vector.row_scalars import U_FRACTION_BITS, RowScalars


def test_the_longest_row():
    most = 1 << U_FRACTION_BITS
    made = [
        dataclasses.replace(TINY, geometry=dataclasses.replace(TINY.geometry, max_hidden=hidden))
        for hidden in (most, most + 1)
    ]
    RowScalars(made[0])
    with pytest.raises(ValueError, match=r"^max_hidden=2049 must be at most 2048: "):
        RowScalars(made[1])
