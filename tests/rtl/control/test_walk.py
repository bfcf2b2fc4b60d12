"""Conditions and sources of a walk: what is none is named when hardware is made."""

import pytest
from amaranth import Signal

from transept.golden.isa import Opcode
from transept.rtl.control.walk import _source, condition, factor_value


@pytest.mark.parametrize("when", [(), ("never",), ("equals",), ("some", (0, 4))])
def test_what_is_no_condition_is_named(when):
    with pytest.raises(TypeError, match="is no condition"):
        condition(Signal(256), when)


def test_what_is_no_operand_is_named():
    with pytest.raises(TypeError, match="3 is no operand"):
        _source(Opcode.MATMUL, 3)


@pytest.mark.parametrize("source", [(), ("never", (0, 4)), ("bits",)])
def test_what_is_no_source_is_named(source):
    with pytest.raises(TypeError, match="is no source"):
        factor_value(Signal(256), source)
