"""The epilogue against ``requantise``, ``activation`` and the statistics of its rows."""

import pytest
from settings import prove

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.gemm.epilogue import Epilogue

CONFIGS = {
    "tiny": TINY,
    "pynq_z2": PYNQ_Z2,
    "one_beat": TINY.replace(name="one_beat", epilogue_lanes=TINY.tile),
    "one_lane": TINY.replace(name="one_lane", epilogue_lanes=1),
}
#: The shortest job; shorter tiles wait for the preparation of the next one.
JOB_CYCLES = 12


@pytest.mark.parametrize("name", CONFIGS)
def test_epilogue(name):
    cfg = CONFIGS[name]
    facts = {"jobs": 12 if cfg is PYNQ_Z2 else 30, "job_cycles": JOB_CYCLES}
    assert prove(Epilogue(cfg), "epilogue", cfg, **facts) == 11
