"""The kept key tiles of the rows of SOFTMAX, of operands with any bits, with pauses."""

import random

from amaranth.sim import Simulator

from transept.golden import isa
from transept.golden.config import ROWSTAT_BITS, TINY
from transept.golden.isa import Opcode
from transept.golden.numerics.fixed import wrap
from transept.rtl.softmax.walker import KeptTiles

ADDRESSES = 1 << (TINY.act_words - 1).bit_length()
ENTRIES, BLOCKS = TINY.memories.rowstat_entries, TINY.query_blocks


def operands_of(rng, **fixed):
    """Every operand, half of the time with all its bits."""
    found = {}
    for field in isa.FORMATS[Opcode.SOFTMAX].fields:
        most = (1 << field.width) - 1
        found[field.name] = most if rng.random() < 0.5 else rng.randint(0, most)
    return found | fixed


def tags(o, rowstat, selection):
    """What the walk gives, tile by tile."""
    for row in range(o["rows"] + 1):
        bitmap = selection[(o["select"] + row // TINY.tile) % BLOCKS]
        tiles = [tile for tile in range(TINY.key_tiles) if bitmap >> tile & 1]
        entry = (o["out_rowstat"] + row) % ENTRIES
        for tile in tiles:
            yield {
                "addr": (o["addr"] + row * o["stride"] + tile) % ADDRESSES,
                "maximum": wrap(rowstat[(o["rowstat"] + row) % ENTRIES], 16),
                "found": rowstat[entry] if o["keep"] else 0,
                "entry": entry,
                "last": int(tile == tiles[-1]),
            }


def test_the_walk():
    rng, dut, finished = random.Random(1), KeptTiles(TINY), []
    rowstat = [rng.getrandbits(ROWSTAT_BITS) for _ in range(ENTRIES)]
    most = TINY.key_tiles - 1
    ends = [1, 1 << most, 1 | 1 << most, (2 << most) - 1]
    selection = [rng.choice([*ends, rng.randint(1, (2 << most) - 1)]) for _ in range(BLOCKS)]

    async def memories(ctx):
        while True:
            *_, en, entry, block = await ctx.tick().sample(
                dut.rowstat.en, dut.rowstat.addr, dut.selection.addr
            )
            if en:
                ctx.set(dut.rowstat.data, rowstat[entry])
            ctx.set(dut.selection.bitmap, selection[block])

    async def bench(ctx):
        for case in range(16):
            rows = [0, 3, 4, 9, 255][case % 5 if case < 10 else rng.randrange(4)]
            o = operands_of(rng, rows=rows, keep=case % 2)
            raw = isa.encode(isa.Instruction(Opcode.SOFTMAX, o))
            ctx.set(dut.i.payload, int.from_bytes(raw, "little"))
            ctx.set(dut.i.valid, 1)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
            ctx.set(dut.i.payload, rng.getrandbits(256))
            pace = rng.choice([0.6, 1])
            for wanted in tags(o, rowstat, selection):
                for _ in range(50):
                    ctx.set(dut.o.ready, rng.random() < pace)
                    *_, ready, valid, tag = await ctx.tick().sample(
                        dut.o.ready, dut.o.valid, dut.o.payload
                    )
                    if ready and valid:
                        break
                else:
                    raise AssertionError("no tile")
                assert {name: tag[name] for name in wanted} == wanted, o
            ctx.set(dut.o.ready, 1)
            await ctx.tick().repeat(4)
            assert not ctx.get(dut.o.valid)
        finished.append(True)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.add_testbench(memories, background=True)
    sim.run()
    assert finished
