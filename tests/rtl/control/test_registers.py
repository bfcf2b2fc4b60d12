"""The AXI-Lite slave does what the register table says, in whatever order the channels move."""

import dataclasses
import random

import pytest
from lite_host import Host
from memory_model import simulate
from unused import unused

from transept.golden import registers
from transept.golden.config import TINY
from transept.golden.registers import Access
from transept.rtl.control.registers import RegisterFile

OKAY, SLVERR = 0, 2


def run(dut, bench, patience=0.0):
    async def hosted(ctx):
        await bench(ctx, Host(ctx, dut.bus, random.Random(patience), patience))

    simulate(dut, hosted, cycles=10_000)


@pytest.mark.parametrize("patience", [0.0, 0.6])
def test_writes_follow_the_table_and_the_strobes(patience):
    rng = random.Random(7)
    dut = RegisterFile(TINY)

    async def bench(ctx, host):
        state = {r.name: r.reset for r in registers.table(TINY)}
        numbers = [r for r in registers.table(TINY) if r.constant is None and len(r.fields) == 1]
        for _ in range(60):
            entry = rng.choice(numbers)
            data, strobe = rng.getrandbits(32), rng.getrandbits(4)
            response = await host.write(entry.offset, data, strobe)
            assert response == (SLVERR if entry.access is Access.RO else OKAY)
            if entry.access is Access.RW:
                mask = sum(0xFF << 8 * i for i in range(4) if strobe >> i & 1)
                state[entry.name] = state[entry.name] & ~mask | data & mask
                assert ctx.get(getattr(dut, entry.name.lower())) == state[entry.name]
            assert await host.read(entry.offset) == (state[entry.name], OKAY)

    run(dut, bench, patience)


def test_status_fields_are_where_the_table_says():
    dut = RegisterFile(TINY)

    async def bench(ctx, host):
        error = {"code": 2, "engine": 4, "window": 1, "rule": 200}
        ctx.set(dut.error, error)
        value, _ = await host.read(registers.offset("ERROR"))
        assert registers.decode("ERROR", value) == error

    run(dut, bench)


@pytest.mark.parametrize("patience", [0.0, 0.6])
def test_what_is_locked_keeps_its_value(patience):
    """Until it is not; the rest can be written all the while."""
    dut = RegisterFile(TINY)
    writable = [
        r for r in registers.table(TINY)
        if r.constant is None and len(r.fields) == 1 and r.access is Access.RW
    ]  # fmt: skip
    assert {entry.locked for entry in writable} == {True, False}

    async def bench(ctx, host):
        for lock in (1, 0):
            ctx.set(dut.lock, lock)
            await ctx.tick().repeat(2)
            for entry in writable:
                before, _ = await host.read(entry.offset)
                refused = lock and entry.locked
                assert await host.write(entry.offset, ~before & 0xFFFFFFFF) == (
                    SLVERR if refused else OKAY
                )
                after, _ = await host.read(entry.offset)
                assert (after == before) == bool(refused), entry.name

    run(dut, bench, patience)


def test_a_pair_keeps_the_upper_half_of_its_lower_one():
    """All bits of both, whatever is counted or read in between."""
    dut = RegisterFile(TINY)
    pairs = [r.name[:-3] for r in registers.table(TINY) if r.name.endswith("_LO")]
    assert len(pairs) > 3

    async def bench(ctx, host):
        for number, name in enumerate(pairs):
            ctx.set(getattr(dut, name.lower()), (1 << 64) - 1 - (number << 32 | number))
        for number, name in enumerate(pairs):
            low, _ = await host.read(registers.offset(f"{name}_LO"))
            ctx.set(getattr(dut, name.lower()), 0)
            await host.read(registers.offset("STATUS"))
            high, _ = await host.read(registers.offset(f"{name}_HI"))
            assert (low, high) == ((1 << 32) - 1 - number,) * 2, name

    run(dut, bench)


def test_an_interrupt_survives_writes_elsewhere_and_the_one_that_clears_another():
    dut, at = RegisterFile(TINY), registers.offset("IRQ")

    async def pulse(ctx, **bits):
        ctx.set(dut.irq, bits)
        await ctx.tick()
        ctx.set(dut.irq, dict.fromkeys(bits, 0))

    async def bench(ctx, host):
        assert not ctx.get(dut.irq_pending)
        await host.write(registers.offset("PROGRAM_OFFSET"), 0xFFFFFFFF)
        for name, bit in (("done", 1), ("error", 2)):
            await pulse(ctx, **{name: 1})
            assert await host.read(at) == (bit, OKAY)
            assert ctx.get(dut.irq_pending)
            await host.write(registers.offset("PROGRAM_OFFSET"), 0xFFFFFFFF)
            await host.write(at, 0xFFFFFFFF, strobe=0b1110)
            await host.write(at, 3 - bit)
            assert await host.read(at) == (bit, OKAY)
            await host.write(at, bit)
            assert await host.read(at) == (0, OKAY)
            assert not ctx.get(dut.irq_pending)

    run(dut, bench)


@pytest.mark.parametrize(("at", "count"), [(0x500, 3), (0x508, 4), (0x504, 2)])
def test_an_array_is_aligned_to_its_size(monkeypatch, at, count):
    wrong = dataclasses.replace(registers.find("CLIPPED"), name="MANY", offset=at, count=count)
    monkeypatch.setattr(registers, "table", lambda cfg: (registers.find("STATUS"), wrong))
    says = f"MANY at {at:#x} must be {count} registers at a multiple of their size, a power of two"
    with unused(), pytest.raises(ValueError, match=says):
        RegisterFile(TINY)


def test_where_no_register_is_a_read_finds_nothing():
    dut = RegisterFile(TINY)
    known = {
        entry.offset + 4 * index for entry in registers.table(TINY) for index in range(entry.count)
    }
    unknown = [at for at in range(0, 1 << registers.ADDRESS_BITS, 4) if at not in known]

    async def bench(ctx, host):
        for entry in registers.table(TINY):
            if entry.access is Access.RW:
                await host.write(entry.offset, 0xFFFFFFFF)
        for offset in unknown[:: max(1, len(unknown) // 60)]:
            assert await host.read(offset) == (0, SLVERR), hex(offset)

    run(dut, bench)


def test_an_array_of_two_says_which_is_read(monkeypatch):
    two = dataclasses.replace(registers.find("CLIPPED"), name="TWO", offset=0x500, count=2)
    table = (*registers.table(TINY), two)
    monkeypatch.setattr(registers, "table", lambda cfg: table)
    dut, read = RegisterFile(TINY), []

    async def bench(ctx, host):
        for index in (1, 0, 1):
            assert await host.read(0x500 + 4 * index) == (0, OKAY)
            read.append(ctx.get(dut.two_index))

    run(dut, bench)
    assert read == [1, 0, 1]
