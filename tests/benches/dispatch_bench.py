"""cocotb tests of dispatch: a Python model of the token rules, engines of random pace."""

from collections import Counter, defaultdict, deque

import cocotb
import settings
from pins import Pins
from token_programs import random_program

from transept.golden import isa
from transept.golden.isa import Engine, Instruction, Opcode
from transept.rtl.control.dispatch import Dispatch

CFG = settings.config()
DESIGN = Dispatch(CFG)
LENGTH = 150
LIMIT_CYCLES = 20_000
#: Cycles from END to its being counted.
COUNTED = 2
#: Cycles from ``retire`` to the token.
TOKEN_CYCLES = 2


class Mock:
    """An engine that takes up to two instructions at a time and retires them in order."""

    def __init__(self, pins, engine, rng, slow):
        self.pins, self.engine, self.rng, self.slow = pins, engine, rng, slow
        self.running = deque()  # cycles left of each
        self.ready = self.retire = False

    def step(self):
        """What this cycle accepted; the outputs of the next one."""
        port = f"engines__{self.engine.value}"
        word = self.pins.raw(f"{port}__payload") if self.pins.moves(port) else None
        if self.retire:
            self.running.popleft()
        if word is not None:
            self.running.append(self.rng.randrange(1, self.slow + 1))
        if self.running:
            self.running[0] -= 1
        self.retire = bool(self.running) and self.running[0] <= 0
        self.ready = len(self.running) < 2 and self.rng.random() < 0.8
        self.pins.set(f"{port}__ready", self.ready)
        return word


class Rules:
    """What may be handed over when."""

    def __init__(self, program):
        self.queues, self.in_flight = defaultdict(deque), defaultdict(deque)
        for instruction in program:
            self.queues[instruction.engine].append(instruction)
        self.tokens, self.arriving = Counter(), deque()

    def accept(self, cycle, engine, word):
        while self.arriving and self.arriving[0][0] <= cycle:
            self.tokens[self.arriving.popleft()[1:]] += 1
        instruction = self.queues[engine].popleft()
        assert word == int.from_bytes(isa.encode(instruction), "little")
        for giver in instruction.wait:
            self.tokens[giver, engine] -= 1
            assert self.tokens[giver, engine] >= 0, f"{instruction.opcode.name} has no token"
        self.in_flight[engine].append(instruction)

    def retire(self, cycle, engine):
        for taker in self.in_flight[engine].popleft().signal:
            self.arriving.append((cycle + TOKEN_CYCLES, engine, taker))

    def finished(self):
        return not any([*self.queues.values(), *self.in_flight.values()])


def offer(pins, pending, rng, gap):
    """Go on offering the next instruction, or start to."""
    if pins.moves("instr"):
        pending.popleft()
        pins.set("instr__valid", 0)
    going_on = pins.raw("instr__valid") and not pins.raw("instr__ready")
    if pending and (going_on or rng.random() >= gap):
        pins.set("instr__payload", pending[0])
        pins.set("instr__valid", 1)


@cocotb.test()
@cocotb.parametrize(case=range(3), gap=[0.0, 0.5], slow=[2, 20])
async def follows_the_token_rules(dut, case, gap, slow):
    rng, pins = settings.python_random(case), Pins(dut, DESIGN)
    program = random_program(rng, LENGTH)
    rules, mocks = Rules(program), [Mock(pins, engine, rng, slow) for engine in Engine]
    words = [isa.encode(i) for i in [*program, Instruction(Opcode.END, {})]]
    pending, retired = deque(int.from_bytes(word, "little") for word in words), 0
    await pins.start()
    pins.set("quiet", 1)
    while not pins.raw("done"):
        await pins.tick()
        assert pins.cycle < LIMIT_CYCLES, "END does not leave"
        assert not pins.raw("overflow")
        retired += pins.get("retired")
        offer(pins, pending, rng, gap)
        for mock in mocks:
            if mock.retire:
                rules.retire(pins.cycle, mock.engine)
            word = mock.step()
            if word is not None:
                rules.accept(pins.cycle, mock.engine, word)
        pins.set("retire", sum(mock.retire << mock.engine for mock in mocks))
        pins.set("busy", sum(bool(mock.running) << mock.engine for mock in mocks))
    for _ in range(COUNTED):
        await pins.tick()
        retired += pins.get("retired")
    assert retired == len(program) + 1
    assert rules.finished()
