"""The whole GEMM engine against the emulator: every word of every memory, and its pace."""

import random

import pytest
from gemm_programs import GemmPrograms
from gemm_system import GemmSystem
from settings import prove
from sizes import FULL, named

from transept.golden.config import TINY
from transept.sim.build import FAST

#: Tests of the bench that do not depend on a seed.
FIXED = 8


def check(cfg, *, seeds, **facts):
    assert prove(GemmSystem(cfg), "gemm", cfg, seeds=seeds, **facts) == 2 * seeds + FIXED


@pytest.mark.parametrize("cfg", [TINY, *FULL], ids=named)
def test_results_of_random_attentions_have_room(cfg):
    for seed in range(60):
        programs = GemmPrograms(cfg, random.Random(seed))
        for _ in range(3):
            programs.fresh()
            shape = programs.attention()
            for instruction in programs.context(shape):
                results, sums = instruction.out_rowstat, instruction.p_rowstat
                assert abs(results - sums) >= shape.rows


def test_tiny():
    check(TINY, seeds=4, batches=6)


@pytest.mark.slow
def test_tiny_at_length():
    check(TINY, seeds=40, batches=10, speed=FAST)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("cfg", FULL, ids=named)
def test_boards(cfg):
    check(cfg, seeds=3, batches=3, limit_s=6000, speed=FAST)
