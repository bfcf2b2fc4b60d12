"""A resting pipeline gives what one gives that always moves, and moves only while it must."""

import random

from amaranth import Module, Signal
from amaranth.sim import Simulator

from transept.rtl.arith.pipeline import delay, resting

LATENCY = 3


def run(entries, pokes=()):
    """What a resting delay of LATENCY cycles and a counter of its cycles show after each cycle.

    entries: the value that enters in each cycle, or None; pokes: cycles that it moves regardless.
    """
    m, pipeline = Module(), Module()
    value, entering, poked = Signal(8), Signal(), Signal()
    moved = Signal(8)
    delayed = delay(pipeline, value, LATENCY)
    pipeline.d.sync += moved.eq(moved + 1)
    m.submodules.pipeline = resting(m, pipeline, LATENCY, entering, unless=poked)
    seen = []

    async def bench(ctx):
        for cycle, entry in enumerate(entries):
            ctx.set(value, entry or 0)
            ctx.set(entering, entry is not None)
            ctx.set(poked, cycle in pokes)
            await ctx.tick()
            seen.append((ctx.get(delayed), ctx.get(moved)))

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return seen


def test_what_enters_leaves_after_the_latency():
    random.seed(1)
    entries = [random.randrange(256) if random.random() < 0.3 else None for _ in range(300)]
    seen = run(entries + [None] * LATENCY)
    for cycle, entry in enumerate(entries):
        if entry is not None:
            assert seen[cycle + LATENCY - 1][0] == entry


def test_it_moves_while_something_is_under_way_and_when_told():
    moved = [count for _, count in run([5] + [None] * 9, pokes={7})]
    assert moved == [1, 2, 3, 4, 4, 4, 4, 5, 5, 5]
