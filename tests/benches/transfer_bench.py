"""cocotb tests of the load and store engines on cocotbext-axi's memory."""

import cocotb
import numpy as np
import settings
from pins import Pins
from transfer_programs import random_loads, random_stores
from transfer_system import TransferSystem

from transept.golden.emulator.memory import Dram, OnChip
from transept.golden.emulator.transfer import load, store
from transept.golden.filters import summary_bits
from transept.golden.isa import Window, encode
from transept.golden.numerics.fixed import wrap
from transept.rtl.interfaces import ACT_READ_LATENCY, STAT_READ_LATENCY
from transept.sim import axi
from transept.sim.cocotb_runner import parameters
from transept.sim.streams import Driver

CFG = settings.config()
DESIGN = TransferSystem(CFG)
SIZE = 1 << 16
#: base and limit; loads read one window, stores write the other one
WINDOWS = {Window.IO: (0x1000, 0x6000), Window.SCRATCH: (0x8000, 0x7000)}
COUNT = parameters()["count"]
LIMIT_CYCLES = 30_000


def dram_bytes(rng, kind):
    """DRAM without the byte -128, which is refused as an int8 operand."""
    if kind == "extreme":
        return rng.choice(np.array([0x7F, 0x81, 0x00, 0xFF, 0x01], np.uint8), SIZE)
    if kind == "real":
        elements = np.rint(rng.normal(0, 2000, SIZE // 2)).clip(-32767, 32767)
        data = elements.astype("<i2").view(np.uint8)
    else:
        data = rng.integers(0, 256, SIZE, np.uint8)
    return np.where(data == 0x80, 0x7F, data).astype(np.uint8)


class LoadMemories:
    """The on-chip memories behind the load engine: takes writes at random paces."""

    def __init__(self, pins, rng, stall):
        self.pins, self.rng, self.stall = pins, rng, stall
        self.chip = OnChip(CFG, seed=0)
        self.retired = 0

    def step(self):
        pins, chip = self.pins, self.chip
        for name in ("act", "stat", "rowstat"):
            port = f"load_{name}_write"
            if pins.moves(port):
                getattr(chip, name)[pins.get(f"{port}__addr")] = pins.get(f"{port}__data")
                if name == "stat" and pins.raw(f"{port}__observe"):
                    self.observe(port)
                if name == "stat" and CFG.blocks.packed and pins.raw("load_stat_beside__en"):
                    beside = "load_stat_beside"
                    chip.stat[pins.get(f"{beside}__addr")] = pins.get(f"{beside}__data")
            pins.set(f"{port}__ready", self.rng.random() >= self.stall)
        for name in ("vparam", "table"):
            if pins.raw(f"load_{name}__en"):
                word = pins.raw(f"load_{name}__data").to_bytes(CFG.tile, "little")
                memory = getattr(chip, name).view(np.uint8)
                memory[pins.get(f"load_{name}__addr")] = np.frombuffer(word, np.uint8)
        self.retired += pins.raw("load_retire")
        assert not pins.raw("load_illegal_operand")
        assert not pins.get("load_violation")["valid"]

    def observe(self, port):
        """What the filters make of an observed word."""
        entry, word = self.pins.get(f"{port}__summary"), np.array(self.pins.get(f"{port}__data"))
        before = 0 if self.pins.raw(f"{port}__first") else self.chip.summaries[entry]
        self.chip.summaries[entry] = wrap(before + word, summary_bits(CFG.tile))


class StoreMemory:
    """The scratchpads behind the store engine."""

    def __init__(self, pins, rng, stall):
        self.pins, self.rng, self.stall = pins, rng, stall
        self.chip = OnChip(CFG, seed=1)
        self.retired = 0
        latency = {"act": ACT_READ_LATENCY, "stat": STAT_READ_LATENCY}
        self._reads = {name: [None] * (cycles - 1) for name, cycles in latency.items()}

    def step(self):
        pins = self.pins
        for name, reads in self._reads.items():
            port = f"store_{name}_read"
            reads.append(pins.get(f"{port}__addr") if pins.moves(port) else None)
            addr, noise = reads.pop(0), self.rng.integers(-9, 9, CFG.tile)
            memory = getattr(self.chip, name)
            pins.set(f"{port}__data", noise if addr is None else memory[addr])
            pins.set(f"{port}__ready", self.rng.random() >= self.stall)
        self.retired += pins.raw("store_retire")
        assert not pins.get("store_violation")["valid"]


def words(program):
    return [int.from_bytes(encode(instruction), "little") for instruction in program]


async def run(dut, loads, stores, image, rng, *, stall):
    """Run both programs at the same time; everything must be as the emulator leaves it."""
    pins = Pins(dut, DESIGN)
    ram = axi.attach_memory(
        dut, SIZE, backpressure=stall, seed=int(rng.integers(1 << 30)), prefix="m_axi_"
    )
    ram.write(0, image.tobytes())
    sides = LoadMemories(pins, rng, stall), StoreMemory(pins, rng, stall)
    await pins.start()
    windows = [dict(zip(("base", "limit"), WINDOWS.get(w, (0, 0)), strict=True)) for w in Window]
    for prefix, program in (("load", loads), ("store", stores)):
        pins.set(f"{prefix}_windows", windows)
        driver = Driver(dut, f"{prefix}_instr", gap=stall)
        cocotb.start_soon(driver.send(words(program)))
    while [side.retired for side in sides] != [len(loads), len(stores)]:
        await pins.tick()
        for side in sides:
            side.step()
        assert pins.cycle < LIMIT_CYCLES, "an instruction does not retire"
    await pins.tick()
    assert not pins.raw("load_busy")
    assert not pins.raw("store_busy")
    chip, dram = OnChip(CFG, seed=0), Dram(image.copy(), WINDOWS)
    for instruction in loads:
        load(chip, dram, instruction)
    for instruction in stores:
        store(sides[1].chip, dram, instruction)
    for name in ("act", "stat", "rowstat", "vparam", "table", "summaries"):
        assert (getattr(sides[0].chip, name) == getattr(chip, name)).all(), name
    assert ram.read(0, SIZE) == dram.data.tobytes()


@cocotb.test()
@cocotb.parametrize(
    way=["loads", "stores", "both"], kind=["random", "extreme", "real"], stall=[0.0, 0.4]
)
async def equals_the_emulator(dut, way, kind, stall):
    draw, rng = settings.python_random(stall), settings.generator(round(10 * stall))
    loads = list(random_loads(draw, CFG, Window.IO, WINDOWS[Window.IO][1], COUNT))
    stores = list(random_stores(draw, CFG, Window.SCRATCH, WINDOWS[Window.SCRATCH][1], COUNT))
    await run(
        dut,
        [] if way == "stores" else loads,
        [] if way == "loads" else stores,
        dram_bytes(rng, kind),
        rng,
        stall=stall,
    )
