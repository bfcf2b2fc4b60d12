"""An engine without work holds still, and only then."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from transept.rtl.control.idle import rest_when_idle
from transept.rtl.interfaces import engine_members


class Engine(wiring.Component):
    """Busy for two cycles with each instruction; ``pulse`` follows, and ``moved`` counts."""

    def __init__(self):
        super().__init__({**engine_members(), "pulse": Out(1), "moved": Out(8)})

    def elaborate(self, platform):
        m = Module()
        left = Signal(2)
        m.d.comb += [self.busy.eq(left != 0), self.instr.ready.eq(~self.busy)]
        m.d.sync += [self.pulse.eq(left == 1), self.moved.eq(self.moved + 1)]
        with m.If(self.busy):
            m.d.sync += left.eq(left - 1)
        with m.Elif(self.instr.valid):
            m.d.sync += left.eq(2)
        return m


def test_without_work_it_holds_still():
    m, engine = Module(), Engine()
    m.submodules.engine = rest_when_idle(m, engine)

    async def bench(ctx):
        await ctx.tick().repeat(5)
        assert ctx.get(engine.moved) == 0

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def test_it_moves_with_an_instruction_until_its_last_pulse_ends():
    m, engine, poked = Module(), Engine(), Signal()
    m.submodules.engine = rest_when_idle(m, engine, unless=poked)
    seen = []

    async def bench(ctx):
        for cycle in range(10):
            ctx.set(engine.instr.valid, cycle == 2)
            ctx.set(poked, cycle == 8)
            await ctx.tick()
            seen.append((ctx.get(engine.moved), ctx.get(engine.pulse)))

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert [moved for moved, _ in seen] == [0, 0, 1, 2, 3, 4, 4, 4, 5, 5]
    assert [pulse for _, pulse in seen] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
