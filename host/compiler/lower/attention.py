"""Attention to tasks, head by head: projections, scores, softmax, context.

While the softmax engine works on one block of queries, the array has the values of that head, the
scores of another block, the context of the one before, and the projections of the next head.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from transept.golden.isa import Memory, OutMode
from transept.golden.layouts import RECORD_BYTES
from transept.golden.ops import Linear
from transept.host.compiler.errors import CompileError
from transept.host.compiler.homes import Home
from transept.host.compiler.lower.linear import product
from transept.host.compiler.lower.scope import Scope
from transept.host.compiler.places import RowBlock, row_blocks
from transept.host.compiler.segments import AttentionSegment
from transept.host.compiler.tasks import (
    Buffer,
    ContextTask,
    Rows,
    ScoresTask,
    SoftmaxTask,
    whole,
)

__all__ = ["lower_attention"]


@dataclass(frozen=True)
class _Queries:
    """Some query rows of one sequence of the group, for one head."""

    sequence: int
    row: int  # in the sequence
    rows: int
    head: int


def lower_attention(scope: Scope, segment: AttentionSegment, largest: int) -> None:
    """Tasks of one attention for the group of sequences at hand; largest: rows of one block on the
    way to the projections.

    Raises
    ------
    CompileError
        If its filter decides for other blocks than the accelerator's.
    """
    op, config = segment.attention, scope.config
    if op.filter.looks and op.block != config.tile:
        raise CompileError(
            f"the filter of {op.name} decides for blocks of {op.block} rows, "
            f"{config.name} has blocks of {config.tile}"
        )
    _Heads(scope, segment, largest).lower()


@dataclass(frozen=True, eq=False)
class _Projection:
    """Queries, keys or values of one head: ``words`` columns of ``linear``, or of ``value`` if it
    comes from DRAM, to ``to``. A filter that looks at keys wants every sequence to begin with a
    whole tile: its rows are ``apart`` rows from those of the next one."""

    value: str
    linear: Linear | None
    head: int
    words: int
    to: Rows
    out_mode: OutMode
    apart: int
    looks: bool


@dataclass(frozen=True)
class _Pending:
    """Queries whose probabilities wait for their product with the values."""

    queries: _Queries
    p: Rows
    v: _Projection
    select: Buffer


class _Heads:
    def __init__(self, scope: Scope, segment: AttentionSegment, largest: int) -> None:
        self.scope, self.segment, self.op = scope, segment, segment.attention
        self.places, self.tasks, self.tile = scope.places, scope.tasks, scope.config.tile
        self.largest = largest
        op = self.op
        self.queries, self.keys = (self.places.length(name) for name in (op.q, op.k))
        self.d_tiles = self.places.layouts[op.q].words
        self.e_tiles = self.places.layouts[op.v].words
        self.share = op.heads // op.kv_heads
        self.pending: deque[_Pending] = deque()

    def lower(self) -> None:
        """Every head; the context of one block of queries follows the scores of a later one."""
        units = self._units()
        waiting = max(1, min(self.scope.cut.scores, len(units) * self.op.heads))
        for kv_head in range(self.op.kv_heads):
            heads = range(kv_head * self.share, (kv_head + 1) * self.share)
            if self.scope.cut.heads == 1:
                self._finish()  # the values of this head take the place of those of the last one
            k, v = self._keys(kv_head), self._values(kv_head)
            q = {head: self._query(head) for head in heads}
            together = [k, *q.values(), v]
            late = [] if self._passes(together) else [v]
            self._project([part for part in together if part not in late])
            for head in heads:
                for sequence, row, rows in units:
                    while len(self.pending) >= waiting:
                        self._context(self.pending.popleft())
                    queries = _Queries(sequence, row, rows, head)
                    s, select = self._scores(queries, q[head], k)
                    self._project(late)  # the softmax has begun
                    late = []
                    self.pending.append(_Pending(queries, s, v, select))
        self._finish()

    def _finish(self) -> None:
        """The context of all that waits."""
        while self.pending:
            self._context(self.pending.popleft())

    def _units(self) -> list[tuple[int, int, int]]:
        """(sequence of the group, row, rows) of every block of queries."""
        largest = self.scope.cut.queries
        blocks = row_blocks(self.queries, largest, self.tile)
        return [(s, b.start, b.rows) for s in range(self.places.sequences) for b in blocks]

    # --- projections
    def _keys(self, head: int) -> _Projection:
        looks = self.op.filter.looks
        apart = -(-self.keys // self.tile) * self.tile if looks else self.keys
        return self._stationary("k", self.segment.key, self.op.k, head, self.d_tiles, apart, looks)

    def _values(self, head: int) -> _Projection:
        return self._stationary(
            "v", self.segment.value, self.op.v, head, self.e_tiles, self.keys, looks=False
        )

    def _stationary(
        self,
        name: str,
        linear: Linear | None,
        value: str,
        head: int,
        words: int,
        apart: int,
        looks: bool,
    ) -> _Projection:
        """Keys or values of one head of all sequences, in the stationary scratchpad."""
        rows = self.places.sequences * apart + self.tile  # ragged last key tile
        size = -(-rows * words // self.tile) * self.tile
        ring = self.places.held(name, self.scope.cut.heads)
        to = Rows(ring.open((value, head), "stat", size, self.tile), words)
        return _Projection(value, linear, head, words, to, OutMode.STAT8, apart, looks)

    def _query(self, head: int) -> _Projection:
        """Queries of one head of all sequences, in the activation scratchpad."""
        words = self.d_tiles
        ring = self.places.held("q", max(2, self.share))
        to = Rows(ring.open((self.op.q, head), "act", self.places.rows(self.op.q) * words), words)
        linear = self.segment.query
        return _Projection(
            self.op.q, linear, head, words, to, OutMode.ACT8, self.queries, looks=False
        )

    def _passes(self, parts: list[_Projection]) -> bool:
        """Whether the operand of some projection comes from DRAM, block by block: each block is
        then used for all of them."""
        return any(
            part.linear is not None and self.places.homes[part.linear.x] == Home.DRAM
            for part in parts
        )

    def _project(self, parts: list[_Projection]) -> None:
        """Every block of rows for every part. Every second head takes the blocks backwards: those
        that are still on chip come first. The rows of a tile that a filter looks at stay in
        order."""
        passes = self._passes(parts)
        for group in [parts] if passes else [[part] for part in parts]:
            steps = [
                (block, part, row, key_row)
                for part in group
                for block, row, key_row in self._blocks(part)
            ]
            if passes:
                steps.sort(key=lambda step: step[0].start)
            tiles = all(row is None or row % self.tile == 0 for *_, row in steps)
            if tiles and group and group[0].head & 1:
                steps.reverse()
            for block, part, row, key_row in steps:
                self._step(part, block, part.to.row(row), key_row)

    def _blocks(self, part: _Projection) -> list[tuple[RowBlock, int, int | None]]:
        """(rows of the value, row on chip, row in the sequence if a filter looks at it)."""
        total = self.places.rows(part.value)
        largest = self.largest if part.linear is not None else total
        if not part.looks:
            return [(block, block.start, None) for block in row_blocks(total, largest, self.tile)]
        length = total // self.places.sequences
        return [
            (RowBlock(s * length + b.start, b.rows), s * part.apart + b.start, b.start)
            for s in range(self.places.sequences)
            for b in row_blocks(length, min(largest, length), self.tile)
        ]

    def _step(self, part: _Projection, block: RowBlock, to: Rows, key_row: int | None) -> None:
        first = part.head * part.words
        if part.linear is None:
            self.places.load_rows(part.value, block, first, part.words, to, key_row)
            return
        columns = self.scope.image.columns[part.linear.name][first : first + part.words]
        a = self.places.read(part.linear.x, block)
        product(self.scope, part.linear, columns, a, block.rows, to, part.out_mode, key_row)

    # --- attention
    def _scores(
        self, queries: _Queries, q_part: _Projection, k_part: _Projection
    ) -> tuple[Rows, Buffer]:
        op, rows, words = self.op, queries.rows, -(-self.keys // self.tile)
        slots = self.scope.cut.scores
        key = (op.name, self.places.first, queries)
        s = Rows(
            self.places.held("scores", slots).open(key, "act", rows * words),
            words,
            stats=self.places.held("scores.max", slots).open(key, "rowstat", rows),
        )
        select = self.places.held("select", slots).open(key, "select", -(-rows // self.tile))
        q = q_part.to.row(queries.sequence * self.queries + queries.row)
        k = k_part.to.row(queries.sequence * k_part.apart)
        common: dict[str, Any] = {
            "label": op.name,
            "op": op,
            "s": s,
            "select": select,
            "rows": rows,
            "keys": self.keys,
            "position": queries.row,
            "dim": self.scope.graph.values[op.k].dim,
            "sequence": self.places.first + queries.sequence,
        }
        scores = [s.use(rows, words), *s.maxima(rows)]
        self.tasks.append(
            ScoresTask(
                **common,
                head=queries.head,
                q=q,
                k=k,
                d_tiles=self.d_tiles,
                reads=[q.use(rows, self.d_tiles), k.use(self.keys, self.d_tiles)],
                writes=[*scores, whole(select)],
            )
        )
        self.tasks.append(SoftmaxTask(**common, reads=[*scores, whole(select)], writes=scores))
        return s, select

    def _context(self, waiting: _Pending) -> None:
        op, queries = self.op, waiting.queries
        param = self.places.constant("context", 1, self.scope.image.blocks[op.name], Memory.STAT)
        block = RowBlock(queries.sequence * self.queries + queries.row, queries.rows)
        word = queries.head * self.e_tiles
        chip = self.places.homes[op.out] == Home.CHIP
        if chip:
            out = self.places.write(op.out, block).column(word)
        else:
            out = self.places.piece(op.out, block, self.e_tiles)
        v = waiting.v.to.row(queries.sequence * self.keys)
        key_tiles = -(-self.keys // self.tile)
        self.tasks.append(
            ContextTask(
                label=op.name,
                op=op,
                p=waiting.p,
                v=v,
                select=waiting.select,
                param=param,
                param_word=RECORD_BYTES * word,
                out=out,
                rows=queries.rows,
                keys=self.keys,
                position=queries.row,
                dim=self.scope.graph.values[op.k].dim,
                d_tiles=self.e_tiles,
                sequence=self.places.first + queries.sequence,
                first=not chip or queries.head == 0,
                reads=[
                    waiting.p.use(queries.rows, key_tiles),
                    *waiting.p.maxima(queries.rows),
                    whole(waiting.select),
                    v.use(key_tiles * self.tile, self.e_tiles),
                    whole(param),
                ],
                writes=[out.use(queries.rows, self.e_tiles), *out.maxima(queries.rows)],
            )
        )
        if not chip:
            self.places.store(op.out, block, out, word, self.e_tiles)
        elif queries.head == op.heads - 1:
            self.places.defined(op.out, block)
