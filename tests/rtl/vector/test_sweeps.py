"""The words of rows in the order in which they are visited, and the chunks that they are cut into;
operands of any bits, with pauses on every port."""

import random

import pytest
from memory_model import simulate

from transept.golden import isa
from transept.golden.config import TINY
from transept.golden.isa import Opcode
from transept.rtl.vector.feeder import ChunkFeeder
from transept.rtl.vector.walker import Sweeps

ADDRESSES = 1 << (TINY.act_words - 1).bit_length()
ENTRIES = TINY.memories.rowstat_entries


def operands_of(rng, opcode, **fixed):
    """Every operand, half of the time with all its bits."""
    found = {}
    for field in isa.FORMATS[opcode].fields:
        most = (1 << field.width) - 1
        found[field.name] = most if rng.random() < 0.5 else rng.randint(0, most)
    return found | fixed


def order_of(rows, measured):
    """(row, whether it is written) of each sweep."""
    if not measured:
        return [(row, 1) for row in range(rows)]
    order = [(0, 0)]
    for row in range(1, rows):
        order += [(row, 0), (row - 1, 1)]
    return [*order, (rows - 1, 1)]


def visits(opcode, o):
    """What Sweeps asks for, word by word."""
    elementwise = opcode == Opcode.ELEMENTWISE
    measured = not elementwise and o["normalise"]
    for row, writes in order_of(o["rows"] + 1, measured):
        for word in range(o["words"]):
            place = {
                name: (o[f"{name}_addr"] + row * o[f"{name}_stride"] + word) % ADDRESSES
                for name in ("y", "x", "out", "sum")
                if f"{name}_stride" in o
            }
            visit = {
                "y_addr": place["y"],
                "x_addr": place["x"],
                "paired": int(elementwise or o["residual"]),
                "writes": writes,
                "word": word,
                "last": int(word == o["words"] - 1),
            }
            if writes:
                visit |= {"addr": place["out"], "entry": (o["rowstat"] + row) % ENTRIES}
                visit |= {} if elementwise else {"sum_addr": place["sum"]}
            yield visit


def seen(request, wanted):
    """The fields of a request that are wanted."""
    return {
        name: int((request if name in ("y_addr", "x_addr", "paired") else request.tag)[name])
        for name in wanted
    }


def test_the_order_of_visits():
    rng, dut = random.Random(1), Sweeps(TINY)

    async def bench(ctx):
        for rows, words in ((0, 1), (1, 1), (2, 2), (5, 3), (3, 1), (0, 255), (255, 1), (4, 2)):
            opcode = rng.choice([Opcode.NORM, Opcode.NORM, Opcode.ELEMENTWISE])
            o = operands_of(rng, opcode, rows=rows, words=words)
            word = int.from_bytes(isa.encode(isa.Instruction(opcode, o)), "little")
            ctx.set(dut.i.payload, word | rng.getrandbits(24) << 8)  # of any engines
            ctx.set(dut.i.valid, 1)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
            ctx.set(dut.i.payload, rng.getrandbits(256))
            for visit in visits(opcode, o):
                for _ in range(50):
                    ctx.set(dut.o.ready, rng.random() < 0.7)
                    _, _, ready, valid, request = await ctx.tick().sample(
                        dut.o.ready, dut.o.valid, dut.o.payload
                    )
                    if ready and valid:
                        break
                else:
                    raise AssertionError("no visit")
                assert seen(request, visit) == visit, (opcode, o)
            ctx.set(dut.o.ready, 1)
            await ctx.tick().repeat(3)
            assert not ctx.get(dut.o.valid)

    simulate(dut, bench, cycles=50_000)


def chunks_of(cfg, word, o):
    """The chunks of a word."""
    tile, lanes = cfg.tile, cfg.engines.vector_lanes
    tag, count = word["tag"], tile // lanes
    both = tag["writes"] and o["sum"] and o["normalise"]
    for plain in [1, 0] if both else [tag["writes"] & o["sum"]]:
        for number in range(count):
            first = tag["word"] * tile + number * lanes
            ends = number == count - 1
            final = ends and not (both and plain)
            yield {
                "y": word["y"][number * lanes :][:lanes],
                "x": word["x"][number * lanes :][:lanes],
                "paired": word["paired"],
                "keep": sum((first + k < o["count"]) << k for k in range(lanes)),
                "row": ((tag["word"] + o["param"]) * count + number)
                % (cfg.geometry.max_hidden // lanes),
                "writes": tag["writes"],
                "plain": plain,
                "counts": int(tag["writes"] and not (both and plain)),
                "first": int(first == 0),
                "last": int(tag["last"] and final),
                "word_last": int(ends),
                "addr": tag["sum_addr" if plain and not o["elementwise"] else "addr"],
                "entry": tag["entry"],
            }


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_the_chunks_of_words(lanes):
    rng = random.Random(lanes)
    cfg = TINY.replace(vector_lanes=lanes)
    dut, kinds = ChunkFeeder(cfg), [(0, 1, 0), (1, 0, 0), (1, 1, 0), (1, 0, 1)]

    async def bench(ctx):
        for case in range(60):
            o = dict(zip(("sum", "normalise", "elementwise"), kinds[case // 3 % 4], strict=True))
            at = rng.choice([0, 1, 127, 254, 255])
            near = at * cfg.tile + rng.randint(0, cfg.tile)
            o |= {"count": rng.choice([near, 4095, 1]), "param": rng.choice([0, 1, 31, 255])}
            for name, value in o.items():
                ctx.set(getattr(dut, name), value)
            word = {
                "y": [rng.randint(-32768, 32767) for _ in range(cfg.tile)],
                "x": [rng.randint(-32768, 32767) for _ in range(cfg.tile)],
                "paired": rng.randint(0, 1),
                "tag": {
                    "writes": int(case % 3 > 0),
                    "word": at,
                    "last": rng.randint(0, 1),
                    "addr": rng.randrange(ADDRESSES),
                    "sum_addr": rng.randrange(ADDRESSES),
                    "entry": rng.randrange(ENTRIES),
                },
            }
            ctx.set(dut.i.payload, word)
            ctx.set(dut.i.valid, 0)
            assert not ctx.get(dut.o.valid)
            await ctx.tick()
            ctx.set(dut.i.valid, 1)
            wanted = list(chunks_of(cfg, word, o))
            while wanted:
                ready = rng.random() < 0.7
                ctx.set(dut.o.ready, ready)
                assert ctx.get(dut.o.valid)
                chunk = ctx.get(dut.o.payload)
                found = {name: chunk[name] for name in wanted[0]}
                found |= {name: list(chunk[name]) for name in ("y", "x")}
                assert found == wanted[0], (word, o)
                assert ctx.get(dut.i.ready) == (ready and len(wanted) == 1)
                await ctx.tick()
                if ready:
                    wanted.pop(0)

    simulate(dut, bench, cycles=50_000)
