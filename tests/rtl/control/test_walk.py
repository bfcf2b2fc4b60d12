"""Conditions and sources of a walk: what is none is named when hardware is made."""

import pytest
from amaranth import Signal

from transept.rtl.control.walk import condition


@pytest.mark.parametrize("when", [(), ("never",), ("equals",), ("some", (0, 4))])
def test_what_is_no_condition_is_named(when):
    with pytest.raises(TypeError, match="is no condition"):
        condition(Signal(256), when)
