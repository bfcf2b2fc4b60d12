"""The epilogue against ``requantise``, ``activation`` and the statistics of its rows."""

import pytest
from settings import prove
from sizes import FULL, SIZES, named

from transept.golden.config import TINY
from transept.rtl.gemm.epilogue import Epilogue

LANES = [
    TINY.replace(name="one_beat", epilogue_lanes=TINY.tile),
    TINY.replace(name="one_lane", epilogue_lanes=1),
    TINY.replace(name="four_beats", tile=8),
]
#: The shortest job; shorter tiles wait for the preparation of the next one.
JOB_CYCLES = 12


@pytest.mark.parametrize("cfg", [*SIZES, *LANES], ids=named)
def test_epilogue(cfg):
    facts = {"jobs": 12 if cfg in FULL else 30, "job_cycles": JOB_CYCLES}
    assert prove(Epilogue(cfg), "epilogue", cfg, **facts) == 11
