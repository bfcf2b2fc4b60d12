"""The host's driver on the pins of an accelerator with a serial line and memory on the chip."""

import pytest
from settings import prove

from transept.golden.config import TINY
from transept.rtl.link.top import LinkedTop

CYCLES, MEMORY_BYTES = 4, 1 << 15


@pytest.mark.slow
def test_a_program_runs_through_the_pins():
    design = LinkedTop(TINY, MEMORY_BYTES, CYCLES)
    facts = {"cycles": CYCLES, "memory_bytes": MEMORY_BYTES}
    assert prove(design, "uart", TINY, **facts) == 2
