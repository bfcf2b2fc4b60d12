"""Dispatch: latencies, errors, END and halt, with engines of random pace."""

import random
from collections import deque

from amaranth.sim import Simulator
from token_programs import instruction

from transept.golden import isa
from transept.golden.config import TINY
from transept.golden.isa import TOKEN_LIMIT, Engine, Instruction, Opcode
from transept.golden.registers import Unit
from transept.rtl.control.dispatch import Dispatch
from transept.rtl.control.tokens import TokenCounters

END = Instruction(Opcode.END, {})
#: Cycles after a reset in which the legality checker clears its memory, and the check of END.
CLEARING = TINY.query_blocks + 10


class Mock:
    """An engine that takes instructions, up to two at a time, and retires them in order."""

    def __init__(self, dut, engine, rng, slow):
        self.port, self.engine = dut.engines[engine], engine
        self.rng, self.slow = rng, slow
        self.running = deque()  # cycles left of each
        self.ready = self.retire = 0

    def step(self, accepted):
        """What happened at the last edge; the outputs of the next cycle."""
        if self.retire:
            self.running.popleft()
        if accepted:
            self.running.append(self.rng.randrange(1, self.slow + 1))
        if self.running:
            self.running[0] -= 1
        self.retire = bool(self.running) and self.running[0] <= 0
        self.ready = len(self.running) < 2 and self.rng.random() < 0.8


def simulate(dut, words, engines, cycles, *, gap=0.0, rng=None):
    """Feed ``words``; events (cycle, "accept" or "retire", engine, payload) and how it ended."""
    events, result, pending = [], {}, deque(words)

    async def bench(ctx):
        offered = False
        ctx.set(dut.quiet, 1)
        for cycle in range(cycles):
            ctx.set(dut.retire, sum(mock.retire << mock.engine for mock in engines))
            ctx.set(dut.busy, sum(bool(mock.running) << mock.engine for mock in engines))
            if not offered and pending and (rng is None or rng.random() >= gap):
                offered = True
            ctx.set(dut.instr.valid, offered)
            if pending:
                ctx.set(dut.instr.payload, pending[0])
            for mock in engines:
                ctx.set(mock.port.ready, mock.ready)
                if mock.retire:
                    events.append((cycle, "retire", mock.engine, None))
            flags = [m.port.valid for m in engines] + [m.port.payload for m in engines]
            _, _, *seen = await ctx.tick().sample(
                dut.instr.ready, dut.done, dut.illegal, dut.overflow, dut.retired, *flags
            )
            ready, done, illegal, overflow, retired, *ports = seen
            result["retired"] = result.get("retired", 0) + retired
            for number, mock in enumerate(engines):
                accepted = mock.ready and ports[number]
                if accepted:
                    payload = ports[len(engines) + number]
                    events.append((cycle, "accept", mock.engine, payload))
                mock.step(accepted)
            if offered and ready:
                pending.popleft()
                offered = False
            # operands are random: what the checker says of them is of no interest here
            unknown = illegal.valid and illegal.engine == Unit.CONTROL
            if unknown or overflow:
                result["error"] = (unknown, overflow)
                return
            if done:
                result["done"] = cycle
                await ctx.tick()
                result["retired"] += ctx.get(dut.retired)
                return

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    return events, result


def words_of(program):
    return [int.from_bytes(isa.encode(i), "little") for i in program]


def test_latencies_are_as_documented():
    rng, dut = random.Random(1), Dispatch(TINY)
    program = [
        instruction(rng, Engine.LOAD, signal={Engine.STORE}),
        instruction(rng, Engine.STORE, wait={Engine.LOAD}),
    ]
    engines = [Mock(dut, engine, random.Random(3), slow=1) for engine in Engine]
    for mock in engines:
        mock.ready = 1
    events, result = simulate(dut, words_of([*program, END]), engines, 200)
    (first, *_), (retired, *_), (second, *_) = events[:3]
    assert first <= 4
    assert second - retired == 3
    assert result["done"]


def test_end_waits_for_quiet_and_for_idle_engines():
    dut = Dispatch(TINY)

    async def bench(ctx):
        ctx.set(dut.instr.payload, words_of([END])[0])
        ctx.set(dut.instr.valid, 1)
        for _ in range(CLEARING):
            assert not ctx.get(dut.instr.ready)
            await ctx.tick()
        for quiet, busy in ((0, 0), (1, 4), (0, 1), (1, 0)):
            ctx.set(dut.quiet, quiet)
            ctx.set(dut.busy, busy)
            assert ctx.get(dut.done) == (quiet and not busy)
            assert ctx.get(dut.instr.ready) == ctx.get(dut.done)
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


def test_an_unknown_opcode_stops():
    dut = Dispatch(TINY)
    engines = [Mock(dut, engine, random.Random(1), slow=2) for engine in Engine]
    first = instruction(random.Random(1), Engine.LOAD)
    _, result = simulate(dut, [*words_of([first]), 0xEE, *words_of([END])], engines, 100)
    assert result["error"] == (1, 0)
    assert "done" not in result


def test_too_many_tokens_are_an_error():
    rng, dut = random.Random(1), Dispatch(TINY)
    engines = [Mock(dut, engine, random.Random(1), slow=1) for engine in Engine]
    program = [instruction(rng, Engine.VECTOR, signal={Engine.STORE})] * (TOKEN_LIMIT + 1)
    events, result = simulate(dut, words_of(program), engines, 20_000)
    assert result["error"] == (0, 1 << Engine.VECTOR)
    assert sum(kind == "retire" for _, kind, _, _ in events) == TOKEN_LIMIT + 1


def test_a_program_finds_no_tokens_of_the_one_before():
    """STORE waits for a token of this program, and says so; what is illegal counts from 0."""
    rng, dut = random.Random(1), Dispatch(TINY)
    load = instruction(rng, Engine.LOAD, signal={Engine.STORE})
    store = instruction(rng, Engine.STORE, wait={Engine.LOAD})
    handed, ended = [dut.engines[engine].valid for engine in Engine], []

    async def feed(ctx, word):
        ctx.set(dut.instr.payload, word)
        ctx.set(dut.instr.valid, 1)
        while not ctx.get(dut.instr.ready):
            await ctx.tick()
        await ctx.tick()
        ctx.set(dut.instr.valid, 0)
        await ctx.tick().repeat(6)

    async def run(ctx, engine):
        assert [ctx.get(valid) for valid in handed] == [other == engine for other in Engine]
        ctx.set(dut.engines[engine].ready, 1)
        await ctx.tick()
        ctx.set(dut.engines[engine].ready, 0)
        ctx.set(dut.retire, 1 << engine)
        await ctx.tick()
        ctx.set(dut.retire, 0)
        await ctx.tick().repeat(4)

    async def bench(ctx):
        load_word, store_word = words_of([load, store])
        await feed(ctx, load_word)
        assert ctx.get(dut.waiting) == 0
        await run(ctx, Engine.LOAD)
        await ctx.tick().repeat(100)  # until it is checked
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        await feed(ctx, store_word)
        assert not any(ctx.get(valid) for valid in handed)
        assert ctx.get(dut.waiting) == 1 << Engine.STORE
        await feed(ctx, load_word)
        assert ctx.get(dut.waiting) == 1 << Engine.STORE
        await run(ctx, Engine.LOAD)
        assert ctx.get(dut.waiting) == 0
        await run(ctx, Engine.STORE)
        ctx.set(dut.retire, (1 << len(Engine)) - 1)
        await ctx.tick()
        ctx.set(dut.retire, 0)
        await ctx.tick()
        assert ctx.get(dut.retired) == len(Engine)
        ctx.set(dut.instr.payload, 0xEE)
        ctx.set(dut.instr.valid, 1)
        while not (ctx.get(dut.illegal.valid) and ctx.get(dut.illegal.engine) == Unit.CONTROL):
            await ctx.tick()
        assert ctx.get(dut.illegal.index) == 2
        ended.append(True)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run_until(1e-5)
    assert ended


def test_tokens_are_counted_up_to_their_limit():
    """Against a model; a token too many is lost and told once, one that is taken at once is not."""
    engines, rng = (Engine.LOAD, Engine.STORE), random.Random(1)
    dut, pairs = TokenCounters(engines), [(f, t) for f in engines for t in engines]
    counts, told, full = dict.fromkeys(pairs, 0), [], set()

    async def bench(ctx):
        for cycle in range(1200):
            rising = cycle // 400 != 1
            clear = cycle == 1100
            give = [0] * len(Engine)
            take = [0] * len(Engine)
            overflow = 0
            for pair in pairs:
                giver, taker = pair
                gives = rng.random() < (0.95 if rising else 0.3)
                takes = counts[pair] > 0 and rng.random() < (0.05 if rising else 0.95)
                give[giver] |= gives << taker
                take[taker] |= takes << giver
                lost = gives and not takes and counts[pair] == TOKEN_LIMIT and not clear
                overflow |= lost << giver
                counts[pair] += gives - takes - lost
                if counts[pair] == TOKEN_LIMIT:
                    full.add((pair, gives, takes))
                counts[pair] *= not clear
            ctx.set(dut.give, give)
            ctx.set(dut.take, take)
            ctx.set(dut.clear, clear)
            await ctx.tick()
            assert ctx.get(dut.overflow) == overflow
            told.append(overflow)
            for giver, taker in pairs:
                assert ctx.get(dut.there[taker]) >> giver & 1 == (counts[giver, taker] > 0)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert {0, 1 << Engine.LOAD, 1 << Engine.STORE} <= set(told)
    assert {(pair, True, True) for pair in pairs} <= full


def test_halt_hands_over_nothing():
    rng, dut = random.Random(1), Dispatch(TINY)
    seen = []

    async def bench(ctx):
        ctx.set(dut.halt, 1)
        ctx.set(dut.instr.payload, words_of([instruction(rng, Engine.GEMM)])[0])
        ctx.set(dut.instr.valid, 1)
        for halt in (1, 0):
            ctx.set(dut.halt, halt)
            for _ in range(5):
                await ctx.tick()
                seen.append(ctx.get(dut.engines[Engine.GEMM].valid))

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    half = len(seen) // 2
    assert not any(seen[:half])
    assert any(seen[half:])
