"""The register file against its table, through cocotbext-axi."""

import pytest
from settings import prove
from sizes import SIZES, named

from transept.rtl.control.registers import RegisterFile


@pytest.mark.parametrize("cfg", SIZES, ids=named)
def test_registers(cfg):
    assert prove(RegisterFile(cfg), "registers", cfg) == 13
