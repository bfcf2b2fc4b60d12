"""Dispatch against a model of the token rules."""

import pytest
from settings import prove

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.control.dispatch import Dispatch


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_dispatch(cfg):
    assert prove(Dispatch(cfg), "dispatch", cfg) == 12
