"""The whole GEMM engine against the emulator: every word of every memory."""

import pytest
from gemm_system import GemmSystem

from transept.golden.config import TINY
from transept.sim.cocotb_runner import run_bench


@pytest.mark.parametrize("seed", [1])
def test_engine(seed):
    parameters = {"config": TINY.name, "seeds": 4, "batches": 6}
    assert run_bench(GemmSystem(TINY), "gemm", "gemm_bench", parameters, seed=seed) == 8
