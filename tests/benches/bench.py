"""Collects a program, its tokens and its data: what random test programs are made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from transept.golden import isa, layouts
from transept.golden.config import Config
from transept.golden.isa import Engine, Instruction, Memory, Opcode, RowScale, Window
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, ChannelParameters

__all__ = ["Bench", "Case", "image", "instruction"]

PAGE = 4096


class Case(NamedTuple):
    """A program with everything that it needs."""

    program: list[Instruction]
    dram: np.ndarray  # uint8, the program in its window already
    windows: dict[Window, tuple[int, int]]  # base, limit


def instruction(opcode: Opcode, **operands: int) -> Instruction:
    """An instruction whose other operands are 0."""
    values = {
        field.name: operands.pop(field.name, field.enum(0) if field.enum else 0)
        for field in isa.FORMATS[opcode].fields
    }
    if operands:
        raise ValueError(f"{opcode.name} has no operand {', '.join(operands)}")
    return Instruction(opcode, values)


class _Entry(NamedTuple):
    instruction: Instruction
    wait: set[Engine]
    signal: set[Engine]


class Bench:
    """A program in the making. Each instruction waits for the one before it unless told otherwise.

    Addresses are handed out once each, with small random gaps between them.
    """

    def __init__(self, config: Config, rng: np.random.Generator) -> None:
        self.config, self.rng, self.tile = config, rng, config.tile
        self._entries: list[_Entry] = []
        self._weights = bytearray()
        self._io = 0  # bytes of the IO window
        self._free = {Memory.ACT: 0, Memory.STAT: 0}
        self._rowstat = 0
        # its own numbers, so that a program cut in another way has the same data
        self._tallies = np.random.default_rng(int(rng.integers(1 << 32)))

    def emit(self, opcode: Opcode, *, after: list[int] | None = None, **operands: int) -> int:
        """Append an instruction and return its index.

        after: instructions of different engines that it waits for, the last one by default. Clipped
        elements are counted anywhere.
        """
        if "tally" in (field.name for field in isa.FORMATS[opcode].fields):
            operands.setdefault("tally", int(self._tallies.choice([0, 1, 62, 63])))
        new = _Entry(instruction(opcode, **operands), set(), set())
        index = len(self._entries)
        for producer in [index - 1] * (index > 0) if after is None else after:
            entry = self._entries[producer]
            entry.signal.add(new.instruction.engine)
            new.wait.add(entry.instruction.engine)
        self._entries.append(new)
        return index

    def room(self, memory: Memory, words: int, align: int = 1) -> int:
        """The address of fresh words."""
        size = self.config.act_words if memory == Memory.ACT else self.config.memories.stat_words
        addr = self._free[memory] + int(self.rng.integers(0, 4))
        addr = -(-addr // align) * align
        if addr + words > size:
            raise ValueError(f"{words} words at {addr} exceed {size} of {memory.name}")
        self._free[memory] = addr + words
        return addr

    def rowstat(self, rows: int) -> int:
        """The first of fresh rowstat entries."""
        self._rowstat += rows
        if self._rowstat > self.config.memories.rowstat_entries:
            raise ValueError(
                f"{self._rowstat} rows exceed {self.config.memories.rowstat_entries} entries"
            )
        return self._rowstat - rows

    def int8(self, *shape: int) -> np.ndarray:
        """Random operands, sometimes at the extremes."""
        extreme = self.rng.random(shape) < self.rng.choice([0, 0.1, 1], p=[0.5, 0.4, 0.1])
        limits = self.rng.choice([-127, 127], shape)
        return np.where(extreme, limits, self.rng.integers(-127, 128, shape)).astype(np.int8)

    def int16(self, *shape: int) -> np.ndarray:
        """Random rows, each with a magnitude of its own."""
        limit = (1 << self.rng.integers(4, 16, (*shape[:-1], 1))) - 1
        return self.rng.integers(-limit, limit + 1, shape).astype("<i2")

    def load(
        self,
        memory: Memory,
        data: np.ndarray,
        addr: int,
        *,
        rows: int = 1,
        after: list[int] | None = None,
        **operands: int,
    ) -> int:
        """LOAD bytes to ``addr`` as ``rows`` equal parts, apart in DRAM by random gaps."""
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(rows, -1)
        units = raw.shape[1] // self.tile
        pitch = units + int(self.rng.integers(0, 3))
        image = self.rng.integers(0, 256, (rows, pitch * self.tile), np.uint8)
        image[:, : raw.shape[1]] = raw
        self._weights += bytes(self.tile * int(self.rng.integers(0, 4)))
        offset = len(self._weights)
        self._weights += image.tobytes()
        words = units >> operands.get("wide", 0)
        values = {"rows": rows, "words": words, "pitch": pitch, "stride": words} | operands
        return self.emit(
            Opcode.LOAD,
            window=Window.WEIGHTS,
            offset=offset,
            memory=memory,
            addr=addr,
            after=after,
            **values,
        )

    def store(
        self,
        addr: int,
        stride: int,
        rows: int,
        words: int,
        *,
        wide: int = 1,
        memory: Memory = Memory.ACT,
        after: list[int] | None = None,
    ) -> int:
        """STORE rows to fresh bytes of the IO window, with random gaps between them."""
        wide &= memory == Memory.ACT
        pitch = (words << wide) + int(self.rng.integers(0, 3))
        offset = self._io + self.tile * int(self.rng.integers(0, 3))
        self._io = offset + pitch * rows * self.tile
        return self.emit(
            Opcode.STORE,
            window=Window.IO,
            offset=offset,
            pitch=pitch,
            rows=rows,
            words=words,
            memory=memory,
            wide=int(wide),
            addr=addr,
            stride=stride,
            after=after,
        )

    def load_act(self, rows: int, words: int, *, wide: bool) -> tuple[int, int, int]:
        """Random rows in ACT and their maxima; (address, stride, rowstat entry)."""
        stride = words + int(self.rng.integers(0, 3))
        addr = self.room(Memory.ACT, rows * stride)
        entry = self.rowstat(rows)
        data = (self.int16 if wide else self.int8)(rows, words * self.tile)
        where = {"stride": stride, "rowstat": entry}
        self.load(Memory.ACT, data, addr, rows=rows, wide=int(wide), stats=1, **where)
        return addr, stride, entry

    def load_stat(self, data: np.ndarray, align: int = 1) -> int:
        """Bytes in STAT; their address."""
        addr = self.room(Memory.STAT, data.size // self.tile, align)
        self.load(Memory.STAT, data, addr)
        return addr

    def load_channels(self, n_tiles: int, shift: int, bias_bits: int) -> int:
        """Random channel parameters in STAT, shifts around ``shift``; their address."""
        count, limit = n_tiles * self.tile, 1 << bias_bits
        parameters = ChannelParameters(
            self.rng.integers(1 << 15, 1 << 16, count),
            self.rng.integers(shift - 1, shift + 2, count).clip(0, 31),
            self.rng.integers(-limit, limit, count),
        )
        return self.load_stat(layouts.pack_channel_parameters(parameters, self.tile))

    def load_gain(self, n_tiles: int, gain: int) -> int:
        """Channel parameters that multiply by ``gain``; their address."""
        zero = np.zeros(n_tiles * self.tile, np.int64)
        parameters = ChannelParameters(zero + gain, zero, zero)
        return self.load_stat(layouts.pack_channel_parameters(parameters, self.tile))

    def load_table(self) -> None:
        """A random activation table."""
        table = ActivationTable(
            start=int(self.rng.integers(-(1 << 15), 1)),
            width=int(self.rng.integers(6, 11)),
            slope_shift=int(self.rng.integers(0, 16)),
            out_shift=int(self.rng.integers(8, 16)),
            c0=self.rng.integers(-(1 << 22), 1 << 22, SEGMENTS),
            c1=self.rng.integers(-(1 << 16), 1 << 16, SEGMENTS),
            c2=self.rng.integers(-(1 << 15), 1 << 15, SEGMENTS),
        )
        self.load(Memory.TABLE, layouts.pack_table(table, self.tile), 0)

    def scale(self, acc_bits: int, row_bits: int, bits: int) -> dict[str, int]:
        """Shifts that bring accumulators of ``acc_bits`` to about ``bits`` bits.

        row_bits: of the row multiplier, its exponent taken off. ``channel_shift`` is among them.
        """
        pre = int(self.rng.choice([0, 0, 1, 4]))
        channel, row = int(self.rng.integers(18, 25)), int(self.rng.integers(bits, 25))
        return {
            "pre": pre,
            "channel_shift": int(np.clip(acc_bits - pre + 16 - channel, 0, 31)),
            "row_shift": int(np.clip(channel + row_bits - row, 0, 39)),
            "out_shift": int(np.clip(row - bits + self.rng.integers(0, 3), 0, 15)),
        }

    def dump_rowstat(self, entry: int, rows: int) -> None:
        """Show row maxima in DRAM: 1 times the row multiplier, 2**15 times the reciprocal."""
        tile = self.tile
        one = self.room(Memory.ACT, 1)
        self.load(Memory.ACT, np.eye(1, tile, dtype=np.int8), one)
        ones = self.load_stat(np.ones((tile, tile), np.int8))
        param = self.load_gain(1, 1 << 15)
        for mode, shift in ((RowScale.ROW_MAX, 15), (RowScale.RECIPROCAL, 16)):
            out = self.room(Memory.ACT, rows)
            self.emit(
                Opcode.MATMUL,
                rows=rows - 1,
                k_tiles=1,
                n_tiles=1,
                finish=1,
                a_addr=one,
                a_rowstat=entry,
                b_addr=ones,
                b_row=1,
                param=param,
                out_addr=out,
                out_stride=1,
                row_scale=mode,
                row_shift=shift,
            )
            self.store(out, 1, rows, 1)

    def case(self) -> Case:
        """The program, with END, and its DRAM image."""
        program = [
            Instruction(new.opcode, new.operands, frozenset(wait), frozenset(signal))
            for new, wait, signal in self._entries
        ] + [instruction(Opcode.END)]
        contents = {Window.WEIGHTS: bytes(self._weights), Window.IO: self.rng.bytes(self._io)}
        return image(program, contents, self.rng)


def image(
    program: list[Instruction], contents: Mapping[Window, bytes], rng: np.random.Generator
) -> Case:
    """A case of a program and what the other windows hold, with random bytes between them."""
    held = {Window.PROGRAM: isa.encode_program(program), **contents, Window.SCRATCH: b""}
    windows, base = {}, PAGE
    for window, data in held.items():
        windows[window] = (base, len(data))
        base += -(-len(data) // PAGE) * PAGE + PAGE * int(rng.integers(0, 2))
    dram = rng.integers(0, 256, base, np.uint8)
    for window, data in held.items():
        start = windows[window][0]
        dram[start : start + len(data)] = np.frombuffer(data, np.uint8)
    return Case(program, dram, windows)
