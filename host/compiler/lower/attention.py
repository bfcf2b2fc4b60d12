"""Attention to tasks, head by head: projections, scores, softmax, context.

While the softmax engine works on one block of queries, the array has the values of that head, the
scores of another block, the context of the one before, and the projections of the next head.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from transept.golden.isa import Memory, OutMode
from transept.golden.layouts import RECORD_BYTES
from transept.golden.ops import Attention, Linear
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


@dataclass(frozen=True)
class _Pending:
    """Queries whose probabilities wait for their product with the values."""

    queries: _Queries
    p: Rows
    v: Rows
    select: Buffer


def lower_attention(scope: Scope, segment: AttentionSegment) -> None:
    """Tasks of one attention for the group of sequences at hand."""
    _Heads(scope, segment).lower()


class _Heads:
    def __init__(self, scope: Scope, segment: AttentionSegment) -> None:
        self.scope, self.segment, self.op = scope, segment, segment.attention
        self.places, self.tasks, self.tile = scope.places, scope.tasks, scope.config.tile
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
            k = self._stationary(self.segment.key, self.op.k, kv_head, self.d_tiles)
            heads = range(kv_head * self.share, (kv_head + 1) * self.share)
            q = {head: self._query(head) for head in heads}
            v: Rows | None = None
            for head in heads:
                for sequence, row, rows in units:
                    while len(self.pending) >= waiting:
                        self._context(self.pending.popleft())
                    queries = _Queries(sequence, row, rows, head)
                    s, select = self._scores(queries, q[head], k)
                    v = v or self._stationary(self.segment.value, self.op.v, kv_head, self.e_tiles)
                    self.pending.append(_Pending(queries, s, v, select))
        while self.pending:
            self._context(self.pending.popleft())

    def _units(self) -> list[tuple[int, int, int]]:
        """(sequence of the group, row, rows) of every block of queries."""
        largest = self.scope.cut.queries
        blocks = row_blocks(self.queries, largest, self.tile)
        return [(s, b.start, b.rows) for s in range(self.places.sequences) for b in blocks]

    # --- projections
    def _stationary(self, linear: Linear | None, value: str, head: int, words: int) -> Rows:
        """Keys or values of one head of all sequences in the stationary scratchpad."""
        total = self.places.rows(value)
        size = -(-(total + self.tile) * words // self.tile) * self.tile  # ragged last key tile
        ring = self.places.held("k" if value == self.op.k else "v", self.scope.cut.heads)
        rows = Rows(ring.open((value, head), "stat", size, self.tile), words)
        if linear is not None:
            self._project(linear, head, words, rows, OutMode.STAT8)
        else:
            block = RowBlock(0, total)
            self.places.load_rows(value, block, head * words, words, rows)
        return rows

    def _query(self, head: int) -> Rows:
        """Queries of one head of all sequences in the activation scratchpad."""
        total, words = self.places.rows(self.op.q), self.d_tiles
        ring = self.places.held("q", max(2, self.share))
        rows = Rows(ring.open((self.op.q, head), "act", total * words), words)
        if self.segment.query is not None:
            self._project(self.segment.query, head, words, rows, OutMode.ACT8)
        else:
            self.places.load_rows(self.op.q, RowBlock(0, total), head * words, words, rows)
        return rows

    def _project(
        self, linear: Linear, head: int, words: int, out: Rows, out_mode: OutMode
    ) -> None:
        columns = self.scope.image.columns[linear.name][head * words : (head + 1) * words]
        blocks = row_blocks(self.places.rows(linear.x), self.scope.cut.rows, self.tile)
        # every second head takes them backwards: those on chip come first
        for block in blocks[:: -1 if head & 1 else 1]:
            a = self.places.read(linear.x, block)
            product(self.scope, linear, columns, a, block.rows, out.row(block.start), out_mode)

    # --- attention
    def _scores(self, queries: _Queries, q: Rows, k: Rows) -> tuple[Rows, Buffer]:
        op, rows, words = self.op, queries.rows, -(-self.keys // self.tile)
        slots = self.scope.cut.scores
        key = (op.name, self.places.first, queries)
        s = Rows(
            self.places.held("scores", slots).open(key, "act", rows * words),
            words,
            stats=self.places.held("scores.max", slots).open(key, "rowstat", rows),
        )
        select = self.places.held("select", slots).open(key, "select", -(-rows // self.tile))
        q = q.row(queries.sequence * self.queries + queries.row)
        k = k.row(queries.sequence * self.keys)
        common = {
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
        self.tasks.append(
            SoftmaxTask(**common, reads=[*scores, whole(select)], writes=scores)
        )
        return s, select

    def _context(self, waiting: _Pending) -> None:
        op, queries = self.op, waiting.queries
        param = self.places.constant("context", 2, self.scope.image.blocks[op.name], Memory.STAT)
        block = RowBlock(queries.sequence * self.queries + queries.row, queries.rows)
        word = queries.head * self.e_tiles
        chip = self.places.homes[op.out] == Home.CHIP
        if chip:
            out = self.places.write(op.out, block).column(word)
        else:
            out = self.places.piece(op.out, block, self.e_tiles)
        v = waiting.v.row(queries.sequence * self.keys)
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
