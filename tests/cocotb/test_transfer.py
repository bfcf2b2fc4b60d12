"""Load and store engine, through their AXI masters, against the emulator."""

import pytest
from settings import prove
from sizes import SIZES, named
from transfer_system import TransferSystem

from transept.golden.config import TINY

#: An int8 word is one beat of the buses of tiny and pynq_z2, and two beats of this one.
NARROW_BUS = TINY.replace(name="narrow_bus", tile=8)


@pytest.mark.parametrize("cfg", [*SIZES, NARROW_BUS], ids=named)
def test_transfer(cfg):
    assert prove(TransferSystem(cfg), "transfer", cfg, count=25) == 18
