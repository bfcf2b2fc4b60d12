"""The legality checker against the verifier."""

import pytest
from settings import prove

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.control.legality import LegalityChecker


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_legality(cfg):
    assert prove(LegalityChecker(cfg), "legality", cfg) == 5
