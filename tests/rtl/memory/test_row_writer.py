"""The writer of a pipeline that cannot pause: places, order, and memories that pause."""

from __future__ import annotations

import random

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from memory_model import simulate

from transept.golden.config import TINY
from transept.golden.registers import Stall
from transept.rtl.interfaces import act_read, act_write, engine_members, rowstat_write
from transept.rtl.memory.row_engine import run_rows
from transept.rtl.memory.row_writer import WORDS_RESERVED, RowWriter

BITS = 8


def word(number):
    """The number-th word of rows of three, and where it goes."""
    return {
        "word": [(number + lane) % 100 for lane in range(TINY.tile)],
        "addr": number,
        "last": int(number % 3 == 2),
        "entry": number // 3,
        "statistic": 7 * number,
    }


def test_every_place_is_filled_and_none_too_many():
    """With memories that take nothing, ``room`` ends with the last place, and all words wait."""
    dut = RowWriter(TINY, BITS)

    async def bench(ctx):
        for number in range(WORDS_RESERVED):
            assert ctx.get(dut.room), number
            ctx.set(dut.reserve, 1)
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload, word(number))
            await ctx.tick()
        ctx.set(dut.reserve, 0)
        ctx.set(dut.i.valid, 0)
        assert not ctx.get(dut.room)
        ctx.set(dut.act_write.ready, 1)
        ctx.set(dut.rowstat_write.ready, 1)
        for number in range(WORDS_RESERVED):
            while not ctx.get(dut.act_write.en):
                await ctx.tick()
            assert ctx.get(dut.act_write.addr) == number
            await ctx.tick()
            assert ctx.get(dut.room)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.act_write.en)

    simulate(dut, bench, cycles=500)


def test_words_and_statistics_arrive_once_and_in_order():
    """Either memory pauses as it likes; a row is written when both have accepted."""
    dut, rng, count = RowWriter(TINY, BITS), random.Random(3), 90
    words, statistics, rows = [], [], []

    async def bench(ctx):
        sent = 0
        while len(words) < count or len(statistics) < count // 3:
            send = sent < count and ctx.get(dut.room) and rng.random() < 0.7
            ctx.set(dut.reserve, int(send))
            ctx.set(dut.i.valid, int(send))
            if send:
                ctx.set(dut.i.payload, word(sent))
                sent += 1
            for port in (dut.act_write, dut.rowstat_write):
                ctx.set(port.ready, int(rng.random() < 0.5))
            if ctx.get(dut.act_write.en) and ctx.get(dut.act_write.ready):
                data = [ctx.get(element) for element in dut.act_write.data]
                words.append((ctx.get(dut.act_write.addr), data))
            if ctx.get(dut.rowstat_write.en) and ctx.get(dut.rowstat_write.ready):
                statistics.append(
                    (ctx.get(dut.rowstat_write.addr), ctx.get(dut.rowstat_write.data))
                )
            rows.append(ctx.get(dut.written))
            await ctx.tick()

    simulate(dut, bench, cycles=2000)
    assert words == [(n, word(n)["word"]) for n in range(count)]
    assert statistics == [(n // 3, 7 * n) for n in range(2, count, 3)]
    assert sum(rows) == count // 3


class Engine(wiring.Component):
    """An engine whose walk and whose writer are the test."""

    def __init__(self):
        ports = {
            "act_read": Out(act_read(TINY)),
            "act_write": Out(act_write(TINY)),
            "rowstat_write": Out(rowstat_write(TINY)),
        }
        walk = stream.Signature(256)
        super().__init__(
            engine_members()
            | ports
            | {"walk": Out(walk), "written": In(1), "accepted": Out(1), "rows": In(4)}
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.accepted.eq(run_rows(m, self, self.rows, self.walk, self))
        return m


def test_an_engine_retires_with_its_last_row():
    """``busy`` from the cycle after its acceptance to its retirement, one instruction at a time."""
    dut = Engine()

    async def bench(ctx):
        ctx.set(dut.walk.ready, 1)
        for rows in (1, 3, 16):
            ctx.set(dut.rows, rows - 1)
            assert not ctx.get(dut.busy)
            assert not ctx.get(dut.accepted)
            ctx.set(dut.instr.payload, 1000 + rows)
            ctx.set(dut.instr.valid, 1)
            assert ctx.get(dut.instr.ready)
            assert ctx.get(dut.accepted)
            assert ctx.get(dut.walk.valid)
            assert ctx.get(dut.walk.payload) == 1000 + rows
            await ctx.tick()
            ctx.set(dut.rows, 7)  # of the next one
            for row in range(rows):
                for written in (0, 0, 1):
                    ctx.set(dut.written, written)
                    assert ctx.get(dut.busy)
                    assert not ctx.get(dut.retire), row
                    assert not ctx.get(dut.instr.ready)
                    assert not ctx.get(dut.walk.valid)
                    assert not ctx.get(dut.accepted)
                    await ctx.tick()
            ctx.set(dut.written, 0)
            ctx.set(dut.instr.valid, 0)
            assert ctx.get(dut.retire)
            assert ctx.get(dut.busy)
            await ctx.tick()
            assert not ctx.get(dut.retire)

    simulate(dut, bench, cycles=200)


def test_an_engine_waits_for_any_port_that_refuses():
    dut = Engine()

    async def bench(ctx):
        ports = (dut.act_read, dut.act_write, dut.rowstat_write)
        for asks in range(8):
            for takes in range(8):
                for bit, port in enumerate(ports):
                    ctx.set(port.en, asks >> bit & 1)
                    ctx.set(port.ready, takes >> bit & 1)
                refused = asks & ~takes
                assert ctx.get(dut.stall) == (Stall.SCRATCHPAD if refused else Stall.NONE)
        await ctx.tick()

    simulate(dut, bench, cycles=10)
