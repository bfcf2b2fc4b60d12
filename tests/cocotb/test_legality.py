"""The legality checker against the verifier."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.rtl.control.legality import LegalityChecker


@pytest.mark.parametrize("cfg", SIZES, ids=named)
def test_legality(cfg):
    assert prove(LegalityChecker(cfg), "legality", cfg) == 5
