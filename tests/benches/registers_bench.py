"""cocotb tests of the register file behind cocotbext-axi's master."""

import cocotb
import settings
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiResp
from pins import Pins

from transept.golden import registers
from transept.golden.registers import Access
from transept.rtl.control.registers import RegisterFile
from transept.sim import axi

CFG = settings.config()
DESIGN = RegisterFile(CFG)
TABLE = registers.table(CFG)
BACKPRESSURE = [0.0, 0.5]
WRITES = 80
WORD = 4


async def started(dut, backpressure):
    pins = Pins(dut, DESIGN)
    master = axi.attach_registers(dut, backpressure=backpressure, prefix="bus_")
    await pins.start()
    return pins, master


async def read(master, addr):
    found = await master.read(addr, WORD)
    return int.from_bytes(found.data, "little"), found.resp


@cocotb.test()
@cocotb.parametrize(backpressure=BACKPRESSURE)
async def every_register_reads_its_constant_or_its_reset(dut, backpressure):
    _, master = await started(dut, backpressure)
    for entry in TABLE:
        expected = entry.reset if entry.constant is None else entry.constant
        assert await read(master, entry.offset) == (expected, AxiResp.OKAY), entry.name


@cocotb.test()
@cocotb.parametrize(backpressure=BACKPRESSURE)
async def writes_of_any_bytes_follow_the_table(dut, backpressure):
    pins, master = await started(dut, backpressure)
    rng = settings.python_random(1)
    state = {entry.name: entry.reset for entry in TABLE}
    numbers = [entry for entry in TABLE if entry.constant is None and len(entry.fields) == 1]
    for _ in range(WRITES):
        entry, first = rng.choice(numbers), rng.randrange(WORD)
        data = rng.randbytes(rng.randint(1, WORD - first))
        answer = await master.write(entry.offset + first, data)
        writable = entry.access is Access.RW
        assert answer.resp == (AxiResp.OKAY if writable else AxiResp.SLVERR), entry.name
        if writable:
            word = bytearray(state[entry.name].to_bytes(WORD, "little"))
            word[first : first + len(data)] = data
            state[entry.name] = int.from_bytes(word, "little")
            assert pins.raw(entry.name.lower()) == state[entry.name]
        assert await read(master, entry.offset) == (state[entry.name], AxiResp.OKAY)


@cocotb.test()
@cocotb.parametrize(backpressure=BACKPRESSURE)
async def many_accesses_are_under_way(dut, backpressure):
    """Reads and writes queued at once: each gets its own answer."""
    pins, master = await started(dut, backpressure)
    rng = settings.python_random(2)
    writable = [e for e in TABLE if e.access is Access.RW and len(e.fields) == 1]
    values = {entry.name: rng.getrandbits(32) for entry in writable}
    writes = [cocotb.start_soon(master.write_dword(e.offset, values[e.name])) for e in writable]
    constants = [entry for entry in TABLE if entry.constant is not None]
    reads = [cocotb.start_soon(master.read_dword(e.offset)) for e in constants]
    for task in writes:
        await task
    assert [await task for task in reads] == [entry.constant for entry in constants]
    for entry in writable:
        assert pins.raw(entry.name.lower()) == values[entry.name]


@cocotb.test()
async def unknown_addresses_answer_with_an_error(dut):
    _, master = await started(dut, 0.0)
    known = {entry.offset for entry in TABLE}
    for addr in (0x01C, 0x0FC, 0x7F0, 0xFFC):
        assert addr not in known
        assert (await master.write(addr, bytes(WORD))).resp == AxiResp.SLVERR
        assert (await read(master, addr))[1] == AxiResp.SLVERR
    assert (await master.write(registers.offset("ID"), bytes(WORD))).resp == AxiResp.SLVERR
    assert await read(master, registers.offset("ID")) == (registers.MAGIC, AxiResp.OKAY)


@cocotb.test()
@cocotb.parametrize(backpressure=BACKPRESSURE)
async def commands_are_pulses_and_the_enable_stays(dut, backpressure):
    pins, master = await started(dut, backpressure)
    seen = []

    async def watch():
        while True:
            await RisingEdge(dut.clk)
            control = pins.get("control")
            seen.append((control["start"], control["soft_reset"]))

    cocotb.start_soon(watch())
    at = registers.offset("CONTROL")
    await master.write_dword(at, registers.encode("CONTROL", start=1, irq_enable=1))
    await master.write_dword(at, registers.encode("CONTROL", soft_reset=1, irq_enable=1))
    assert await master.read_dword(at) == registers.encode("CONTROL", irq_enable=1)
    assert (seen.count((1, 0)), seen.count((0, 1)), seen.count((1, 1))) == (1, 1, 0)


@cocotb.test()
async def interrupts_are_cleared_by_ones_only(dut):
    pins, master = await started(dut, 0.0)
    at = registers.offset("IRQ")
    pins.set("irq", {"done": 1, "error": 1})
    await pins.tick()
    pins.set("irq", {"done": 0, "error": 0})
    assert await master.read_dword(at) == 3
    await master.write_dword(at, 1)
    assert await master.read_dword(at) == 2
    assert pins.raw("irq_pending")
    await master.write_dword(at, 2)
    await pins.tick()
    assert not pins.raw("irq_pending")


@cocotb.test()
async def a_pair_reads_as_one_number(dut):
    pins, master = await started(dut, 0.0)
    pins.set("cycles", 0x1_FFFF_FFFF)
    low = await master.read_dword(registers.offset("CYCLES_LO"))
    pins.set("cycles", 0x2_0000_0000)
    high = await master.read_dword(registers.offset("CYCLES_HI"))
    assert high << 32 | low == 0x1_FFFF_FFFF


@cocotb.test()
@cocotb.parametrize(backpressure=BACKPRESSURE)
async def an_array_is_read_element_by_element(dut, backpressure):
    pins, master = await started(dut, backpressure)
    entry = registers.find("CLIPPED")

    async def answer():
        while True:
            await pins.settle()
            pins.set("clipped", 7 * pins.get("clipped_index") + 3)

    cocotb.start_soon(answer())
    for index, addr in enumerate(entry.offsets):
        assert await read(master, addr) == (7 * index + 3, AxiResp.OKAY)
        assert (await master.write(addr, bytes(WORD))).resp == AxiResp.SLVERR
    beyond = entry.offsets[-1] + WORD
    assert (await read(master, beyond))[1] == AxiResp.SLVERR
