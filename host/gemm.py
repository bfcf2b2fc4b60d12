"""One static INT8 GEMM as a program: ``C[m, n] = requantise(A[m, k] . B[k, n])``.

A and C are row-major int8 in DRAM, B is packed into stationary tiles beforehand. Rows are cut into
blocks, so that loads, products and stores of different blocks overlap; B stays on chip if it fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transept.golden import isa
from transept.golden.config import CONTRACT_VERSION, Config
from transept.golden.isa import AMode, Memory, OutMode, RowScale, Window
from transept.golden.layouts import RECORD_BYTES
from transept.golden.numerics.fixed import round_shift, saturate
from transept.golden.numerics.requantise import ChannelParameters
from transept.host.compile import CompileError
from transept.host.emitter import ActRows, Emitter, Product, Ring
from transept.host.launch import Launch, Tensor
from transept.host.weights import Block, WeightImage

__all__ = ["Gemm", "compile_gemm", "reference"]

CHANNEL_SHIFT = 15  # the channel multiplier is a fraction of one
OUT_SHIFT = 8


@dataclass(frozen=True)
class Gemm:
    """A compiled GEMM and its requantisation: ``multiplier * 2**-(row_shift + OUT_SHIFT)``."""

    launch: Launch
    multiplier: int
    row_shift: int


def reference(a: np.ndarray, b: np.ndarray, gemm: Gemm) -> np.ndarray:
    """int8[m, n] by an int64 NumPy product, independent of golden models and emulator."""
    acc = a.astype(np.int64) @ b.astype(np.int64)
    v = saturate(round_shift(acc * gemm.multiplier, CHANNEL_SHIFT), 25)
    z = saturate(round_shift(v << 15, gemm.row_shift), 25)
    return saturate(round_shift(z, OUT_SHIFT), 8).astype(np.int8)


def _requantisation(k: int) -> tuple[int, int]:
    """Multiplier and row shift that spread a product of random int8 matrices over int8."""
    spread = 3 * np.sqrt(k) * 127**2 / 3  # three standard deviations of the accumulator
    real = 127 / spread * 2.0**OUT_SHIFT
    row_shift = 15 + max(0, int(np.floor(-np.log2(real))))
    return min(round(real * 2.0 ** (CHANNEL_SHIFT + row_shift - 15)), 0xFFFF), row_shift


#: Rows of a block while B stays on chip: a column of B streams in faster than a block uses it.
RESIDENT_ROWS = 32


def _block_rows(config: Config, m: int, k_tiles: int, n_tiles: int, *, resident: bool) -> int:
    """Rows of a block: two blocks of A and of C fit. Small blocks start and end soon; large ones
    load B less often, which matters only if it does not stay on chip."""
    rows = min(config.geometry.max_rows, RESIDENT_ROWS) if resident else config.geometry.max_rows
    while rows > 1 and (2 * rows * (k_tiles + n_tiles) > config.act_words or rows >= 2 * m):
        rows //= 2
    if 2 * rows * (k_tiles + n_tiles) > config.act_words:
        raise CompileError(
            f"a row of {k_tiles + n_tiles} words does not fit twice into "
            f"{config.act_words} activation words of {config.name}"
        )
    return rows


class _GemmCompiler:
    def __init__(self, config: Config, m: int, n: int, k: int, b: np.ndarray) -> None:
        tile = config.tile
        self.config, self.m = config, m
        self.k_tiles, self.n_tiles = -(-k // tile), -(-n // tile)
        self.multiplier, self.row_shift = _requantisation(k)
        ones = np.ones(n, np.int64)
        channel = ChannelParameters(ones * self.multiplier, ones * CHANNEL_SHIFT, 0 * ones)
        self.weights = WeightImage(config)
        chunk = max(1, min(48, (config.memories.stat_words // 4 - RECORD_BYTES) // tile))
        self.columns = self.weights.linear(b.T, channel, chunk)
        self.how = Product(
            a_mode=AMode.RAW,
            row_scale=RowScale.ONE,
            out_mode=OutMode.ACT8,
            row_shift=self.row_shift,
            out_shift=OUT_SHIFT,
        )
        self.emit = Emitter(config, Ring(0, config.memories.stat_words))
        words = sum(block.words for column in self.columns for block in column.blocks)
        fits = words <= config.memories.stat_words
        self.resident: dict[Block, int] | None = {} if fits else None
        self.rows = _block_rows(config, m, self.k_tiles, self.n_tiles, resident=fits)
        self.a = Tensor(0, m, k, self.k_tiles * tile, 8)
        self.c = Tensor(-(-self.a.nbytes // 64) * 64, m, n, self.n_tiles * tile, 8)

    def compile(self) -> Launch:
        starts = range(0, self.m, self.rows)
        for index, row in enumerate(starts):
            self._rows(index, row, min(self.rows, self.m - row), row == starts[-1])
        return Launch(
            config=self.config,
            contract=CONTRACT_VERSION,
            instructions=isa.encode_program(self.emit.schedule.program()),
            weights=self.weights.image(),
            labels=tuple(self.emit.schedule.labels),
            macs={"gemm": self.m * self.a.width * self.c.width},
            inputs=(self.a,),
            output=self.c,
            io_bytes=self.c.offset + self.c.nbytes,
            scratch_bytes=0,
        )

    def _rows(self, index: int, row: int, rows: int, last: bool) -> None:
        a_words, c_words = self.rows * self.k_tiles, self.rows * self.n_tiles
        a = ActRows((index % 2) * a_words, self.k_tiles)
        c = ActRows(self._c_start(2 * a_words, 2 * c_words) + (index % 2) * c_words, self.n_tiles)
        offset = self.a.offset + row * self.a.pitch
        pitch, words = self.a.pitch, self.k_tiles
        self.emit.load_act("gemm", Window.IO, offset, pitch, rows, words, a, wide=False)
        # the last block is stored in parts, so that little remains to do after the last product
        part = max(1, self.n_tiles // 4) if last else self.n_tiles
        for n, column in enumerate(self.columns):
            for block in column.blocks:
                addr = self._place(block)
                self.emit.matmul("gemm", self.how, column, block, addr, n, a, rows, c)
            if (n + 1) % part == 0 or n + 1 == self.n_tiles:
                first = n // part * part
                self._store(c, row, rows, first, n + 1 - first)

    def _c_start(self, after: int, words: int) -> int:
        """C begins in another bank than A if it fits: the streamed operand never gives way."""
        ends = np.cumsum(self.config.memories.act_banks)
        start = int(ends[np.searchsorted(ends, after)]) if after < ends[-1] else after
        return start if start + words <= self.config.act_words else after

    def _store(self, c: ActRows, row: int, rows: int, first: int, words: int) -> None:
        offset = self.c.offset + row * self.c.pitch + first * self.config.tile
        source = c.column(first)
        self.emit.store_act(
            "gemm", Window.IO, offset, self.c.pitch, rows, words, source, wide=False
        )

    def _place(self, block: Block) -> int:
        """Where the block is on chip, loaded if it is not."""
        if self.resident is not None and block in self.resident:
            return self.resident[block]
        addr = self.emit.take(block.words)
        self.emit.load_block("gemm", block, Memory.STAT, addr)
        if self.resident is not None:
            self.resident[block] = addr
        return addr


def compile_gemm(config: Config, m: int, n: int, k: int, b: np.ndarray) -> Gemm:
    """The program of one GEMM; b: int8[k, n].

    Raises
    ------
    CompileError
        If a size is not positive, B is not int8[k, n], or a row does not fit the accelerator.
    """
    for name, value in (("M", m), ("N", n), ("K", k)):
        if value < 1:
            raise CompileError(f"{name}={value} must be at least 1")
    if max(n, k) > 255 * config.tile:
        raise CompileError(f"K={k} and N={n} must be at most {255 * config.tile}")
    if b.dtype != np.int8 or b.shape != (k, n):
        raise CompileError(f"B is {b.dtype}{list(b.shape)}, must be int8[{k}, {n}]")
    compiler = _GemmCompiler(config, m, n, k, b)
    return Gemm(compiler.compile(), compiler.multiplier, compiler.row_shift)
