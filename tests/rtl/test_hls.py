"""Blocks by high-level synthesis in the accelerator: the same bits in the same cycles."""

import hardware
import numpy as np
import programs
import pytest
from amaranth.back import rtlil
from unused import unused

from transept.golden import registers
from transept.golden.config import HLS_BLOCKS, TINY
from transept.golden.isa import Filter
from transept.rtl.arith.reciprocal import Rsqrt
from transept.rtl.hls.blocks import HlsRsqrt, HlsWindowFilter, chosen
from transept.sim import tools
from transept.sim.build import accelerator_verilog, to_verilog
from transept.sim.native import NativeSimulation

ABSENT = tools.missing(tools.HLS)
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=tools.absence(ABSENT))

EVERY = TINY.replace(hls=HLS_BLOCKS)
#: Which programs use each block.
USED = {
    "exponential": ("softmax", "attention"),
    "interpolation": ("matmul",),
    "rsqrt": ("norm",),
    "requantiser": ("matmul", "scores", "context", "attention"),
    "window": ("scores", "attention"),
}


def run(sim, names, seeds):
    """Cycles of programs, which end as in the emulator; half of the scores through the window."""
    cycles = []
    for seed in seeds:
        for name in names:
            fixed = {"filter": Filter.WINDOW} if name == "scores" and seed % 2 else {}
            case = programs.CASES[name](TINY, np.random.default_rng(seed), **fixed)
            cycles.append(hardware.check(sim, case))
    return cycles


def test_all_at_once_run_every_program_in_the_same_cycles():
    names = list(programs.CASES)
    found = []
    for cfg in (TINY, EVERY):
        with NativeSimulation(cfg, dram_bytes=1 << 20, seed=3) as sim:
            assert sim.read32(registers.offset("CONFIG")) == TINY.digest
            found.append(run(sim, names, range(4)))
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", HLS_BLOCKS)
def test_each_alone_has_the_bits_of_the_emulator(name):
    with NativeSimulation(TINY.replace(hls=(name,)), dram_bytes=1 << 20) as sim:
        assert run(sim, USED[name], range(12))


@pytest.mark.parametrize("cfg", [TINY, EVERY], ids=["amaranth", "hls"])
def test_the_verilog_has_what_is_chosen(cfg):
    text = accelerator_verilog(cfg)
    for name in (*HLS_BLOCKS, "multiply", "add"):
        assert (f"\nmodule hls_{name} " in text.replace("(", " ")) == bool(cfg.hls), name


def test_blocks_are_chosen_by_name():
    assert chosen(TINY, Rsqrt) is Rsqrt
    assert chosen(EVERY, Rsqrt) is HlsRsqrt
    assert chosen(TINY.replace(hls=("window",)), Rsqrt) is Rsqrt
    assert chosen(EVERY, dict) is dict


def test_they_exist_in_verilog_alone():
    with (
        unused(),
        pytest.raises(ValueError, match="block window by high-level synthesis is Verilog"),
    ):
        rtlil.convert(HlsWindowFilter(TINY))


def test_another_latency_is_refused():
    class Late(HlsRsqrt):
        LATENCY = 9

    with unused(), pytest.raises(ValueError, match="kernel rsqrt takes 8 cycles, not 9"):
        to_verilog(Late(), "late")
