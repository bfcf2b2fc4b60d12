"""Load and store engine, through their AXI masters, against the emulator."""

import pytest
from settings import prove
from transfer_system import TransferSystem

from transept.golden.config import PYNQ_Z2, TINY


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_transfer(cfg):
    assert prove(TransferSystem(cfg), "transfer", cfg, count=25) == 18
