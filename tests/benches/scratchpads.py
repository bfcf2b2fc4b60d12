"""On-chip memories in Python, for cocotb tests of the engines."""

from __future__ import annotations

from typing import Any

import numpy as np
from pins import Pins

from transept.golden.config import Config
from transept.golden.isa import Instruction, encode
from transept.rtl.interfaces import ACT_READ_LATENCY

__all__ = ["Scratchpads", "run_engine"]

IDLE_CYCLES = 50


class Scratchpads:
    """Activation scratchpad, row statistics and selection memory; requests refused at random."""

    def __init__(self, cfg: Config, rng: np.random.Generator, *, refuse: float = 0.0) -> None:
        self.rng, self.refuse = rng, refuse
        self.act = rng.integers(-32768, 32768, (cfg.act_words, cfg.tile))
        self.rowstat = rng.integers(0, 1 << 24, cfg.memories.rowstat_entries)
        bits = rng.random((cfg.query_blocks, cfg.key_tiles)) < 0.5
        self.selection = [sum(1 << int(t) for t in np.flatnonzero(row)) for row in bits]
        self._reads: list[Any] = [None] * (ACT_READ_LATENCY - 1)

    def step(self, pins: Pins) -> None:
        """Serve the ports that the engine has at the end of a cycle."""
        act_read, act_write = pins.moves("act_read"), pins.moves("act_write")
        self._reads.append(self.act[pins.get("act_read__addr")].copy() if act_read else None)
        answer = self._reads.pop(0)
        # data of no request are noise
        noise = self.rng.integers(-32768, 32768, self.act.shape[1])
        pins.set("act_read__data", noise if answer is None else answer)
        if "rowstat_read__en" in pins and pins.raw("rowstat_read__en"):
            pins.set("rowstat_read__data", self.rowstat[pins.get("rowstat_read__addr")])
        if "selection__addr" in pins:
            pins.set("selection__bitmap", self.selection[pins.get("selection__addr")])
        if act_write:
            self.act[pins.get("act_write__addr")] = pins.get("act_write__data")
        if pins.moves("rowstat_write"):
            self.rowstat[pins.get("rowstat_write__addr")] = pins.get("rowstat_write__data")
        for name in ("act_read", "act_write", "rowstat_write"):
            pins.set(f"{name}__ready", self.rng.random() >= self.refuse)


async def run_engine(
    pins: Pins, pads: Scratchpads, program: list[Instruction], *, limit: int = 100_000
) -> list[int]:
    """Run ``program`` on an engine; cycles from the acceptance to the retirement of each."""
    cycles = []
    for instruction in program:
        pins.set("instr__payload", int.from_bytes(encode(instruction), "little"))
        pins.set("instr__valid", 1)
        accepted = False
        while not accepted:
            await pins.tick()
            accepted = pins.moves("instr")
            pads.step(pins)
        pins.set("instr__valid", 0)
        pins.set("instr__payload", int.from_bytes(pads.rng.bytes(32), "little"))
        cycles.append(await _retirement(pins, pads, limit))
    for _ in range(IDLE_CYCLES):
        await pins.tick()
        pads.step(pins)
        assert not pins.raw("retire")
        assert not pins.raw("busy")
    return cycles


async def _retirement(pins: Pins, pads: Scratchpads, limit: int) -> int:
    """Cycles until the engine retires its only instruction."""
    for count in range(1, limit):
        await pins.tick()
        pads.step(pins)
        if pins.raw("retire"):
            return count
        assert pins.raw("busy")
    raise AssertionError("the instruction does not retire")
