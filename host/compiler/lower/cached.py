"""Attention on keys and values that stay in DRAM: new rows are added to their pages, and each head
loads its own, a chunk of keys at a time.

Rows of earlier steps are loaded as early as there is room; those of this step follow when they have
been stored. The query heads of one key-value head are rows of one instruction where a sequence has
one new row, for the array takes as long for one row as for many.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from transept.golden.filters import Causal
from transept.golden.isa import Memory, Opcode, Operation, OutMode
from transept.golden.layouts import RECORD_BYTES
from transept.golden.ops import Append, CachedAttention
from transept.golden.rules import longest_row
from transept.host.compiler.hazards import Region
from transept.host.compiler.homes import Home
from transept.host.compiler.lower.scope import Scope
from transept.host.compiler.pages import (
    PAGE_ROWS,
    PageLayout,
    chunk_parts,
    first_new_chunk,
    page_layout,
    pages_touched,
)
from transept.host.compiler.places import RowBlock, row_blocks
from transept.host.compiler.segments import CachedSegment
from transept.host.compiler.tasks import (
    Buffer,
    ContextPart,
    ContextTask,
    ElementwiseTask,
    LoadNew,
    LoadPages,
    Rows,
    ScoresTask,
    SoftmaxTask,
    StorePages,
    Use,
    whole,
)

__all__ = ["lower_cached"]


class _Unit(NamedTuple):
    """Query rows of one sequence: ``rows`` rows of ``heads`` query heads; several heads only of one
    row."""

    sequence: int
    row: int
    rows: int
    head: int
    heads: int

    @property
    def operand_rows(self) -> int:
        """Rows of its instructions."""
        return self.rows * self.heads


class _Chunk(NamedTuple):
    """Keys or values of one chunk, on chip."""

    first: int  # row in the sequence
    keys: int
    rows: Rows


def lower_cached(scope: Scope, segment: CachedSegment) -> None:
    """Tasks of one attention for the group of sequences at hand, and of what it adds to pages."""
    _Cached(scope, segment).lower()


class _Cached:
    def __init__(self, scope: Scope, segment: CachedSegment) -> None:
        self.scope, self.op = scope, segment.attention
        self.appends = {append.out: append for append in segment.appends}
        self.places, self.tasks, self.tile = scope.places, scope.tasks, scope.config.tile
        op = self.op
        self.rows, self.context = (self.places.length(name) for name in (op.q, op.k))
        self.d_words, self.e_words = (self.places.layouts[n].words for n in (op.q, op.v))
        self.share = op.heads // op.kv_heads
        self.chunks = -(-self.context // scope.cut.chunk)
        batch = self.places.shape.batch
        self.earliest = first_new_chunk(batch, self.context, self.rows, scope.cut.chunk)
        self.layout: PageLayout = page_layout(scope.graph, self.places.layouts)
        self.merged = _merged(scope, op, self.rows, self.share) and self._stay_open()

    def lower(self) -> None:
        """Store what is new; then every head of every sequence; the maxima of the results last."""
        for append in self.appends.values():
            self._append(append)
        block = RowBlock(0, self.places.rows(self.op.q))
        q = self.places.read(self.op.q, block)
        for kv_head in range(self.op.kv_heads):
            for sequence in range(self.places.sequences):
                self._head(kv_head, sequence, q)
        if self.places.homes[self.op.out] == Home.CHIP:
            if self.merged:
                self._maxima(block)
            self.places.defined(self.op.out, block)

    def _stay_open(self) -> bool:
        """Whether contexts of the query heads of a key-value head stay in accumulators together."""
        groups = -(-self.share // self.tile) * self.e_words
        return self.chunks == 1 or groups <= 2 * self.scope.config.geometry.acc_slots

    # --- pages
    def _append(self, append: Append) -> None:
        """New rows to their pages, of all heads together if it is one row, else head by head."""
        kept, name = self.layout.states[append.out], append.rows
        total, words = self.places.rows(name), self.places.words(name)
        source = self.places.read(name, RowBlock(0, total))
        of_head = words // kept.heads
        for sequence in range(self.places.sequences):
            rows = source.row(sequence * self.rows)
            for head in [None] if self.rows == 1 else range(kept.heads):
                self.tasks.append(
                    StorePages(
                        label=append.name,
                        kept=kept,
                        head=head,
                        source=rows if head is None else rows.column(head * of_head),
                        words=of_head,
                        parts=pages_touched(self.rows),
                        sequence=self.places.first + sequence,
                        rows=kept.heads if head is None else self.rows,
                        reads=[rows.use(self.rows, words)],
                        dram_writes=[self._region(append.out, sequence)],
                    )
                )

    def _region(self, state: str, sequence: int) -> Region:
        """What hazards see of the new rows of a sequence; no other rows are written."""
        number = [*self.layout.states].index(state) * self.scope.places.shape.batch
        number += self.places.first + sequence
        return Region("dram:new rows", number, number + 1)

    def _chunks(self, name: str, state: str, head: int, sequence: int, words: int) -> list[_Chunk]:
        """All keys or values of a head."""
        chunk = self.scope.cut.chunk
        return [
            self._chunk(name, state, head, sequence, words, first)
            for first in range(0, self.context, chunk)
        ]

    def _chunk(
        self, name: str, state: str, head: int, sequence: int, words: int, first: int
    ) -> _Chunk:
        cut, kept = self.scope.cut, self.layout.states[state]
        keys = min(cut.chunk, self.context - first)
        padded = -(-keys // PAGE_ROWS) * PAGE_ROWS
        size = -(-padded // self.tile) * self.tile * words
        key = (state, head, self.places.first + sequence, first)
        ring = self.places.held(name, cut.heads)
        to = Rows(ring.open(key, "stat", size, self.tile), words)
        common: dict[str, Any] = {
            "label": state,
            "kept": kept,
            "head": head,
            "sequence": self.places.first + sequence,
            "to": to,
            "words": words,
        }
        self.tasks.append(
            LoadPages(
                **common,
                first=first // PAGE_ROWS,
                pages=padded // PAGE_ROWS,
                in_all=-(-self.context // PAGE_ROWS),
                writes=[to.use(padded, words)],
            )
        )
        later = first // cut.chunk - self.earliest
        if later >= 0:
            parts = chunk_parts(self.rows, cut.chunk)
            self.tasks.append(
                LoadNew(
                    **common,
                    first=later * parts,
                    parts=parts,
                    in_all=(self.chunks - self.earliest) * parts,
                    rows=min(self.rows, keys),
                    writes=[to.use(padded, words)],
                    dram_reads=[self._region(state, sequence)],
                )
            )
        return _Chunk(first, keys, to)

    # --- attention
    def _head(self, kv_head: int, sequence: int, q: Rows) -> None:
        """All queries of one key-value head of one sequence. If its keys are one chunk, they are
        loaded once; else scores take chunk by chunk, and every unit loads the values again."""
        units = self._units(kv_head, sequence)
        op, chunk = self.op, self.scope.cut.chunk
        single = self.chunks == 1
        shared = self._chunks("v", op.v, kv_head, sequence, self.e_words) if single else None
        keys = self._chunks("k", op.k, kv_head, sequence, self.d_words) if single else None
        for unit in units:
            s = self._scores_rows(unit)
            selects = []
            for number in range(self.chunks):
                if keys is None:
                    first = number * chunk
                    k = self._chunk("k", op.k, kv_head, sequence, self.d_words, first)
                else:
                    k = keys[number]
                selects.append(self._scores(unit, q, k, s))
            sums = self._softmax(unit, s, selects)
            self._context(unit, kv_head, s, sums, selects, shared)

    def _units(self, kv_head: int, sequence: int) -> list[_Unit]:
        heads = range(kv_head * self.share, (kv_head + 1) * self.share)
        if self.merged:
            return [_Unit(sequence, 0, 1, heads[0], self.share)]
        blocks = row_blocks(self.rows, self.scope.cut.queries, self.tile)
        return [_Unit(sequence, b.start, b.rows, head, 1) for head in heads for b in blocks]

    def _scores_rows(self, unit: _Unit) -> Rows:
        rows, words = unit.operand_rows, -(-self.context // self.tile)
        slots, key = self.scope.cut.scores, (self.op.name, self.places.first, unit)
        return Rows(
            self.places.held("scores", slots).open(key, "act", rows * words),
            words,
            stats=self.places.held("scores.max", slots).open(key, "rowstat", rows),
        )

    def _common(self, unit: _Unit, chunk: _Chunk, select: Buffer) -> dict[str, Any]:
        return {
            "label": self.op.name,
            "op": self.op,
            "select": select,
            "rows": unit.operand_rows,
            "keys": chunk.keys,
            "key_base": chunk.first,
            "chunk": (self.places.first + unit.sequence) * self.chunks
            + chunk.first // self.scope.cut.chunk,
            "position": self.context - self.rows + unit.row,
            "dim": self.scope.graph.values[self.op.k].dim,
            "sequence": self.places.first + unit.sequence,
        }

    def _scores(self, unit: _Unit, q: Rows, k: _Chunk, s: Rows) -> tuple[_Chunk, Buffer]:
        """Scores of one chunk; the maximum of a row grows from chunk to chunk."""
        rows, words, number = unit.operand_rows, -(-k.keys // self.tile), k.first // self.tile
        slots = self.scope.cut.scores * self.chunks
        key = (self.op.name, self.places.first, unit, k.first)
        select = self.places.held("select", slots).open(key, "select", -(-rows // self.tile))
        operand = q.row(unit.sequence * self.rows + unit.row).column(unit.head * self.d_words)
        if unit.heads > 1:
            operand = operand._replace(stride=self.d_words)
        to = s.column(number)
        kept = [] if k.first == 0 else s.maxima(rows)
        self.tasks.append(
            ScoresTask(
                **self._common(unit, k, select),
                head=unit.head,
                q=operand,
                k=k.rows,
                s=to,
                d_tiles=self.d_words,
                from_start=unit.row,
                reads=[
                    operand.use(rows, self.d_words),
                    k.rows.use(words * self.tile, self.d_words),
                    *kept,
                ],
                writes=[to.use(rows, words), *s.maxima(rows), whole(select)],
            )
        )
        return k, select

    def _softmax(self, unit: _Unit, s: Rows, selects: list[tuple[_Chunk, Buffer]]) -> Rows:
        """Probabilities in place of scores, chunk by chunk; the sums have entries of their own, for
        every chunk needs the maximum. The result has them as its statistics."""
        rows = unit.operand_rows
        sums = s
        if len(selects) > 1:
            key = (self.op.name, self.places.first, unit)
            ring = self.places.held("scores.sum", self.scope.cut.scores)
            sums = s._replace(stats=ring.open(key, "rowstat", rows), entry=0)
        for chunk, select in selects:
            words = -(-chunk.keys // self.tile)
            part = s.column(chunk.first // self.tile)
            before = [] if chunk.first == 0 else sums.maxima(rows)
            self.tasks.append(
                SoftmaxTask(
                    **self._common(unit, chunk, select),
                    s=part,
                    sums=sums,
                    reads=[part.use(rows, words), *s.maxima(rows), *before, whole(select)],
                    writes=[part.use(rows, words), *sums.maxima(rows)],
                )
            )
        return sums

    def _context(
        self,
        unit: _Unit,
        kv_head: int,
        s: Rows,
        sums: Rows,
        selects: list[tuple[_Chunk, Buffer]],
        values: list[_Chunk] | None,
    ) -> None:
        """Probabilities times values, the sum over all chunks; no other product may come between,
        so that they are one task each, in a chain."""
        op, rows, count = self.op, unit.operand_rows, len(selects)
        param = self.places.constant("context", 1, self.scope.image.blocks[op.name], Memory.STAT)
        block = RowBlock(unit.sequence * self.rows + unit.row, unit.rows)
        word, words = unit.head * self.e_words, unit.heads * self.e_words
        chip = self.places.homes[op.out] == Home.CHIP
        whole_out = (
            self.places.write(op.out, block).column(word)
            if chip
            else self.places.piece(op.out, block, words)
        )
        out = whole_out
        if self.merged:
            out = Rows(whole_out.buffer, self.e_words, whole_out.offset)
        previous: ContextTask | None = None
        for number, (chunk, select) in enumerate(selects):
            v = (
                values[number]
                if values is not None
                else self._chunk("v", op.v, kv_head, unit.sequence, self.e_words, chunk.first)
            )
            p = sums.column(chunk.first // self.tile)
            tiles, ends = -(-chunk.keys // self.tile), number == count - 1
            writes: list[Use] = [out.use(rows, self.e_words), *out.maxima(rows)] if ends else []
            task = ContextTask(
                **self._common(unit, chunk, select),
                p=p,
                v=v.rows,
                param=param,
                param_word=RECORD_BYTES * word,
                out=out,
                d_tiles=self.e_words,
                first=not chip or unit.head == 0,
                part=ContextPart(accumulate=number > 0, finish=ends, before=previous),
                reads=[
                    p.use(rows, tiles),
                    *(p.maxima(rows) if ends else []),
                    whole(select),
                    v.rows.use(tiles * self.tile, self.e_words),
                    whole(param),
                ],
                writes=writes,
            )
            self.tasks.append(task)
            previous = task
        if not chip:
            self.places.store(op.out, block, whole_out, word, words)

    def _maxima(self, block: RowBlock) -> None:
        """The maximum of each row over all heads, by the sum of the row with itself, halved."""
        op = self.op
        rows = self.places.write(op.out, block)
        if not rows.stats:
            return
        words = self.places.words(op.out)
        for part in self.places.parts(block.rows):
            here = rows.row(part.start)
            use = here.use(part.rows, words)
            self.tasks.append(
                ElementwiseTask(
                    label=op.name,
                    operation=Operation.SUM,
                    y=here,
                    x=here,
                    out=here,
                    rows=part.rows,
                    words=words,
                    count=words * self.tile,
                    shift=1,
                    out_mode=OutMode.ACT16,
                    reads=[use, use],
                    writes=[use, *here.maxima(part.rows)],
                )
            )


def _merged(scope: Scope, op: CachedAttention, rows: int, share: int) -> bool:
    """Whether the query heads of a key-value head go through the array together: they have the same
    parameters, a row of each sees every key, and the vector unit can find the maximum of a row over
    all heads."""
    config, context = scope.config, op.context
    by_head = [op.score_multiplier, op.score_shift]
    by_head += [
        np.broadcast_to(part, context.multiplier.shape).reshape(op.heads, -1)
        for part in (context.multiplier, context.shift, context.bias)
    ]
    groups = [part.reshape(op.kv_heads, share, -1) for part in by_head]
    same = all((part == part[:, :1]).all() for part in groups)
    fits = share <= config.geometry.max_rows and config.has(Opcode.ELEMENTWISE)
    fits &= scope.places.words(op.out) * config.tile <= longest_row(config)
    return rows == 1 and share > 1 and same and fits and isinstance(op.filter, Causal)
