"""What instructions leave for those after them, against ``golden.verify``."""

import random

from memory_model import simulate

from transept.golden import isa
from transept.golden.config import TINY
from transept.golden.isa import Opcode
from transept.golden.numerics.softmax import CONTEXT_KEYS
from transept.golden.verify import State, _groups, _selection
from transept.rtl.control.order import OpenGroups, RecordedKeys


def word_of(opcode, operands):
    return int(opcode) | sum(operands[f.name] << low for f, low in isa.FORMATS[opcode].offsets())


def operands_of(rng, opcode, **fixed):
    """Any operands."""
    found = {f.name: rng.getrandbits(f.width) for f in isa.FORMATS[opcode].fields}
    return found | fixed


def chains(rng, count):
    """Instructions of which many go on with what the one before has left open."""
    opcode, base = Opcode.CONTEXT, {}
    fixed = {"rows": 200, "d_tiles": 3, "finish": 0}
    for number in range(65):  # all keys that there can be, and one more
        fixed |= {"accumulate": int(number > 0), "keys": 63 if number < 64 else 0}
        yield opcode, operands_of(rng, opcode, **fixed)
    for _ in range(count):
        fixed = {"keys": rng.choice([64, 64, 64, rng.randint(1, 64)]) - 1}
        if base and rng.random() < 0.98:
            shape = {name: base[name] for name in ("rows", "d_tiles", "halves") if name in base}
            fixed |= shape | {"accumulate": 1, "finish": int(rng.random() < 0.005)}
            if rng.random() < 0.03:
                name = rng.choice(sorted(shape))
                fixed[name] ^= 1
        else:
            some = [Opcode.CONTEXT] * 6 + [Opcode.MATMUL] * 2
            opcode = rng.choice([*some, *(one for one in Opcode if one)])
            fixed |= {"accumulate": 0, "finish": 0} if rng.random() < 0.8 else {}
            base = {}
        names = {f.name for f in isa.FORMATS[opcode].fields}
        o = operands_of(rng, opcode, **{name: v for name, v in fixed.items() if name in names})
        if not base and opcode in (Opcode.CONTEXT, Opcode.MATMUL):
            base = o
        yield opcode, o


def test_open_accumulators():
    rng, dut, state = random.Random(1), OpenGroups(TINY), State()
    counting = (Opcode.MATMUL, Opcode.SCORES, Opcode.SOFTMAX, Opcode.CONTEXT)
    found, most = [], []

    async def bench(ctx):
        for opcode, o in chains(rng, 3000):
            before = state.groups
            wrong = list(_groups(opcode, o, state)) if opcode in counting else []
            ctx.set(dut.instr, word_of(opcode, o))
            assert ctx.get(dut.wrong) == bool(wrong), (opcode, o, before, wrong)
            found.append(bool(wrong))
            if wrong:
                state.groups = before
            elif state.groups:
                most.append(state.groups.keys)
            # what is wrong ends a program, and what is not told to count does not
            ctx.set(dut.read, not wrong)
            await ctx.tick()
            ctx.set(dut.read, 0)
            if wrong and rng.random() < 0.3:  # close them
                opcode = before.opcode if before else Opcode.MATMUL
                o = operands_of(rng, opcode, finish=1, accumulate=int(before is not None))
                ctx.set(dut.instr, word_of(opcode, o))
                ctx.set(dut.read, 1)
                await ctx.tick()
                ctx.set(dut.read, 0)
                state.groups = None

    simulate(dut, bench, cycles=50_000)
    assert 0.02 < sum(found) / len(found) < 0.9
    assert max(most) == CONTEXT_KEYS


def test_the_most_keys_on_the_most_keys():
    """No sum of them looks like a small one."""
    dut = OpenGroups(TINY.replace(max_keys=CONTEXT_KEYS))
    shape = {"rows": 3, "d_tiles": 1, "keys": CONTEXT_KEYS - 1, "finish": 0}

    async def bench(ctx):
        for accumulate in (0, 1):
            o = operands_of(random.Random(1), Opcode.CONTEXT, **shape, accumulate=accumulate)
            ctx.set(dut.instr, word_of(Opcode.CONTEXT, o))
            ctx.set(dut.read, 1)
            assert ctx.get(dut.wrong) == accumulate
            await ctx.tick()

    simulate(dut, bench, cycles=50_000)


def test_recorded_selections():
    rng, dut, state = random.Random(1), RecordedKeys(TINY), State()
    tile, entries, found = TINY.tile, TINY.query_blocks, []

    async def bench(ctx):
        for _ in range(entries):
            assert not ctx.get(dut.cleared)
            await ctx.tick()
        assert ctx.get(dut.cleared)
        for number in range(400):
            opcode = rng.choice([Opcode.SCORES, Opcode.SOFTMAX, Opcode.CONTEXT])
            select = rng.randrange(entries)
            blocks = rng.choice([1, entries - select, rng.randint(1, entries - select)])
            rows = blocks * tile - rng.randint(1, tile)
            keys = rng.choice([0, 31, 32, 63])
            o = operands_of(rng, opcode, select=select, rows=rows, keys=keys)
            wrong = list(_selection(opcode, o, TINY, state))
            ctx.set(dut.instr, word_of(opcode, o))
            ctx.set(dut.read, 1)
            await ctx.tick()
            ctx.set(dut.read, 0)
            ctx.set(dut.visiting, 1)
            said = []
            for block in range(blocks):
                said.append(ctx.get(dut.wrong))
                assert ctx.get(dut.last) == (block == blocks - 1)
                await ctx.tick()
            ctx.set(dut.visiting, 0)
            assert any(said) == bool(wrong), (number, opcode, o)
            found.append(bool(wrong))
            await ctx.tick().repeat(rng.randint(1, 3))

    simulate(dut, bench, cycles=50_000)
    assert 0.2 < sum(found) / len(found) < 0.8
