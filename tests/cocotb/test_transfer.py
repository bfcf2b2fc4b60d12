"""Load and store engine, through their AXI masters, against the emulator."""

import pytest
from settings import prove
from transfer_system import TransferSystem

from transept.golden.config import PYNQ_Z2, TINY

#: An int8 word is one beat of the buses of tiny and pynq_z2, and two beats of this one.
NARROW_BUS = TINY.replace(name="narrow_bus", tile=8)


@pytest.mark.parametrize("cfg", [TINY, NARROW_BUS, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_transfer(cfg):
    assert prove(TransferSystem(cfg), "transfer", cfg, count=25) == 18
