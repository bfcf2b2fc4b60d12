"""The longest row whose normalised values have all their fractional bits."""

import dataclasses
import gc
import warnings

import pytest
from amaranth.hdl import UnusedElaboratable

from transept.golden.config import TINY
from transept.rtl.vector.row_scalars import U_FRACTION_BITS, RowScalars


def with_rows(most):
    """TINY for rows of so many elements."""
    return dataclasses.replace(TINY, geometry=dataclasses.replace(TINY.geometry, max_hidden=most))


def test_the_longest_row():
    most = 1 << U_FRACTION_BITS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)  # none becomes hardware
        RowScalars(with_rows(most))
        with pytest.raises(ValueError, match=f"^max_hidden={most + 1} must be at most {most}: "):
            RowScalars(with_rows(most + 1))
        gc.collect()
