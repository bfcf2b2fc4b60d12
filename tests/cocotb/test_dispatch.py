"""Dispatch against a model of the token rules."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.rtl.control.dispatch import Dispatch


@pytest.mark.parametrize("cfg", SIZES, ids=named)
def test_dispatch(cfg):
    assert prove(Dispatch(cfg), "dispatch", cfg) == 12
