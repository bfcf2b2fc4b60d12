"""The whole accelerator runs programs as the emulator does, and survives what goes wrong."""

import hardware
import numpy as np
import programs
import pytest
from bench import Bench, instruction

from transept.golden import isa, registers
from transept.golden.config import TINY
from transept.golden.emulator import Emulator
from transept.golden.isa import Engine, Filter, Instruction, Memory, Opcode, Window
from transept.golden.registers import ErrorCode, Stall, Unit
from transept.sim import timeline
from transept.sim.native import Faults, NativeSimulation

OKAY = {"idle": 1, "busy": 0, "done": 1, "error": 0, "resetting": 0}
FRESH = OKAY | {"done": 0}


def simulation(**options):
    return NativeSimulation(TINY, dram_bytes=1 << 20, **options)


def soft_reset(sim, cycles=2000):
    """Ask for a soft reset and wait until it is over."""
    hardware.write(sim, "CONTROL", soft_reset=1, irq_enable=1)
    sim.step(cycles)
    hardware.write(sim, "IRQ", done=1, error=1)


def error(sim, case):
    """Run a case that fails; (code, unit, window, rule) of ERROR, and ERROR_OFFSET."""
    with pytest.raises(hardware.Failure):
        hardware.execute(sim, case)
    offset = hardware.read(sim, "ERROR_OFFSET")["value"]
    return tuple(hardware.read(sim, "ERROR").values()), offset


def replaced(case, index, new):
    """The case with another instruction at ``index``: an Instruction or 32 bytes."""
    raw = isa.encode(new) if isinstance(new, Instruction) else new
    dram = case.dram.copy()
    at = case.windows[Window.PROGRAM][0] + index * isa.INSTRUCTION_BYTES
    dram[at : at + isa.INSTRUCTION_BYTES] = np.frombuffer(raw, np.uint8)
    return case._replace(dram=dram)


def changed(old, **operands):
    return Instruction(old.opcode, dict(old.operands) | operands, old.wait, old.signal)


def copy(seed=1):
    """LOAD and STORE of 16 rows."""
    return programs.store(TINY, np.random.default_rng(seed), rows=16, words=8, wide=1)


@pytest.mark.parametrize("backpressure", [0.0, 0.4])
@pytest.mark.parametrize("name", programs.CASES)
def test_equals_the_emulator(name, backpressure):
    for seed in range(6):
        rng = np.random.default_rng([seed, round(10 * backpressure)])
        with simulation(seed=seed + 1, backpressure=backpressure) as sim:
            hardware.check(sim, programs.CASES[name](TINY, rng))


def test_maxima_below_zero_count_as_the_smallest_row_maximum():
    """A row whose only score is negative has a negative maximum."""
    lowest = []
    for seed in range(4):
        case = programs.CASES["scores"](TINY, np.random.default_rng(seed), keys=1)
        emulator = Emulator(TINY, case.dram.copy(), case.windows)
        emulator.run()
        scores = next(i for i in case.program if i.opcode == Opcode.SCORES).operands
        first = scores["rowstat"]
        lowest.append(emulator.chip.rowstat[first : first + scores["rows"] + 1].min())
        with simulation() as sim:
            hardware.check(sim, case)
    assert min(lowest) < 0


@pytest.mark.parametrize("kind", [Filter.CAUSAL, Filter.WINDOW])
def test_positions_reach_beyond_sixteen_bits(kind):
    """Queries from 65,532 on see keys around them; a position that wraps sees none."""
    for seed in range(4):
        case = programs.CASES["scores"](
            TINY, np.random.default_rng(seed), rows=7, keys=15, position=65532, filter=kind
        )
        with simulation() as sim:
            hardware.check(sim, case)


@pytest.mark.parametrize("pitch", [0, 1])
def test_of_rows_that_overlap_in_dram_the_last_one_stays(pitch):
    """Writes take effect in their order, however the memory delays its responses."""
    for seed in range(6):
        case = copy(seed)
        index, old = next((n, i) for n, i in enumerate(case.program) if i.opcode == Opcode.STORE)
        case = replaced(case, index, changed(old, pitch=pitch))
        with simulation(seed=seed + 1, backpressure=0.3) as sim:
            hardware.check(sim, case)


def test_one_machine_runs_many_programs():
    rng = np.random.default_rng(3)
    with simulation(memory="board") as sim:
        for _ in range(3):
            for case in programs.CASES.values():
                hardware.check(sim, case(TINY, rng))


def test_the_host_finds_what_it_drives():
    with simulation() as sim:
        for entry in registers.table(TINY):
            if entry.constant is not None:
                assert sim.read32(entry.offset) == entry.constant
        assert hardware.read(sim, "STATUS") == FRESH


def test_counters_tell_what_the_program_did():
    case = programs.matmul(TINY, np.random.default_rng(5), rows=8, k_tiles=3, n_tiles=2)
    with simulation() as sim:
        cycles = hardware.check(sim, case)
        # every MATMUL streams its rows against every tile, and tiles of at least four rows
        passes = sum(
            max(i.rows + 1, TINY.tile) * i.k_tiles * i.n_tiles
            for i in case.program
            if i.opcode == Opcode.MATMUL
        )
        values = {
            name: hardware.read(sim, name)["value"]
            for name in ("ARRAY_CYCLES_LO", "LOAD_BUSY", "GEMM_BUSY", "GEMM_STALL_TOKEN")
        }
        assert values["ARRAY_CYCLES_LO"] <= passes
        assert 0 < values["LOAD_BUSY"] < cycles
        assert values["ARRAY_CYCLES_LO"] < values["GEMM_BUSY"] < cycles
        assert 0 < values["GEMM_STALL_TOKEN"] < cycles
        fetched = hardware.read(sim, "BYTES_READ_LO")["value"]
        assert fetched >= len(case.program) * isa.INSTRUCTION_BYTES


def test_counters_begin_anew_with_every_run():
    case, counts = copy(), []
    names = ["BYTES_READ_LO", "BYTES_WRITTEN_LO", "INSTRUCTIONS"]
    names += [f"{engine}_{of}" for engine in ("LOAD", "STORE") for of in ("BUSY", "STALL_MEMORY")]
    with simulation() as sim:
        for _ in range(2):
            cycles = hardware.check(sim, case)
            counts.append([hardware.read(sim, name)["value"] for name in names])
    assert counts[0][:3] == counts[1][:3]
    read, written, instructions, *times = counts[0]
    nbytes = 16 * 8 * 2 * TINY.tile
    assert written == nbytes
    assert read >= nbytes + instructions * isa.INSTRUCTION_BYTES
    assert all(0 < time < cycles for time in times), times


def test_every_retirement_shows_in_the_activity():
    case = programs.matmul(TINY, np.random.default_rng(6), rows=8, k_tiles=2, n_tiles=2)
    with simulation(timeline=True) as sim:
        hardware.check(sim, case)
        changes = sim.timeline()
    found = {engine: len(times) for engine, times in timeline.retirements(changes).items()}
    engines = [i.engine for i in case.program if i.opcode != Opcode.END]
    assert found == {engine: engines.count(engine) for engine in Engine}
    assert np.any(changes[:, 1].astype(np.int64) >> timeline.ARRAY_BIT & 1)


def test_a_transfer_that_moves_is_no_hang():
    """256 beats take longer than the watchdog waits for one."""
    with simulation() as sim:
        hardware.write(sim, "WATCHDOG_LIMIT", value=150)
        hardware.check(sim, copy())


def test_the_interrupt_is_masked_and_cleared():
    case = copy()
    with simulation() as sim:
        sim.dram[: len(case.dram)] = case.dram
        hardware.configure(sim, case.windows)
        hardware.write(sim, "CONTROL", start=1)
        sim.step(5000)
        assert not sim.irq
        assert hardware.read(sim, "STATUS") == OKAY
        hardware.write(sim, "CONTROL", irq_enable=1)
        sim.step(4)
        assert sim.irq
        hardware.write(sim, "IRQ", done=1)
        sim.step(4)
        assert not sim.irq


@pytest.mark.parametrize(
    ("opcode", "window", "unit"),
    [(Opcode.LOAD, Window.WEIGHTS, Unit.LOAD), (Opcode.STORE, Window.IO, Unit.STORE)],
)
def test_a_transfer_beyond_its_window_is_an_error(opcode, window, unit):
    case = copy()
    index = next(n for n, i in enumerate(case.program) if i.opcode == opcode)
    far = 64 << 10
    broken = replaced(case, index, changed(case.program[index], offset=far, rows=1))
    with simulation() as sim:
        facts, offset = error(sim, broken)
        assert facts == (ErrorCode.WINDOW, unit, window, 0)
        assert offset == far
        assert np.array_equal(sim.dram[: len(case.dram)], broken.dram)
        soft_reset(sim)
        assert hardware.read(sim, "STATUS") == FRESH
        hardware.check(sim, case)


def test_a_program_without_end_is_an_error():
    case = copy()
    base, _ = case.windows[Window.PROGRAM]
    size = (len(case.program) - 1) * isa.INSTRUCTION_BYTES
    short = case._replace(windows=case.windows | {Window.PROGRAM: (base, size)})
    with simulation() as sim:
        facts, offset = error(sim, short)
        assert facts == (ErrorCode.WINDOW, Unit.CONTROL, Window.PROGRAM, 0)
        assert offset == size
        soft_reset(sim)
        hardware.check(sim, case)


def test_an_unknown_opcode_is_an_error():
    with simulation() as sim:
        facts, _ = error(sim, replaced(copy(), 1, b"\xee" * isa.INSTRUCTION_BYTES))
        assert facts[:2] == (ErrorCode.ILLEGAL_INSTRUCTION, Unit.CONTROL)
        soft_reset(sim)
        hardware.check(sim, copy())


def test_an_operand_of_minus_128_is_an_error():
    bench = Bench(TINY, np.random.default_rng(1))
    bench.load(Memory.ACT, np.full((4, 8), -128, np.int8), 0, rows=4)
    with simulation() as sim:
        facts, _ = error(sim, bench.case())
        assert facts[:2] == (ErrorCode.ILLEGAL_OPERAND, Unit.LOAD)
        soft_reset(sim)
        hardware.check(sim, copy())


@pytest.mark.parametrize("ways", [("reads", Unit.LOAD), ("writes", Unit.STORE)])
def test_a_bus_error_ends_the_run(ways):
    way, unit = ways
    with simulation(faults=Faults(**{f"error_{way}_from": 0})) as sim:
        facts, _ = error(sim, copy())
        assert facts[:2] == (ErrorCode.BUS, unit)
        sim.inject(Faults())
        soft_reset(sim)
        hardware.check(sim, copy())


def hang(sim, case, way):
    """Start a case on a memory that stops answering ``way``; the report of the watchdog."""
    sim.dram[: len(case.dram)] = case.dram
    hardware.configure(sim, case.windows)
    hardware.write(sim, "WATCHDOG_LIMIT", value=500)
    hardware.start(sim)
    sim.inject(Faults(**{f"hang_{way}_from": sim.cycle + 300}))
    with pytest.raises(hardware.Failure):
        hardware.wait(sim)
    return hardware.read(sim, "WATCHDOG")


@pytest.mark.parametrize("ways", [("reads", Unit.LOAD), ("writes", Unit.STORE)])
def test_the_watchdog_names_who_waits_for_memory(ways):
    way, unit = ways
    with simulation() as sim:
        report = hang(sim, copy(), way)
        assert (report["fired"], report["engine"], report["stall"]) == (1, unit, Stall.MEMORY)
        assert report["busy"] == 1 << unit
        hardware.write(sim, "CONTROL", soft_reset=1, irq_enable=1)
        sim.step(2000)
        # AXI knows no abort: while memory hangs, the reset waits, and says so
        assert hardware.read(sim, "STATUS") == FRESH | {"idle": 0, "error": 1, "resetting": 1}
        sim.inject(Faults())
        soft_reset(sim)
        assert hardware.read(sim, "STATUS") == FRESH
        hardware.check(sim, copy())


def test_the_watchdog_sees_a_missing_token():
    case = copy()
    index = len(case.program) - 2  # before END
    stuck = case.program[index]
    waiting = Instruction(stuck.opcode, stuck.operands, frozenset({Engine.VECTOR}), stuck.signal)
    case = replaced(case, index, waiting)
    with simulation() as sim:
        hardware.write(sim, "WATCHDOG_LIMIT", value=400)
        with pytest.raises(hardware.Failure):
            hardware.execute(sim, case)
        report = hardware.read(sim, "WATCHDOG")
        assert (report["engine"], report["stall"]) == (Unit[stuck.engine.name], Stall.TOKEN)
        assert (report["busy"], report["waiting"]) == (0, 1 << stuck.engine)
        soft_reset(sim)
        hardware.check(sim, copy())


@pytest.mark.parametrize("at", [60, 150, 400, 700, 1100])
def test_soft_reset_in_the_middle_of_a_program(at):
    rng = np.random.default_rng(at)
    with simulation(backpressure=0.3, seed=at) as sim:
        for case in (programs.attention(TINY, rng), programs.norm(TINY, rng)):
            sim.dram[: len(case.dram)] = case.dram
            hardware.configure(sim, case.windows)
            hardware.start(sim)
            sim.step(at)
            soft_reset(sim)
            assert hardware.read(sim, "STATUS") == FRESH
            assert sim.counters().in_flight == 0
            hardware.check(sim, programs.attention(TINY, rng))


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_resets_within_packed_weights(reset):
    """No half of a block is left behind for the next one."""

    def packed(seed, **shape):
        facts = {"memory": Memory.STAT, "packed": 1, "rows": 3, "blocks": 3, "tail": 8} | shape
        return programs.load(TINY, np.random.default_rng(seed), **facts)

    case = packed(1)
    with simulation(backpressure=0.3, seed=4) as sim:
        for at in range(40, 800, 19):
            sim.dram[: len(case.dram)] = case.dram
            hardware.configure(sim, case.windows)
            hardware.start(sim)
            sim.step(at)
            soft_reset(sim) if reset == "soft" else sim.reset(1)
            assert hardware.read(sim, "STATUS") == FRESH
            hardware.check(sim, packed(at, rows=1 + at % 3, blocks=at % 4))


def test_start_is_ignored_while_busy():
    case = copy()
    with simulation() as sim:
        sim.dram[: len(case.dram)] = case.dram
        hardware.configure(sim, case.windows)
        hardware.start(sim)
        hardware.start(sim)
        hardware.wait(sim)
        sim.step(3000)
        assert hardware.read(sim, "INSTRUCTIONS")["value"] == len(case.program)


def test_an_empty_program_ends():
    end = instruction(Opcode.END)
    with simulation() as sim:
        hardware.execute(sim, replaced(copy(), 0, end))
        assert hardware.read(sim, "INSTRUCTIONS")["value"] == 1


def test_a_reset_of_one_cycle_is_a_whole_one():
    """Wherever it strikes, no handshake is left behind, and the next program is none the wiser."""
    case = copy()
    with simulation() as sim:
        for at in range(30, 330, 7):
            sim.dram[: len(case.dram)] = case.dram
            hardware.configure(sim, case.windows)
            hardware.start(sim)
            sim.step(at)
            sim.reset(1)
            hardware.check(sim, copy(seed=at))
