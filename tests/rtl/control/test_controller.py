"""The controller between a host, a memory that holds a program, and engines of any pace."""

import random

from amaranth.sim import Simulator
from lite_host import Host

from transept.golden import registers
from transept.golden.config import TINY
from transept.golden.isa import TALLIES, Engine, Window
from transept.golden.registers import ErrorCode, Stall, Unit
from transept.rtl.control.controller import Controller

OKAY, SLVERR = 0, 2
FRESH = {"idle": 1, "busy": 0, "done": 0, "error": 0, "resetting": 0}
DONE = FRESH | {"done": 1}
RUNNING = FRESH | {"idle": 0, "busy": 1}
FAILED = FRESH | {"idle": 0, "error": 1}
BASE, SIZE = 0x4000, 256
BEATS = 32 * 8 // TINY.memories.axi_data_bits  # of an instruction


class Machine(Host):
    """A controller and its host, who reads and writes registers by name."""

    def __init__(self, ctx, dut):
        super().__init__(ctx, dut.bus, random.Random(1), patience=0)
        self.dut = dut

    async def get(self, name):
        value, response = await self.read(registers.offset(name))
        assert response == OKAY
        fields = registers.decode(name, value)
        return fields["value"] if set(fields) == {"value"} else fields

    async def put(self, name, **fields):
        return await self.write(registers.offset(name), registers.encode(name, **fields))

    async def start(self):
        assert await self.put("CONTROL", start=1, irq_enable=1) == OKAY

    async def soft_reset(self):
        await self.put("CONTROL", soft_reset=1, irq_enable=1)
        await self.ctx.tick().repeat(20)
        assert await self.get("STATUS") == FRESH

    async def failed(self, **error):
        """The run ended with an error, which is told once; a soft reset makes up for it."""
        ctx, none = self.ctx, {"code": 0, "engine": 0, "window": 0, "rule": 0}
        assert await self.get("STATUS") == FAILED
        assert await self.get("ERROR") == none | error
        assert await self.get("IRQ") == {"done": 0, "error": 1}
        assert ctx.get(self.dut.irq)
        await self.put("IRQ", error=1)
        await self.start()  # ignored
        await ctx.tick().repeat(5)
        assert await self.get("IRQ") == {"done": 0, "error": 0}
        assert not ctx.get(self.dut.irq)
        assert await self.get("STATUS") == FAILED
        assert await self.put("PROGRAM_OFFSET", value=32) == SLVERR
        await self.soft_reset()
        assert await self.get("ERROR") == none
        assert await self.get("ERROR_OFFSET") == 0


def run(*benches):
    """Run benches, each of a context and a machine, the first of which decides about the end."""
    dut, finished = Controller(TINY), []

    def wrapped(bench):
        async def testbench(ctx):
            await bench(ctx, Machine(ctx, dut))
            finished.append(bench)

        return testbench

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    for bench in benches:
        sim.add_testbench(wrapped(bench), background=bench is not benches[0])
    sim.run()
    assert benches[0] in finished


async def nothing_but_end(ctx, machine):
    """A memory that answers every request with zeros: END."""
    dut, left = machine.dut, 0
    ctx.set(dut.request.ready, 1)
    while True:
        _, _, asked, request = await ctx.tick().sample(dut.request.valid, dut.request.payload)
        left += request.bytes // 4 if asked else 0
        ctx.set(dut.beats.valid, left > 0)
        left -= left > 0


async def configure(machine):
    for number, window in enumerate(Window):
        await machine.put(f"WINDOW_BASE_{window.name}", value=BASE + number * SIZE)
        await machine.put(f"WINDOW_LIMIT_{window.name}", value=SIZE + 32 * number)


def test_a_start_waits_until_the_counters_are_cleared():
    async def bench(ctx, machine):
        dut, cleared = machine.dut, []
        ctx.set(dut.bus_idle, 1)
        await machine.start()
        began = await machine.get("CYCLES_LO")
        assert began < TALLIES // 2
        assert await machine.get("STATUS") == RUNNING
        assert await machine.put("PROGRAM_OFFSET", value=32) == SLVERR
        for _ in range(TALLIES):
            cleared.append(ctx.get(dut.clear))
            await ctx.tick()
        assert sum(cleared) == 1
        assert await machine.get("ERROR_OFFSET") == 0
        await machine.failed(code=ErrorCode.WINDOW, engine=Unit.CONTROL, window=Window.PROGRAM)
        assert await machine.put("PROGRAM_OFFSET", value=32) == OKAY

    run(bench)


def test_end_waits_for_everyone_and_everything_is_counted():
    held = [{"bus_idle": 0}, {"states": Engine.STORE}, {}]

    async def bench(ctx, machine):
        dut = machine.dut
        busy = [{"busy": 0, "stall": Stall.NONE} for _ in Engine]
        await configure(machine)
        await machine.put("WATCHDOG_LIMIT", value=80)
        for name, value in (("read", 1 << 63 | 5), ("written", 1 << 63 | 1 << 32 | 7)):
            ctx.set(getattr(dut, f"bytes_{name}"), value)
        ctx.set(dut.states, busy)
        for attempt in held:
            ctx.set(dut.bus_idle, attempt.get("bus_idle", 1))
            if "states" in attempt:
                busy[Engine.STORE] = {"busy": 1, "stall": Stall.MEMORY}
            ctx.set(dut.states, busy)
            await machine.start()
            await ctx.tick().repeat(20)
            if attempt:
                for number in range(4):  # progress, of either kind
                    await ctx.tick().repeat(40)
                    assert await machine.get("STATUS") == RUNNING
                    ctx.set(dut.retire, 1 << Engine.GEMM if number % 2 else 0)
                    ctx.set(dut.moving, number % 2 == 0)
                    ctx.set(dut.array_active, 1)
                    await ctx.tick()
                    for port in (dut.retire, dut.moving, dut.array_active):
                        ctx.set(port, 0)
                for number, (tally, count) in enumerate([(3, 5), (TALLIES - 1, 2048)]):
                    ctx.set(dut.clipped[number].payload, {"tally": tally, "count": count})
                    ctx.set(dut.clipped[number].valid, 1)
                await ctx.tick()
                for client in dut.clipped:
                    ctx.set(client.valid, 0)
                shown = [ctx.get(dut.activity[engine]) for engine in Engine]
                assert [(s.busy, s.stall) for s in shown] == [(b["busy"], b["stall"]) for b in busy]
                ctx.set(dut.bus_idle, 1)
                busy[Engine.STORE] = {"busy": 0, "stall": Stall.MEMORY}  # not busy: not stalled
                ctx.set(dut.states, busy)
            await ctx.tick().repeat(TALLIES)
            assert await machine.get("STATUS") == DONE
            assert await machine.get("IRQ") == {"done": 1, "error": 0}
            assert ctx.get(dut.irq)
            await machine.put("IRQ", done=1)
            assert await machine.get("INSTRUCTIONS") == (3 if attempt else 1)
            assert await machine.get("ARRAY_CYCLES_LO") == (4 if attempt else 0)
            stalled = await machine.get("STORE_STALL_MEMORY")
            assert (stalled > 160) == ("states" in attempt)
            assert await machine.get("STORE_BUSY") == stalled
            at = registers.find("CLIPPED").offsets
            clipped = [(await machine.read(at[tally]))[0] for tally in (0, 3, TALLIES - 1)]
            assert clipped == ([0, 5, 2048] if attempt else [0, 0, 0])
        for name, low, high in (("READ", 5, 1 << 31), ("WRITTEN", 7, 1 << 31 | 1)):
            assert await machine.get(f"BYTES_{name}_LO") == low
            assert await machine.get(f"BYTES_{name}_HI") == high
        for number, window in enumerate(ctx.get(dut.windows)):
            assert (window.base, window.limit) == (BASE + number * SIZE, SIZE + 32 * number)

    run(bench, nothing_but_end)


def test_every_fault_has_its_error_and_a_reset_waits_for_the_bus():
    async def bench(ctx, machine):
        dut = machine.dut
        await configure(machine)
        ctx.set(dut.bus_idle, 1)
        await machine.put("CONTROL", irq_enable=1)
        window = {"window": Window.IO, "offset": 64}
        for name, value, error in (
            ("operand", 1, {"code": ErrorCode.ILLEGAL_OPERAND, "engine": Unit.LOAD}),
            ("read_response", 1, {"code": ErrorCode.BUS, "engine": Unit.LOAD}),
            ("write_response", 1, {"code": ErrorCode.BUS, "engine": Unit.STORE}),
            ("load_window", window, {"code": ErrorCode.WINDOW, "engine": Unit.LOAD}),
            ("store_window", window, {"code": ErrorCode.WINDOW, "engine": Unit.STORE}),
        ):
            is_window = value is window
            ctx.set(dut.faults[name], value | {"valid": 1} if is_window else 1)
            await ctx.tick()
            ctx.set(dut.faults[name], {"valid": 0} if is_window else 0)
            assert await machine.get("ERROR_OFFSET") == (64 if is_window else 0)
            await machine.failed(**error, **({"window": Window.IO} if is_window else {}))
        await machine.put("WATCHDOG_LIMIT", value=30)
        await machine.start()  # no memory answers
        await ctx.tick().repeat(40)
        watchdog = await machine.get("WATCHDOG")
        assert (watchdog["fired"], watchdog["engine"]) == (1, Unit.CONTROL)
        ctx.set(dut.bus_idle, 0)
        await machine.put("CONTROL", soft_reset=1)
        for idle in (0, 1):
            ctx.set(dut.bus_idle, idle)
            await ctx.tick().repeat(20)
            assert ctx.get(dut.abort) == (not idle)
            waits = FAILED | {"resetting": 1}
            assert await machine.get("STATUS") == (FRESH if idle else waits)
        assert not (await machine.get("WATCHDOG"))["fired"]

    run(bench)
