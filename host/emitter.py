"""Typed instruction emitters: operands and regions of every opcode, and the weight ring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transept.golden import quantized
from transept.golden.config import Config
from transept.golden.filters import Dense, KeyFilter
from transept.golden.isa import AMode, Engine, Memory, Opcode, OutMode, RowScale, Window
from transept.golden.layouts import RECORD_BYTES
from transept.golden.numerics.norm import inverse_count
from transept.host.schedule import Region, Schedule
from transept.host.weights import Block, ColumnTile

__all__ = ["ActRows", "Emitter", "Product", "Ring"]


@dataclass(frozen=True)
class ActRows:
    """Rows in the activation scratchpad, with the rowstat entry of the first one."""

    addr: int
    stride: int
    rowstat: int = 0

    def row(self, index: int) -> ActRows:
        """The rows from ``index`` on."""
        return ActRows(self.addr + index * self.stride, self.stride, self.rowstat + index)

    def region(self, rows: int, words: int) -> Region:
        """``rows`` rows of ``words`` words."""
        return self.region_in("act", rows, words)

    def region_in(self, memory: str, rows: int, words: int) -> Region:
        """The same rows in another memory."""
        stop = self.addr + (rows - 1) * self.stride + words
        if words >= self.stride:
            return Region(memory, self.addr, stop)
        return Region(memory, self.addr, stop, self.stride, words)

    def column(self, index: int) -> ActRows:
        """The rows from word ``index`` on."""
        return ActRows(self.addr + index, self.stride, self.rowstat)

    def stats(self, rows: int) -> Region:
        """The rowstat entries of ``rows`` rows."""
        return Region("rowstat", self.rowstat, self.rowstat + rows)


@dataclass(frozen=True)
class Product:
    """How MATMULs take their operand and write their result."""

    a_mode: AMode
    row_scale: RowScale
    out_mode: OutMode
    row_shift: int
    out_shift: int
    activation: bool = False
    stats: bool = False


class Ring:
    """Space for weight blocks in the stationary scratchpad, reused in the order it was given."""

    def __init__(self, start: int, stop: int) -> None:
        self._start, self._stop, self._next = start, stop, start

    @property
    def words(self) -> int:
        """Size of the ring."""
        return self._stop - self._start

    def take(self, words: int) -> int:
        """First word of the next free block.

        Raises
        ------
        ValueError
            If the block is larger than the ring.
        """
        if words > self.words:
            raise ValueError(f"weight block of {words} words exceeds the ring of {self.words}")
        if self._next + words > self._stop:
            self._next = self._start
        taken = self._next
        self._next += words
        return taken


class Emitter:
    """Emits instructions into a schedule; all addresses in words."""

    def __init__(self, config: Config, ring: Ring) -> None:
        self.config = config
        self.schedule = Schedule()
        self._ring = ring
        self._norm_bank = 0

    def take(self, words: int) -> int:
        """Stationary words for one weight block (``Ring.take``)."""
        return self._ring.take(words)

    # --- loads and stores ---------------------------------------------------------------------
    def load_act(
        self,
        label: str,
        window: Window,
        offset: int,
        pitch: int,
        rows: int,
        words: int,
        to: ActRows,
        *,
        wide: bool = True,
        stats: bool = False,
    ) -> None:
        """Rows of a tensor to the activation scratchpad; ``pitch`` in bytes."""
        element = 2 if wide else 1
        nbytes = (rows - 1) * pitch + words * self.config.tile * element
        writes = [to.region(rows, words)] + ([to.stats(rows)] if stats else [])
        self.schedule.emit(
            Engine.LOAD,
            Opcode.LOAD,
            label,
            reads=[Region(f"dram:{window.name}", offset, offset + nbytes)],
            writes=writes,
            window=window,
            offset=offset,
            pitch=pitch // self.config.tile,
            rows=rows,
            words=words,
            memory=Memory.ACT,
            wide=int(wide),
            stats=int(stats),
            addr=to.addr,
            stride=to.stride,
            rowstat=to.rowstat,
            observe=0,
            phase=0,
            summary=0,
        )

    def store_act(
        self,
        label: str,
        window: Window,
        offset: int,
        pitch: int,
        rows: int,
        words: int,
        source: ActRows,
        *,
        wide: bool = True,
    ) -> None:
        """Rows of the activation scratchpad to a tensor; ``pitch`` in bytes."""
        element = 2 if wide else 1
        nbytes = (rows - 1) * pitch + words * self.config.tile * element
        self.schedule.emit(
            Engine.STORE,
            Opcode.STORE,
            label,
            reads=[source.region(rows, words)],
            writes=[Region(f"dram:{window.name}", offset, offset + nbytes)],
            window=window,
            offset=offset,
            pitch=pitch // self.config.tile,
            rows=rows,
            words=words,
            memory=Memory.ACT,
            wide=int(wide),
            addr=source.addr,
            stride=source.stride,
        )

    def load_block(self, label: str, block: Block, memory: Memory, addr: int) -> None:
        """One contiguous block of window WEIGHTS to STAT, VPARAM or TABLE."""
        self.schedule.emit(
            Engine.LOAD,
            Opcode.LOAD,
            label,
            writes=[Region(memory.name.lower(), addr, addr + block.words)],
            window=Window.WEIGHTS,
            offset=block.offset,
            pitch=0,
            rows=1,
            words=block.words,
            memory=memory,
            wide=0,
            stats=0,
            addr=addr,
            stride=0,
            rowstat=0,
            observe=0,
            phase=0,
            summary=0,
        )

    def load_table(self, label: str, block: Block) -> None:
        """An activation table; MATMULs emitted later with ``activation`` use it."""
        self.load_block(label, block, Memory.TABLE, 0)

    # --- GEMM ---------------------------------------------------------------------------------
    def linear(
        self,
        layer: quantized.Linear,
        columns: Sequence[ColumnTile],
        a: ActRows,
        rows: int,
        out: ActRows,
        *,
        first: int = 0,
        stat_out: bool = False,
        stats: bool = False,
    ) -> None:
        """``rows`` rows of a linear layer, one n tile after the other, weights streamed.

        first: n tile of the first of ``columns``; tile 0 resets the row maxima that ``stats``
        collects. stat_out: int8 result to the stationary scratchpad (K and V), else to ACT.
        """
        narrow = OutMode.ACT8 if layer.bits == 8 else OutMode.ACT16
        how = Product(
            a_mode=AMode.DYNAMIC,
            row_scale=RowScale.ROW_MAX,
            out_mode=OutMode.STAT8 if stat_out else narrow,
            row_shift=layer.row_shift,
            out_shift=layer.out_shift,
            activation=layer.table is not None,
            stats=stats,
        )
        for n, column in enumerate(columns, first):
            for block in column.blocks:
                addr = self.take(block.words)
                self.load_block(layer.name, block, Memory.STAT, addr)
                self.matmul(layer.name, how, column, block, addr, n, a, rows, out)

    def matmul(
        self,
        label: str,
        how: Product,
        column: ColumnTile,
        block: Block,
        addr: int,
        n: int,
        a: ActRows,
        rows: int,
        out: ActRows,
    ) -> None:
        """One block of column ``n``, which lies at STAT word ``addr``; the last one finishes it."""
        last = block is column.blocks[-1]
        reads = [a.region(rows, column.k_tiles), Region("stat", addr, addr + block.words)]
        writes = []
        if how.a_mode == AMode.DYNAMIC:
            reads.append(a.stats(rows))
        if last:
            memory = "stat" if how.out_mode == OutMode.STAT8 else "act"
            writes.append(out.column(n).region_in(memory, rows, 1))
            if how.stats:
                writes.append(out.stats(rows))
            if how.activation:
                reads.append(Region("table", 0, 1))
        tile = self.config.tile
        self.schedule.emit(
            Engine.GEMM,
            Opcode.MATMUL,
            label,
            reads=reads,
            writes=writes,
            rows=rows - 1,
            k_tiles=block.k_tiles,
            n_tiles=1,
            accumulate=int(block.k_start > 0),
            finish=int(last),
            a_addr=a.addr + block.k_start,
            a_stride=a.stride,
            a_mode=how.a_mode,
            a_rowstat=a.rowstat,
            b_addr=addr,
            b_row=1,
            b_k=tile,
            b_n=0,
            b_transposed=0,
            param=addr + block.k_tiles * tile if last else 0,
            out_addr=out.addr + n,
            out_stride=out.stride,
            out_mode=how.out_mode,
            observe=0,
            phase=0,
            summary=0,
            activation=int(how.activation),
            row_scale=how.row_scale,
            stats=int(how.stats),
            stats_keep=int(how.stats and n > 0),
            out_rowstat=out.rowstat,
            pre=0,
            row_shift=how.row_shift,
            out_shift=how.out_shift,
            tally=0,
        )

    def scores(
        self,
        attention: quantized.Attention,
        head: int,
        rows: int,
        d_tiles: int,
        q: ActRows,
        k_addr: int,
        s: ActRows,
        select: int,
        *,
        position: int = 0,
        keys: int,
        rule: KeyFilter | None = None,
    ) -> int:
        """Scores of one head for ``rows`` queries and up to ``keys`` keys; returns the index.

        rule: the key filter, dense by default.
        """
        tile, rule = self.config.tile, rule or Dense()
        blocks = -(-rows // tile)
        return self.schedule.emit(
            Engine.GEMM,
            Opcode.SCORES,
            attention.name,
            reads=[
                q.region(rows, d_tiles),
                Region("stat", k_addr, k_addr + keys * d_tiles),
            ],
            writes=[
                s.region(rows, -(-keys // tile)),
                s.stats(rows),
                Region("select", select, select + blocks),
            ],
            rows=rows - 1,
            position=position,
            key_base=0,
            keys=keys - 1,
            d_tiles=d_tiles,
            q_addr=q.addr,
            q_stride=q.stride,
            k_addr=k_addr,
            s_addr=s.addr,
            s_stride=s.stride,
            rowstat=s.rowstat,
            stats_keep=0,
            select=select,
            filter=rule.kind,
            parameter=rule.parameter,
            multiplier=int(attention.score_multiplier[head]),
            channel_shift=int(attention.score_shift[head]),
            row_shift=attention.score_row_shift,
            tally=0,
        )

    def softmax(self, label: str, rows: int, keys: int, s: ActRows, select: int) -> int:
        """Probabilities of ``rows`` rows in place; returns the index."""
        tile = self.config.tile
        region = s.region(rows, -(-keys // tile))
        blocks = -(-rows // tile)
        return self.schedule.emit(
            Engine.SOFTMAX,
            Opcode.SOFTMAX,
            label,
            reads=[region, s.stats(rows), Region("select", select, select + blocks)],
            writes=[region, s.stats(rows)],
            rows=rows - 1,
            keys=keys - 1,
            addr=s.addr,
            stride=s.stride,
            rowstat=s.rowstat,
            out_rowstat=s.rowstat,
            keep=0,
            select=select,
        )

    def context(
        self,
        attention: quantized.Attention,
        rows: int,
        keys: int,
        d_tiles: int,
        p: ActRows,
        v_addr: int,
        select: int,
        param: int,
        out: ActRows,
        *,
        first: bool,
    ) -> int:
        """Context of one head; ``first`` resets the row maxima of ``out``. Returns the index."""
        tile = self.config.tile
        blocks = -(-rows // tile)
        return self.schedule.emit(
            Engine.GEMM,
            Opcode.CONTEXT,
            attention.name,
            reads=[
                p.region(rows, -(-keys // tile)),
                p.stats(rows),
                Region("select", select, select + blocks),
                Region("stat", v_addr, v_addr + -(-keys // tile) * tile * d_tiles),
                Region("stat", param, param + RECORD_BYTES * d_tiles),
            ],
            writes=[out.region(rows, d_tiles), out.stats(rows)],
            rows=rows - 1,
            keys=keys - 1,
            d_tiles=d_tiles,
            accumulate=0,
            finish=1,
            p_addr=p.addr,
            p_stride=p.stride,
            v_addr=v_addr,
            p_rowstat=p.rowstat,
            select=select,
            param=param,
            out_addr=out.addr,
            out_stride=out.stride,
            out_mode=OutMode.ACT16,
            stats=1,
            stats_keep=int(not first),
            out_rowstat=out.rowstat,
            pre=0,
            row_shift=attention.context_row_shift,
            out_shift=attention.context_out_shift,
            tally=0,
        )

    # --- vector unit --------------------------------------------------------------------------
    def norm(
        self,
        layer: quantized.Norm,
        block: Block,
        parts: Sequence[tuple[int, ActRows, ActRows | None, ActRows]],
    ) -> None:
        """LayerNorm of several row blocks (rows, Y, X or None, result) with one parameter load."""
        count = len(layer.parameters.gamma)
        words = -(-count // self.config.tile)
        half = self.config.geometry.max_hidden // self.config.tile // 2
        first = half * self._norm_bank if words <= half else 0  # in tiles of channels
        self._norm_bank ^= 1
        self.load_block(layer.name, block, Memory.VPARAM, RECORD_BYTES * first)
        for rows, y, x, out in parts:
            self._norm(layer, first, rows, words, y, x, out)

    def _norm(
        self,
        layer: quantized.Norm,
        first: int,
        rows: int,
        words: int,
        y: ActRows,
        x: ActRows | None,
        out: ActRows,
    ) -> None:
        count = len(layer.parameters.gamma)
        start, stop = RECORD_BYTES * first, RECORD_BYTES * (first + words)
        reads = [y.region(rows, words), Region("vparam", start, stop)]
        if x is not None:
            reads.append(x.region(rows, words))
        self.schedule.emit(
            Engine.VECTOR,
            Opcode.NORM,
            layer.name,
            reads=reads,
            writes=[out.region(rows, words), out.stats(rows)],
            rows=rows - 1,
            words=words,
            count=count,
            residual=int(x is not None),
            centre=1,
            normalise=1,
            sum=0,
            y_addr=y.addr,
            y_stride=y.stride,
            x_addr=x.addr if x else 0,
            x_stride=x.stride if x else 0,
            out_addr=out.addr,
            out_stride=out.stride,
            sum_addr=0,
            sum_stride=0,
            rowstat=out.rowstat,
            param=first,
            inverse_count=inverse_count(count),
            epsilon=layer.epsilon,
            out_shift=layer.out_shift,
            tally=0,
        )
