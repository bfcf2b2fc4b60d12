"""On-chip memories in Python, for tests of the engines under the Amaranth simulator."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from transept.golden.config import Config
from transept.golden.isa import Instruction, encode
from transept.rtl.interfaces import ACT_READ_LATENCY

__all__ = ["Scratchpads", "run_engine"]


class Scratchpads:
    """Activation scratchpad, row statistics and selection memory; requests refused at random."""

    def __init__(self, cfg: Config, *, refuse: float = 0.0, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        noise = np.random.default_rng(seed)
        self.refuse = refuse
        self.act = noise.integers(-32768, 32768, (cfg.act_words, cfg.tile))
        self.rowstat = noise.integers(0, 1 << 24, cfg.rowstat_entries)
        self.selection = [self.rng.getrandbits(cfg.key_tiles) for _ in range(cfg.query_blocks)]

    async def serve(self, ctx: Any, dut: Any) -> None:
        """Answer the ports that ``dut`` has, for ever."""
        ports = [
            getattr(dut, name)
            for name in ("act_read", "act_write", "rowstat_write")
            if hasattr(dut, name)
        ]
        reads: list[Any] = [None] * (ACT_READ_LATENCY - 1)
        while True:
            for port in ports:
                ctx.set(port.ready, self.rng.random() >= self.refuse)
            samples = [s for port in ports for s in (port.en, port.ready, port.addr)]
            extra = [dut.act_write.data.as_value(), dut.rowstat_write.data]
            lookup = hasattr(dut, "selection")
            if lookup:
                extra += [dut.rowstat_read.en, dut.rowstat_read.addr, dut.selection.addr]
            _, _, *values = await ctx.tick().sample(*samples, *extra)
            read, write, stat = (values[k : k + 3] for k in (0, 3, 6))
            word, statistic, *asked = values[9:]
            accepted = read[0] and read[1]
            reads.append(self.act[read[2]].copy() if accepted else None)
            answer = reads.pop(0)
            # data of no request are noise
            noise = np.array([self.rng.getrandbits(16) for _ in range(self.act.shape[1])])
            answer = noise if answer is None else answer
            ctx.set(dut.act_read.data.as_value(), _pack(answer))
            if lookup:
                ctx.set(dut.selection.bitmap, self.selection[asked[2]])
                ctx.set(dut.rowstat_read.data, int(self.rowstat[asked[1]]) if asked[0] else 0)
            if write[0] and write[1]:
                self.act[write[2]] = _unpack(word, self.act.shape[1])
            if stat[0] and stat[1]:
                self.rowstat[stat[2]] = statistic


def _pack(word: np.ndarray) -> int:
    return sum((int(x) & 0xFFFF) << (16 * k) for k, x in enumerate(word))


def _unpack(value: int, count: int) -> np.ndarray:
    return np.array([((value >> (16 * k) & 0xFFFF) ^ 0x8000) - 0x8000 for k in range(count)])


def run_engine(
    dut: Any,
    pads: Scratchpads,
    program: list[Instruction],
    *,
    limit: int = 100_000,
    before: Any = None,
) -> list[int]:
    """Run ``program`` on an engine; cycles from the acceptance to the retirement of each."""
    cycles: list[int] = []

    async def control(ctx: Any) -> None:
        if before is not None:
            await before(ctx)
        for instruction in program:
            ctx.set(dut.instr.payload, int.from_bytes(encode(instruction), "little"))
            ctx.set(dut.instr.valid, 1)
            while True:
                _, _, ready = await ctx.tick().sample(dut.instr.ready)
                if ready:
                    break
            ctx.set(dut.instr.valid, 0)
            ctx.set(dut.instr.payload, pads.rng.getrandbits(256))
            count = 1
            while not ctx.get(dut.retire):
                assert ctx.get(dut.busy)
                assert count < limit, "the instruction does not retire"
                await ctx.tick()
                count += 1
            cycles.append(count)
        for _ in range(50):
            await ctx.tick()
            assert not ctx.get(dut.retire)
            assert not ctx.get(dut.busy)

    async def memories(ctx: Any) -> None:
        await pads.serve(ctx, dut)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(control)
    sim.add_testbench(memories, background=True)
    sim.run()
    return cycles
