"""Instructions through the sequencer: the order of their ends, and how far it runs ahead."""

import random
from collections import deque

import pytest
from bench import instruction
from memory_model import simulate

from transept.golden import isa
from transept.golden.config import TINY
from transept.golden.isa import Opcode
from transept.rtl.gemm.sequencer import Sequencer

PORTS = ("tiles", "passes", "jobs")


def matmul(**facts):
    operands = {"rows": 0, "k_tiles": 1, "n_tiles": 1, "finish": 1} | facts
    return int.from_bytes(isa.encode(instruction(Opcode.MATMUL, **operands)), "little")


class Host:
    """Offers instructions, takes what leaves, and ends what it is told to."""

    def __init__(self, words, taken=PORTS):
        self.dut, self.words, self.taken = Sequencer(TINY), deque(words), taken
        self.accepted, self.left = 0, dict.fromkeys(PORTS, 0)
        self.ends = {"pass": 0, "job": 0}  # that may come

    async def cycle(self, ctx, ended=()):
        """Whether an instruction retires in this cycle."""
        dut = self.dut
        ctx.set(dut.instr.valid, bool(self.words))
        ctx.set(dut.instr.payload, self.words[0] if self.words else 0)
        for name in PORTS:
            ctx.set(getattr(dut, name).ready, name in self.taken)
        for name in self.ends:
            ctx.set(getattr(dut, f"{name}_retired"), name in ended)
            self.ends[name] -= name in ended
        for name in self.taken:
            port = getattr(dut, name)
            if ctx.get(port.valid):
                self.left[name] += 1
                if name != "tiles":
                    end = {"passes": "pass", "jobs": "job"}[name]
                    self.ends[end] += ctx.get(port.payload.retire)
        if self.words and ctx.get(dut.instr.ready):
            self.words.popleft()
            self.accepted += 1
        retires = ctx.get(dut.retire)
        await ctx.tick()
        return retires


@pytest.mark.parametrize("seed", range(3))
def test_instructions_retire_in_order(seed):
    """Those with a job by their job, the others by their last pass, one a cycle."""
    rng = random.Random(seed)
    kinds = [rng.choice(["pass", "job"]) for _ in range(60)]
    words = [matmul(finish=int(kind == "job"), k_tiles=rng.randint(1, 2)) for kind in kinds]
    host, done, retired = Host(words), {"pass": 0, "job": 0}, 0

    async def bench(ctx):
        nonlocal retired
        cycle = 0
        while retired < len(kinds):
            # long times in which only passes end, or only jobs
            likely = {"pass": 0.9, "job": 0.02} if cycle // 100 % 2 else {"pass": 0.02, "job": 0.9}
            ended = [n for n, some in host.ends.items() if some and rng.random() < likely[n]]
            turn = retired < len(kinds) and done[kinds[retired]] > 0
            assert ctx.get(host.dut.busy) or not host.accepted or retired == host.accepted
            retires = await host.cycle(ctx, ended)
            assert retires == turn
            if retires:
                done[kinds[retired]] -= 1
                retired += 1
            for name in ended:
                done[name] += 1
            cycle += 1
        assert not ctx.get(host.dut.busy)

    simulate(host.dut, bench, cycles=8000)


def test_sixteen_instructions_ahead():
    """Of their retirement; of two more one is expanded and one is held."""
    host = Host([matmul()] * 30)

    async def bench(ctx):
        for _ in range(200):
            assert not await host.cycle(ctx)

    simulate(host.dut, bench, cycles=1000)
    assert host.left == {"tiles": 16, "passes": 16, "jobs": 16}
    assert host.accepted == 18


@pytest.mark.parametrize(
    ("stuck", "left"), [("tiles", 8), ("passes", 10), ("jobs", 2 * TINY.geometry.acc_slots)]
)
def test_passes_ahead_of_the_array(stuck, left):
    host = Host([matmul(k_tiles=30 if stuck != "jobs" else 1)] * 15, set(PORTS) - {stuck})

    async def bench(ctx):
        for _ in range(200):
            await host.cycle(ctx)

    simulate(host.dut, bench, cycles=1000)
    assert {host.left[name] for name in PORTS if name not in ("jobs", stuck)} == {left}
