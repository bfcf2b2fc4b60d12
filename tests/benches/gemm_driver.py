"""Drives ``GemmSystem`` under cocotb, beside the emulator."""

from __future__ import annotations

import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from pins import from_bits

from transept.golden import isa
from transept.golden.config import ROWSTAT_BITS, Config
from transept.golden.emulator import gemm
from transept.golden.emulator.memory import OnChip
from transept.golden.isa import Instruction, Opcode
from transept.golden.registers import Stall
from transept.rtl.interfaces import clipped_layout

__all__ = ["GemmDriver"]

GOLDEN = {Opcode.MATMUL: gemm.matmul, Opcode.SCORES: gemm.scores, Opcode.CONTEXT: gemm.context}
LIMIT_CYCLES = 20_000


def pack_rows(rows: np.ndarray, bits: int) -> list[int]:
    """Each row of integers as one word, element 0 lowest."""
    if bits not in (8, 16):
        return [int(row[0]) & ((1 << bits) - 1) for row in rows]
    raw = rows.astype(f"<i{bits // 8}")
    return [int.from_bytes(row.tobytes(), "little") for row in raw]


class GemmDriver:
    """Runs batches of instructions and compares all memories with the emulator's. Memories refuse
    in a share of the cycles.

    Instructions of one batch may not depend on each other. Cycles are those of accepted
    instructions (``issued``), of retirements, of rows that enter the array (``active``).
    """

    def __init__(self, dut, cfg: Config, seed: int, refused: float = 0.0) -> None:
        self.dut, self.cfg = dut, cfg
        self.refused, self._rng = refused, random.Random(seed)
        self.chip = self._clean_chip(seed)
        self.cycle = 0
        self.issued: list[int] = []
        self.retired: list[int] = []
        self.active: list[int] = []
        self.stalls: list[Stall] = []
        self.clipped = np.zeros(isa.TALLIES, np.int64)

    def _clean_chip(self, seed: int) -> OnChip:
        """Random memories without the operand -128, with row statistics of either kind."""
        chip = OnChip(self.cfg, seed)
        chip.stat[chip.stat == -128] = 5
        chip.act[(chip.act & 0xFF) == 0x80] += 1
        rng = np.random.default_rng(seed)
        chip.rowstat[:] = rng.integers(0, 33_000, self.cfg.memories.rowstat_entries)
        chip.rowstat[rng.random(self.cfg.memories.rowstat_entries) < 0.1] = 0
        return chip

    def place_stat(self, addr: int, words: np.ndarray) -> None:
        """Words of STAT at the start, without the operand -128."""
        self.chip.stat[addr : addr + len(words)] = np.where(words == -128, 5, words)

    async def start(self) -> None:
        """Clock, reset, and the emulator's memories."""
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        for name in ("rst", "instr__valid", "table__en", "host__refuse"):
            getattr(dut, name).value = int(name == "rst")
        for name in ("act", "stat", "rowstat"):
            getattr(dut, f"host__{name}_write").value = 0
        await self._tick()
        await self._tick()
        dut.rst.value = 0
        await self.upload()

    def _memories(self) -> dict[str, list[int]]:
        chip = self.chip
        return {
            "act": pack_rows(chip.act, 16),
            "stat": pack_rows(chip.stat, 8),
            "rowstat": pack_rows(chip.rowstat[:, None], ROWSTAT_BITS),
        }

    async def upload(self) -> None:
        """Write all memories of the emulator to the engine's."""
        dut, memories = self.dut, self._memories()
        for addr in range(max(map(len, memories.values()))):
            dut.host__addr.value = addr
            for name, words in memories.items():
                getattr(dut, f"host__{name}_write").value = int(addr < len(words))
                if addr < len(words):
                    getattr(dut, f"host__{name}_in").value = words[addr]
            await FallingEdge(dut.clk)
        for name in memories:
            getattr(dut, f"host__{name}_write").value = 0

    async def _tick(self) -> None:
        """To the middle of the next cycle: what is set there is seen by the edge that follows."""
        await FallingEdge(self.dut.clk)

    async def _cycle(self, *, offering: bool = False) -> bool:
        """Note what this cycle does and go on to the next; whether it takes what is offered."""
        dut = self.dut
        if self.refused:
            dut.host__refuse.value = int(self._rng.random() < self.refused)
        taken = offering and bool(dut.instr__ready.value)
        if taken:
            self.issued.append(self.cycle)
        if dut.retire.value:
            self.retired.append(self.cycle)
        if dut.array_active.value:
            self.active.append(self.cycle)
        self.stalls.append(Stall(int(dut.stall.value)))
        if dut.clipped__valid.value:
            told = from_bits(clipped_layout(self.cfg), int(dut.clipped__payload.value))
            self.clipped[told["tally"]] += told["count"]
        self.cycle += 1
        await self._tick()
        return taken

    async def batch(self, instructions: list[Instruction]) -> None:
        """Hand over all instructions without pause, wait for the last, compare everything."""
        start, dut = len(self.retired), self.dut
        deadline = self.cycle + LIMIT_CYCLES
        for instruction in instructions:
            GOLDEN[instruction.opcode](self.chip, instruction)
            dut.instr__payload.value = int.from_bytes(isa.encode(instruction), "little")
            dut.instr__valid.value = 1
            while not await self._cycle(offering=True):
                assert self.cycle < deadline, f"{instruction} is not taken"
        dut.instr__valid.value = 0
        while len(self.retired) < start + len(instructions):
            await self._cycle()
            assert self.cycle < deadline, f"{instructions[len(self.retired) - start]} never retires"
        assert not dut.busy.value
        await self._cycle()
        assert len(self.retired) == start + len(instructions)
        await self.compare(instructions)

    async def compare(self, instructions: list[Instruction]) -> None:
        """Every word of every memory, and what was clipped."""
        assert (self.clipped == self.chip.tallies).all()
        dut, memories = self.dut, self._memories()
        for addr in range(max(map(len, memories.values()))):
            dut.host__addr.value = addr
            await self._tick()
            for name, words in memories.items():
                if addr < len(words):
                    got = int(getattr(dut, f"host__{name}_out").value)
                    assert got == words[addr], (
                        f"{name}[{addr}] is {got:x}, expected {words[addr]:x} after\n"
                        + "\n".join(map(str, instructions))
                    )

    async def load_table(self, words: np.ndarray) -> None:
        """Write the activation table, uint8[words, tile]."""
        dut = self.dut
        self.chip.table[:] = words
        for addr, word in enumerate(pack_rows(words, 8)):
            dut.table__addr.value, dut.table__data.value = addr, word
            dut.table__en.value = 1
            await self._tick()
        dut.table__en.value = 0

    async def selection(self, entry: int) -> int:
        """One bitmap as the softmax engine reads it."""
        self.dut.selection__addr.value = entry
        await self._tick()
        return int(self.dut.selection__bitmap.value)
