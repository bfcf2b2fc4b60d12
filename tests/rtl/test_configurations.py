"""What is not chosen is not built, is no feature, and its instructions are refused."""

import dataclasses

import hardware
import numpy as np
import programs
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Const
from bench import Bench

from transept.golden import isa, registers
from transept.golden.config import TINY, Blocks, Filters
from transept.golden.emulator import Emulator, EmulatorError
from transept.golden.isa import Opcode
from transept.golden.registers import ErrorCode, Unit
from transept.rtl.top import Top
from transept.sim.native import NativeSimulation


def config(name, *filters, **blocks):
    every = dataclasses.asdict(TINY.blocks) | {"attention": bool(filters)}
    return TINY.replace(
        name=name,
        filters=Filters(names=filters, estimate_multipliers=1),
        blocks=Blocks(**(every | blocks)),
    )


CONFIGS = {
    cfg.name: cfg
    for cfg in (
        config(
            "gemm_alone",
            activation=False,
            norm=False,
            elementwise=False,
            halves=False,
            packed=False,
        ),
        config("no_attention"),
        config("dense_alone", "dense"),
        config("norm_alone", "dense", elementwise=False, halves=False, packed=False),
        config("windows", "causal", "window", activation=False),
        config(
            "no_norm",
            "dense",
            "tile_threshold",
            norm=False,
            elementwise=False,
            halves=False,
            packed=False,
        ),
    )
}
#: Those that are simulated; the others are elaborated.
BUILT = pytest.mark.parametrize("name", ["gemm_alone", "dense_alone"])


def simulation(cfg, **options):
    return NativeSimulation(cfg, dram_bytes=1 << 20, **options)


@BUILT
def test_what_is_built_runs_as_the_emulator_does(name):
    cfg = CONFIGS[name]
    with simulation(cfg, backpressure=0.3) as sim:
        assert sim.read32(registers.offset("FEATURES")) == registers.features(cfg)
        assert sim.read32(registers.offset("CONFIG")) == cfg.digest
        for seed in range(5):
            rng = np.random.default_rng(seed)
            for case in programs.cases(cfg).values():
                hardware.check(sim, case(cfg, rng))


@pytest.mark.parametrize("opcode", [op for op in Opcode if isa.FORMATS[op].block])
def test_what_is_not_built_is_illegal(opcode):
    cfg = CONFIGS["gemm_alone"]
    bench = Bench(cfg, np.random.default_rng(0))
    bench.emit(opcode)
    case = bench.case()
    with simulation(cfg) as sim:
        with pytest.raises(hardware.Failure):
            hardware.execute(sim, case)
        error = hardware.read(sim, "ERROR")
        assert (error["code"], error["engine"]) == (ErrorCode.ILLEGAL_INSTRUCTION, Unit.CONTROL)
    says = rf"\({opcode.name}\): block '{isa.FORMATS[opcode].block}' is not built in gemm_alone"
    with pytest.raises(EmulatorError, match=says):
        Emulator(cfg, case.dram, case.windows).run()


def cells(cfg):
    """Cells of the netlist before any synthesis."""
    top = Top(cfg)
    ports = [value for *_, value in top.signature.flatten(top) if not isinstance(value, Const)]
    text = rtlil.convert(top, ports=ports)
    return text.count("\n  cell ")


@pytest.mark.slow
def test_fewer_blocks_are_fewer_cells():
    count = {cfg.name: cells(cfg) for cfg in (TINY, *CONFIGS.values())}
    assert count["gemm_alone"] < count["no_attention"] < count["dense_alone"] < count["tiny"]
    assert count["windows"] < count["tiny"]
    assert count["norm_alone"] < count["dense_alone"]
    assert count["no_norm"] < count["tiny"]
    assert count["gemm_alone"] < 0.7 * count["tiny"]
