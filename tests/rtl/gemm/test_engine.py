"""The whole GEMM engine against the emulator: every word of every memory, and its pace."""

import pytest
from gemm_system import GemmSystem

from transept.golden.config import PYNQ_Z2, TINY
from transept.sim.cocotb_runner import run_bench

#: Tests of the bench that do not depend on a seed.
FIXED = 5


def check(cfg, *, seeds, batches):
    parameters = {"config": cfg.name, "seeds": seeds, "batches": batches}
    assert run_bench(GemmSystem(cfg), "gemm", "gemm_bench", parameters) == 2 * seeds + FIXED


def test_tiny():
    check(TINY, seeds=4, batches=6)


@pytest.mark.slow
def test_tiny_at_length():
    check(TINY, seeds=40, batches=10)


@pytest.mark.slow
def test_pynq_z2():
    check(PYNQ_Z2, seeds=3, batches=3)
