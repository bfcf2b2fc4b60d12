"""The reset of the core for an FPGA, edge by edge."""

from amaranth.sim import Simulator

from transept.rtl.fabric import STAGES, ResetSynchroniser


def test_a_reset_begins_without_a_clock_and_ends_with_one():
    reset, seen = ResetSynchroniser(), []

    async def edge(ctx):
        for level in (1, 0):
            ctx.set(reset.clk, level)
            await ctx.delay(1e-6)
        return ctx.get(reset.reset)

    async def bench(ctx):
        for _ in range(2):
            seen.append([await edge(ctx) for _ in range(STAGES + 2)])
            ctx.set(reset.areset, 1)
            await ctx.delay(1e-6)
            seen.append([ctx.get(reset.reset), await edge(ctx)])
            ctx.set(reset.areset, 0)
            await ctx.delay(1e-6)
            seen.append([ctx.get(reset.reset)])

    sim = Simulator(reset)
    sim.add_testbench(bench)
    sim.run()
    assert seen == 2 * [[1] * (STAGES - 1) + [0] * 3, [1, 1], [1]]
