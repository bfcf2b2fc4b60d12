"""The register file against its table, through cocotbext-axi."""

import pytest
from settings import prove

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.control.registers import RegisterFile


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_registers(cfg):
    assert prove(RegisterFile(cfg), "registers", cfg) == 13
