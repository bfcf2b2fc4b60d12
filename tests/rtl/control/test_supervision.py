"""Counters, watchdog, error latch and soft reset."""

import pytest
from memory_model import simulate

from transept.golden import registers
from transept.golden.config import TINY
from transept.golden.isa import Engine, Window
from transept.golden.registers import ErrorCode, Stall, Unit
from transept.golden.rules import SELECTION
from transept.rtl.control.counters import Counters
from transept.rtl.control.errors import SOURCES, ErrorLatch
from transept.rtl.control.reset import HOLD_CYCLES, SoftReset
from transept.rtl.control.watchdog import Watchdog


def states(**engines):
    """One state for each engine: busy and stall."""
    idle = {"busy": 0, "stall": Stall.NONE}
    return [
        dict(zip(("busy", "stall"), engines[name], strict=True))
        if (name := engine.name.lower()) in engines
        else idle
        for engine in Engine
    ]


def test_every_counter_has_its_register():
    offsets = {entry.name for entry in registers.table(TINY)}
    assert {name.upper() for name in Counters.NAMES} <= offsets


def test_counters_count_their_events():
    """And are as wide as their registers."""
    dut, names = Counters(), {entry.name for entry in registers.table(TINY)}

    async def bench(ctx):
        ctx.set(dut.running, 1)
        ctx.set(dut.states, states(load=(1, Stall.MEMORY), gemm=(0, Stall.TOKEN)))
        ctx.set(dut.retired, 6)  # one of each engine, and END
        for cycle in range(10):
            ctx.set(dut.array_active, cycle % 2)
            await ctx.tick()
        ctx.set(dut.running, 0)
        ctx.set(dut.retired, 0)
        for _ in range(5):
            await ctx.tick()
        counted = {
            "cycles": 15,
            "run_cycles": 10,
            "array_cycles": 5,
            "instructions": 60,
            "load_busy": 10,
            "load_stall_memory": 10,
            "gemm_stall_token": 10,
        }
        for name in ("cycles", "run_cycles", "array_cycles", "instructions", *dut.NAMES):
            counter, is_pair = getattr(dut, name), f"{name}_lo".upper() in names
            assert ctx.get(counter) == counted.get(name, 0), name
            assert len(counter) == (64 if is_pair else 32), name
        ctx.set(dut.clear, 1)
        await ctx.tick()
        assert ctx.get(dut.load_busy) == ctx.get(dut.run_cycles) == 0
        assert ctx.get(dut.cycles) == 16

    simulate(dut, bench, cycles=10_000)


@pytest.mark.parametrize(
    ("engines", "unit", "stall"),
    [
        ({"gemm": (1, Stall.FILTER), "store": (0, Stall.TOKEN)}, Unit.GEMM, Stall.FILTER),
        ({"load": (0, Stall.TOKEN), "vector": (1, Stall.NONE)}, Unit.VECTOR, Stall.NONE),
        ({"softmax": (0, Stall.TOKEN), "store": (0, Stall.TOKEN)}, Unit.SOFTMAX, Stall.TOKEN),
        ({}, Unit.CONTROL, Stall.NONE),
    ],
)
def test_the_watchdog_blames_who_holds_up_others(engines, unit, stall):
    dut, limit = Watchdog(), 7

    async def bench(ctx):
        ctx.set(dut.running, 1)
        ctx.set(dut.limit, limit)
        ctx.set(dut.states, states(**engines))
        for _ in range(3):  # progress before the limit restarts the count
            for cycle in range(limit - 1):
                ctx.set(dut.progress, cycle == 0)
                await ctx.tick()
        assert not ctx.get(dut.report.fired)
        ctx.set(dut.progress, 0)
        for _ in range(limit):
            await ctx.tick()
        report = ctx.get(dut.report)
        assert (report.fired, report.engine, report.stall) == (1, unit, stall)
        assert report.busy == sum(s[0] << Engine[n.upper()] for n, s in engines.items())
        ctx.set(dut.states, states())
        await ctx.tick()
        assert ctx.get(dut.report.engine) == unit
        ctx.set(dut.clear, 1)
        await ctx.tick()
        assert not ctx.get(dut.report.fired)

    simulate(dut, bench, cycles=10_000)


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("restart", ["progress", "running"])
def test_the_watchdog_fires_after_its_limit(limit, restart):
    """Counted from the last progress, and from the start of a run."""
    dut = Watchdog()

    async def bench(ctx):
        ctx.set(dut.limit, limit)
        ctx.set(dut.running, 1)
        for _ in range(limit - 1):
            await ctx.tick()
        ctx.set(getattr(dut, restart), restart == "progress")
        await ctx.tick()
        ctx.set(dut.running, 1)
        ctx.set(dut.progress, 0)
        for _ in range(limit):
            await ctx.tick()
            assert not ctx.get(dut.report.fired)
        await ctx.tick()
        assert ctx.get(dut.report.fired)

    simulate(dut, bench, cycles=10_000)


@pytest.mark.parametrize(("limit", "running"), [(0, 1), (5, 0), (1 << 31 | 5, 1)])
def test_the_watchdog_can_be_off(limit, running):
    dut = Watchdog()

    async def bench(ctx):
        ctx.set(dut.limit, limit)
        ctx.set(dut.running, running)
        for _ in range(50):
            await ctx.tick()
        assert not ctx.get(dut.report.fired)

    simulate(dut, bench, cycles=10_000)


@pytest.mark.parametrize("name", SOURCES)
def test_the_first_error_stays(name):
    dut = ErrorLatch()
    code, unit = SOURCES[name]
    offset, index = (1 << 32) - 5, (1 << 27) - 5
    facts = {"window": Window.SCRATCH, "offset": offset}
    expected = [code, unit, Window.SCRATCH, 0, offset]
    if name == "instruction":
        facts = {"engine": Unit.VECTOR, "rule": SELECTION, "index": index}
        expected = [code, Unit.VECTOR, 0, SELECTION, index]

    async def bench(ctx):
        ports = (dut.code, dut.engine, dut.window, dut.rule, dut.offset)
        ctx.set(getattr(dut, name), {"valid": 1, **facts})
        await ctx.tick()
        ctx.set(getattr(dut, name).valid, 0)
        for other in SOURCES:
            ctx.set(getattr(dut, other).valid, other != name)
        await ctx.tick()
        assert [ctx.get(port) for port in ports] == expected
        ctx.set(dut.clear, 1)
        await ctx.tick()
        assert [ctx.get(port) for port in ports] == [ErrorCode.NONE, 0, 0, 0, 0]

    simulate(dut, bench, cycles=10_000)


def test_of_simultaneous_errors_the_first_source_counts():
    """A window before an operand, an operand before an instruction, and tokens last."""
    dut = ErrorLatch()

    async def bench(ctx):
        for name in SOURCES:
            ctx.set(getattr(dut, name).valid, 1)
        for name, (code, unit) in SOURCES.items():
            await ctx.tick()
            found = (ctx.get(dut.code), ctx.get(dut.engine))
            assert found == (code, 0 if name == "instruction" else unit), name
            ctx.set(getattr(dut, name).valid, 0)
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)

    simulate(dut, bench, cycles=10_000)
    assert [code for code, _ in SOURCES.values()] == [
        *[ErrorCode.WINDOW] * 3,
        ErrorCode.ILLEGAL_OPERAND,
        ErrorCode.ILLEGAL_INSTRUCTION,
        *[ErrorCode.BUS] * 2,
        *[ErrorCode.TOKEN_OVERFLOW] * len(Engine),
    ]


@pytest.mark.parametrize("wait", [0, 20])
def test_reset_follows_the_bus(wait):
    dut = SoftReset()

    async def reset(ctx):
        ctx.set(dut.request, 1)
        await ctx.tick()
        ctx.set(dut.request, 0)
        for cycle in range(wait):
            ctx.set(dut.idle, cycle == 0)  # not yet: a burst may just have been registered
            assert ctx.get(dut.abort)
            assert ctx.get(dut.resetting)
            assert not ctx.get(dut.reset)
            await ctx.tick()
        ctx.set(dut.idle, 1)
        held = 0
        for _ in range(20):
            held += ctx.get(dut.reset)
            await ctx.tick()
        assert held == HOLD_CYCLES
        assert not ctx.get(dut.abort)
        assert not ctx.get(dut.resetting)

    async def bench(ctx):
        for _ in range(2):  # the second is as long as the first
            await reset(ctx)

    simulate(dut, bench, cycles=10_000)
