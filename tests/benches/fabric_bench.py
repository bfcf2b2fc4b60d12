"""cocotb tests of the core for an FPGA: its resets, its bus, and what is locked while it works."""

import cocotb
import numpy as np
import programs
import settings
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer
from cocotbext.axi import AxiResp

from transept.golden import registers
from transept.golden.emulator import Emulator
from transept.golden.isa import Window
from transept.golden.registers import ErrorCode
from transept.sim import axi

CFG = settings.config()
SIZE = 1 << 16
PERIOD_NS = 10
LIMIT_CYCLES = 20_000
BACKPRESSURE = [0.0, 0.5]
#: Every channel of both buses with what its sender must not change while it is not accepted.
CHANNELS = {
    "m_axi_aw": "addr len size burst lock cache prot qos id",
    "m_axi_w": "data strb last",
    "m_axi_ar": "addr len size burst lock cache prot qos id",
    "s_axil_b": "resp",
    "s_axil_r": "data resp",
}
#: Handshakes that the core drives.
HANDSHAKES = tuple(
    f"{bus}_{name}"
    for bus, names in {
        "m_axi": ("awvalid", "wvalid", "bready", "arvalid", "rready"),
        "s_axil": ("awready", "wready", "bvalid", "arready", "rvalid"),
    }.items()
    for name in names
)


class Monitor:
    """Watches every edge: what is under way on the memory's bus, and whether AXI's rules are kept.

    reads: beats that are owed to accepted read bursts; writes: bursts whose address was accepted
    without a response yet, beats: those of them that are still to be sent (negative if data runs
    ahead).
    """

    def __init__(self, dut):
        self.dut = dut
        self.reads = self.writes = self.beats = self.bursts = 0
        self.longest = 0
        self._offered = {}
        self._lengths = []

    def pin(self, name):
        return int(getattr(self.dut, name).value)

    def moves(self, channel):
        return self.pin(f"{channel}valid") and self.pin(f"{channel}ready")

    @property
    def idle(self):
        return not (self.reads or self.writes or self.beats or self._offered)

    async def run(self):
        while True:
            await RisingEdge(self.dut.aclk)
            if self.pin("aresetn"):
                self.step()

    def step(self):
        for channel, names in CHANNELS.items():
            now = [self.pin(f"{channel}{name}") for name in names.split()]
            if channel in self._offered:
                assert self.pin(f"{channel}valid"), f"{channel} was taken back"
                assert now == self._offered[channel], f"{channel} changed before it was accepted"
            self._offered.pop(channel, None)
            if self.pin(f"{channel}valid") and not self.pin(f"{channel}ready"):
                self._offered[channel] = now
        if self.moves("m_axi_ar"):
            self.reads += self.pin("m_axi_arlen") + 1
            self.address("ar")
        if self.moves("m_axi_r"):
            self.reads -= 1
        if self.moves("m_axi_aw"):
            self.writes += 1
            self.beats += self.pin("m_axi_awlen") + 1
            self._lengths.append(self.pin("m_axi_awlen"))
            self.address("aw")
        if self.moves("m_axi_w"):
            self.beats -= 1
        if self.moves("m_axi_b"):
            self.writes -= 1
        assert self.reads >= 0
        assert self.writes >= 0

    def address(self, letter):
        """Of a burst: at most 16 whole beats, one after the other, in one page of 4 KiB."""
        at, beats = self.pin(f"m_axi_{letter}addr"), self.pin(f"m_axi_{letter}len") + 1
        names = ("size", "burst", "lock", "cache", "prot", "qos", "id")
        facts = [self.pin(f"m_axi_{letter}{name}") for name in names]
        assert facts == [CFG.axi_bytes.bit_length() - 1, 1, 0, 3, 0, 0, 0]
        assert beats <= 16
        assert at // 4096 == (at + beats * CFG.axi_bytes - 1) // 4096
        self.longest = max(self.longest, beats)
        self.bursts += 1


class System:
    """The core with memory, a host and a monitor."""

    def __init__(self, dut, backpressure, seed=1):
        self.dut, self.monitor = dut, Monitor(dut)
        self.pace = {"backpressure": backpressure, "seed": seed}

    async def start(self):
        dut = self.dut
        dut.aresetn.value = 0
        Clock(dut.aclk, PERIOD_NS, unit="ns").start()
        self.ram = axi.attach_memory(dut, SIZE, **self.pace)
        self.host = axi.attach_registers(dut, **self.pace)
        await self.edges(4)
        dut.aresetn.value = 1
        cocotb.start_soon(self.monitor.run())
        await self.edges(6)
        return self

    async def edges(self, count):
        for _ in range(count):
            await RisingEdge(self.dut.aclk)

    async def read(self, name):
        return registers.decode(name, await self.host.read_dword(registers.offset(name)))

    async def write(self, name, **fields):
        data = registers.encode(name, **fields).to_bytes(4, "little")
        return (await self.host.write(registers.offset(name), data)).resp

    async def begin(self, case):
        """Put a program into memory and start it."""
        self.ram.write(0, case.dram.tobytes())
        for window, (base, limit) in case.windows.items():
            assert await self.write(f"WINDOW_BASE_{window.name}", value=base) == AxiResp.OKAY
            assert await self.write(f"WINDOW_LIMIT_{window.name}", value=limit) == AxiResp.OKAY
        await self.write("CONTROL", start=1, irq_enable=1)

    async def until(self, **flags):
        """Wait for flags of STATUS; returns all of them."""
        for _ in range(LIMIT_CYCLES // 8):
            status = await self.read("STATUS")
            if flags.items() <= status.items():
                return status
        raise TimeoutError(f"{flags} not within {LIMIT_CYCLES} cycles: {status}")

    def memory(self, case):
        """What the memory of a program holds."""
        return np.frombuffer(self.ram.read(0, case.dram.size), np.uint8)

    async def check(self, case):
        """Run a program; memory must be what the emulator makes of it."""
        await self.begin(case)
        assert (await self.until(idle=1))["done"]
        assert np.array_equal(self.memory(case), emulated(case))

    async def reset_softly(self, case):
        """Reset in the middle of a program: when it is over nothing is under way, and no byte has
        another value than before the program or after it."""
        await self.write("CONTROL", soft_reset=1)
        busy = not self.monitor.idle
        await self.until(idle=1)
        await FallingEdge(self.dut.aclk)
        assert self.monitor.idle, vars(self.monitor)
        found = self.memory(case)
        assert ((found == case.dram) | (found == emulated(case))).all()
        return busy


def emulated(case):
    """Memory after a program."""
    wanted = case.dram.copy()
    Emulator(CFG, wanted, case.windows).run()
    return wanted


def case_of(*numbers):
    """A program that loads, computes and stores."""
    return programs.matmul(CFG, settings.generator(*numbers), rows=16, k_tiles=3, n_tiles=4)


@cocotb.test()
@cocotb.parametrize(backpressure=BACKPRESSURE)
async def a_program_runs_within_the_rules_of_the_bus(dut, backpressure):
    system = await System(dut, backpressure).start()
    await system.check(case_of(1))
    assert system.monitor.idle
    assert system.monitor.longest > 1
    assert system.monitor.bursts > 4
    assert await system.read("ID") == {"value": registers.MAGIC}
    assert int(dut.interrupt.value)


@cocotb.test()
@cocotb.parametrize(backpressure=[0.0, 0.3, 0.8])
async def a_soft_reset_ends_every_burst_first(dut, backpressure):
    """Wherever it strikes, no accepted burst is left without its beats and its response, and the
    next program is none the wiser."""
    system = await System(dut, backpressure, seed=3).start()
    monitor, rng, busy = system.monitor, settings.python_random(4), 0
    for number in range(10):
        case = case_of(2, number)
        await system.begin(case)
        await system.edges(rng.randint(1, 500))
        busy += await system.reset_softly(case)
        before = monitor.bursts
        await system.edges(50)
        assert monitor.bursts == before
    assert busy or not backpressure
    await system.check(case_of(3))


@cocotb.test()
async def a_soft_reset_strikes_between_an_address_and_its_data(dut):
    """Beats that nobody has are sent all the same, and write nothing."""
    system = await System(dut, 0.0).start()
    monitor, case = system.monitor, case_of(8)
    await system.begin(case)
    first = 0
    while not monitor.writes:
        await system.edges(1)
        first += 1
    await system.until(idle=1)
    for number in range(-12, 6):
        await system.begin(case)
        await system.edges(first + number)
        await system.reset_softly(case)
    await system.check(case)


@cocotb.test()
async def a_soft_reset_waits_for_memory_that_does_not_answer(dut):
    system = await System(dut, 0.0).start()
    channels = (system.ram.read_if.r_channel, system.ram.write_if.w_channel)
    await system.begin(case_of(4))
    while not system.monitor.reads:
        await system.edges(1)
    for channel in channels:
        channel.pause = True
    await system.write("CONTROL", soft_reset=1)
    await system.edges(500)
    assert (await system.read("STATUS"))["resetting"] == 1
    assert not system.monitor.idle
    assert await system.write("WINDOW_BASE_IO", value=0) == AxiResp.SLVERR
    for channel in channels:
        channel.pause = False
    await system.until(idle=1)
    assert system.monitor.idle
    await system.check(case_of(5))


@cocotb.test()
@cocotb.parametrize(backpressure=BACKPRESSURE)
async def windows_are_locked_while_a_program_runs(dut, backpressure):
    system = await System(dut, backpressure).start()
    case = case_of(6)
    await system.begin(case)
    locked = [entry.name for entry in registers.table(CFG) if entry.locked]
    assert {f"WINDOW_{kind}_{w.name}" for kind in ("BASE", "LIMIT") for w in Window} < set(locked)
    kept = {name: await system.read(name) for name in locked}
    for name in locked:
        assert (await system.read("STATUS"))["busy"], "the program is too short"
        assert await system.write(name, value=0xFFFF_FFF0) == AxiResp.SLVERR
        assert await system.read(name) == kept[name]
        if name.endswith("IO") and not backpressure:
            break
    await system.until(idle=1)
    assert await system.write(locked[0], value=kept[locked[0]]["value"]) == AxiResp.OKAY
    assert np.array_equal(system.memory(case), emulated(case))


@cocotb.test()
async def windows_are_locked_while_a_start_waits(dut):
    """A start while the counters of the last run are still being cleared: STATUS says busy."""
    system = await System(dut, 0.0).start()
    await system.write("CONTROL", start=1)  # of a window without a program: an error at once
    await system.until(error=1)
    await system.write("CONTROL", soft_reset=1)
    await system.until(idle=1)
    await system.write("CONTROL", start=1)
    answer = await system.write("WINDOW_BASE_IO", value=64)
    assert (await system.read("STATUS"))["idle"] == 0
    assert answer == AxiResp.SLVERR
    assert await system.read("WINDOW_BASE_IO") == {"value": 0}
    await system.until(error=1)
    assert (await system.read("ERROR"))["code"] == ErrorCode.WINDOW


@cocotb.test()
async def a_reset_begins_without_the_clock_and_ends_with_it(dut):
    """Even one that begins and ends between two edges."""
    system = await System(dut, 0.0).start()
    await system.write("WINDOW_BASE_IO", value=0x1230)
    assert await system.read("WINDOW_BASE_IO") == {"value": 0x1230}
    await FallingEdge(dut.aclk)
    await Timer(1, "ns")
    dut.aresetn.value = 0
    await Timer(1, "ns")
    dut.aresetn.value = 1
    awake = []
    for _ in range(8):
        await FallingEdge(dut.aclk)
        awake.append(any(int(getattr(dut, name).value) for name in HANDSHAKES))
    # the first of these edges is the one after the pulse
    assert awake == [False, False, False, True, True, True, True, True]
    assert await system.read("WINDOW_BASE_IO") == {"value": 0}


@cocotb.test()
async def no_handshake_is_high_during_a_reset(dut):
    system = await System(dut, 0.3).start()
    await system.begin(case_of(7))
    await system.edges(150)
    await FallingEdge(dut.aclk)
    dut.aresetn.value = 0
    await system.edges(1)
    for _ in range(30):
        await FallingEdge(dut.aclk)
        high = [name for name in HANDSHAKES if int(getattr(dut, name).value)]
        assert not high
        assert not int(dut.interrupt.value)
