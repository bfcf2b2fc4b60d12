"""How the work is cut: groups of sequences, row blocks, query blocks, and what leaves the chip."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from transept.golden.config import Config
from transept.golden.graph import Graph, Operator
from transept.golden.ops import Attention, CachedAttention, Linear
from transept.host.compiler.errors import CompileError
from transept.host.compiler.homes import Home, crossing, first_residuals, plan, unprojected
from transept.host.compiler.layout import Layouts, passing_words
from transept.host.compiler.pages import PAGE_ROWS
from transept.host.compiler.segments import (
    AttentionSegment,
    CachedSegment,
    RowSegment,
    Segment,
    segments,
)
from transept.host.compiler.weights import column_words

__all__ = [
    "COLUMNS_TOGETHER",
    "MOST_PIECES",
    "TOGETHER",
    "Cut",
    "Policy",
    "Shape",
    "Spill",
    "choose",
    "policies",
    "spilled",
]


@dataclass(frozen=True)
class Shape:
    """A bucket: sequences of a batch, and rows of each in every dimension."""

    batch: int
    lengths: Mapping[str, int]

    @property
    def rows(self) -> dict[str, list[int]]:
        """Lengths of the sequences of every dimension, all of them full."""
        return {dim: [length] * self.batch for dim, length in self.lengths.items()}

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.batch, frozenset(self.lengths.items())))

    def __str__(self) -> str:
        return f"{self.batch} x {', '.join(str(n) for n in self.lengths.values())}"


@dataclass(frozen=True)
class Cut:
    """One way to cut a graph of one shape.

    group: sequences that go through all operators together; rows: largest row block of every
    segment; queries: rows of a query block; heads: key-value heads on chip at a time; scores: score
    buffers; spilled: values that are kept in DRAM between segments; resident: every weight stays on
    chip; fill: share of the activation scratchpad that may be in use at a time; together: row
    blocks of a lone linear layer that take columns of its weights before the next ones come;
    chunk: rows of cached keys and values that are on chip together.
    """

    group: int
    rows: tuple[int, ...]
    queries: int
    heads: int
    scores: int
    spilled: frozenset[str]
    resident: bool
    fill: float
    together: int
    chunk: int = 0


class Spill(enum.Enum):
    """Which values leave the chip between segments."""

    NONE = "none"
    CONTEXTS = "what attention makes"
    NONE_WHOLE = "none; the first residual that is made is on chip with all rows, too"
    CONTEXTS_WHOLE = "what attention makes; the first residual that is made is on chip, too"
    RESIDUALS = "what is only added to"
    BOTH = "what attention makes, and what is only added to"
    ALL = "all"


#: Tried first where layers follow each other: each norm takes the place of the one before.
CHAINED = (Spill.NONE, Spill.NONE_WHOLE, Spill.CONTEXTS_WHOLE)


@dataclass(frozen=True)
class Sizing:
    """Row blocks that fill a share of the activation scratchpad: ``loose``, with all buffers that
    keep every engine busy; else with those that are in use at the worst moment, which makes blocks
    larger, so that weights are loaded less often.
    """

    loose: bool
    share: float


@dataclass(frozen=True)
class Policy:
    """How to choose a cut, whatever the number of layers; the rest as in ``Cut``.

    together: tiles of rows in a block, for blocks that take weights together; 0: none do.
    """

    group: int
    resident: bool
    spill: Spill
    heads: int
    sizing: Sizing
    fill: float
    together: float = 0


#: How row blocks are sized, and how full the activation scratchpad may get: buffers that fit by
#: their sizes may lie so that none has room for another.
SIZINGS = (
    Sizing(loose=True, share=0.95),
    Sizing(loose=False, share=0.95),
    Sizing(loose=False, share=0.8),
    Sizing(loose=False, share=0.7),
    Sizing(loose=False, share=0.6),
    Sizing(loose=False, share=0.4),
    Sizing(loose=False, share=0.2),
    Sizing(loose=False, share=0.05),
)
FILLS = (1.0, 0.92, 0.85)
#: Key-value heads on chip at a time, and the share of the stationary scratchpad that theirs may
#: take.
HEADS, STATIONARY_SHARE = (2, 1), 0.75
#: Share of it for two chunks of cached keys and two of values: weights are loaded meanwhile.
CHUNK_SHARE = 0.4
#: Blocks may be so much larger than they are sized for, if there are fewer of them then.
BLOCK_SLACK = 1.15
#: Tiles of rows in a block that loads no weights: small blocks are soon done and cost nothing; but
#: products of too few rows do not keep the array busy. What goes to DRAM is even better small.
ROWS_WITHOUT_WEIGHTS, ROWS_TO_DRAM = 2, 1
#: Row blocks that take weights together have so many tiles of rows: more begin later, with fewer
#: the array would wait for each tile of weights. At most so many pieces of results are on their
#: way to DRAM at a time, and so many columns of weights are used while others come.
TOGETHER, MOST_PIECES, COLUMNS_TOGETHER = (1.5, 2.0), 4, 4
#: Row blocks of a segment at least: norms of one hide behind products of another.
LEAST_BLOCKS = 2


def policies(
    batch: int, length: int, config: Config, *, resident: bool, chained: bool
) -> Iterator[list[Policy]]:
    """Policies worth trying, the most promising first, in families: those of one family differ in
    the size of their row blocks. resident: all weights fit on chip together; chained: layers of
    attention follow each other."""
    spills = dict.fromkeys([*CHAINED, *Spill] if chained else Spill)
    for group in _groups(batch, config.geometry.max_rows // length):
        for stays in (True, False) if resident else (False,):
            for spill in spills:
                for heads in HEADS:
                    yield [
                        Policy(group, stays, spill, heads, sizing, fill)
                        for sizing in SIZINGS
                        for fill in FILLS
                    ]


def _groups(batch: int, largest: int) -> list[int]:
    """Sequences at a time: as many as one instruction takes, in groups of nearly the same size."""
    sizes = [-(-batch // -(-batch // group)) for group in range(min(batch, largest), 0, -1)]
    return list(dict.fromkeys(sizes)) or [1]


def spilled(graph: Graph, spill: Spill) -> frozenset[str]:
    """The values that a policy keeps in DRAM, or block by block."""
    parts = segments(graph)
    values = {name for name in crossing(graph, parts) if name not in graph.inputs}
    contexts = frozenset(op.out for op in graph.ops if isinstance(op, Attention)) & values
    operands = {op.x for op in graph.ops if isinstance(op, Linear)}
    first, residuals = frozenset(first_residuals(graph, parts)), frozenset(values - operands)
    found = {
        Spill.NONE: first,
        Spill.CONTEXTS: contexts | first,
        Spill.NONE_WHOLE: frozenset(),
        Spill.CONTEXTS_WHOLE: contexts,
        Spill.RESIDUALS: residuals | first,
        Spill.BOTH: contexts | residuals | first,
        Spill.ALL: frozenset(values) | first,
    }[spill]
    return found | unprojected(graph, parts)


def choose(graph: Graph, config: Config, shape: Shape, policy: Policy) -> Cut | None:
    """The cut of a policy; None if the graph has none of its kind.

    Raises
    ------
    CompileError
        If not even one row of some segment fits.
    """
    family = _Family(graph, config, shape, policy.group, spilled(graph, policy.spill))
    return family.together(policy) if policy.together else family.cut(policy)


class _Family:
    """Cuts of one group size and one choice of what is spilled."""

    def __init__(
        self, graph: Graph, config: Config, shape: Shape, group: int, spilled: frozenset[str]
    ) -> None:
        self._graph, self._config, self._shape = graph, config, shape
        self._group, self._spilled = group, spilled
        self._parts, self._homes = plan(graph, spilled)
        self._layouts = Layouts(graph, config)
        self._attentions = [op for op in graph.ops if isinstance(op, Attention)]
        self._queries, self._scores = self._query_blocks()

    def cut(self, policy: Policy) -> Cut | None:
        """The cut of a policy; None if so many heads do not fit.

        Raises
        ------
        CompileError
            If some segment has no room for a row.
        """
        rows = [self._rows(index, part, policy) for index, part in enumerate(self._parts)]
        heads = self._heads(policy.heads)
        if not heads:
            return None
        return Cut(
            group=self._group,
            rows=tuple(rows),
            queries=self._queries,
            heads=heads,
            scores=self._scores,
            spilled=self._spilled,
            resident=policy.resident,
            fill=policy.fill,
            together=1,
            chunk=self._chunk(),
        )

    def together(self, policy: Policy) -> Cut | None:
        """The cut whose row blocks take columns of weights together: as many as fit beside their
        results; None if that is one, or all is not one linear layer with room for its columns."""
        (op, *others), config = self._graph.ops, self._config
        if others or not isinstance(op, Linear) or policy.resident:
            return None
        words, total = self._layouts[op.x].total, self._total(op.x)
        columns = config.memories.stat_words // column_words(words, config.tile)
        most = config.geometry.max_rows >> op.halves
        rows = min(int(policy.together * config.tile), most, total)
        blocks = -(-total // rows)
        free = int(config.act_words * policy.fill) - MOST_PIECES * rows * COLUMNS_TOGETHER
        fit = free // (rows * words)
        if fit < 2 or blocks < 2 or columns < 2:
            return None
        together = -(-blocks // -(-blocks // fit))
        cut = self.cut(policy)
        return cut and dataclasses.replace(cut, rows=(rows,), together=together)

    def _length(self, value: str) -> int:
        return self._shape.lengths[self._graph.values[value].dim]

    def _total(self, value: str) -> int:
        """Rows of a value in a group."""
        return self._group * self._length(value)

    def _query_blocks(self) -> tuple[int, int]:
        """Rows of a query block, and score buffers: those of a group in one bank if they fit, else
        two that take turns."""
        config, geometry = self._config, self._config.geometry
        keys = max((self._length(op.k) for op in self._attentions), default=1)
        queries = max((self._length(op.q) for op in self._attentions), default=1)
        tiles, bank = -(-keys // config.tile), min(config.memories.act_banks)
        most = self._open_rows()
        if queries <= min(geometry.max_rows, most) and self._group * queries * tiles <= bank:
            return queries, self._group
        rows = min(queries, geometry.max_rows // 2, bank // tiles, most)
        return max(config.tile, rows // config.tile * config.tile), 2

    def _open_rows(self) -> int:
        """Query rows whose contexts stay in accumulators from one chunk of keys to the next.

        Raises
        ------
        CompileError
            If not even those of a tile do.
        """
        most = self._config.geometry.max_rows
        for op in self._attentions:
            if not isinstance(op, CachedAttention) or self._length(op.k) <= self._chunk():
                continue
            words, slots = self._layouts[op.v].words, 2 * self._config.geometry.acc_slots
            if words > slots:
                raise CompileError(
                    f"{op.name} adds up {self._length(op.k)} keys chunk by chunk in {words} "
                    f"accumulators a tile of rows, {self._config.name} has {slots}"
                )
            most = min(most, slots // words * self._config.tile)
        return most

    def _heads(self, wanted: int) -> int:
        """So many heads if their keys and values leave room for weights, else 0."""
        if not self._attentions:
            return wanted if wanted == HEADS[0] else 0
        words = max(
            sum(self._layouts[name].words for name in (op.k, op.v))
            * (
                self._chunk()
                if isinstance(op, CachedAttention)
                else self._total(op.k) + self._config.tile
            )
            for op in self._attentions
        )
        limit = self._config.memories.stat_words * STATIONARY_SHARE
        return wanted if wanted * words <= limit or wanted == 1 else 0

    def _chunk(self) -> int:
        """Rows of a chunk of cached keys: whole pages, twice as many while there is room."""
        words = max(
            (
                sum(self._layouts[name].words for name in (op.k, op.v))
                for op in self._attentions
                if isinstance(op, CachedAttention)
            ),
            default=0,
        )
        rows, room = PAGE_ROWS, int(self._config.memories.stat_words * CHUNK_SHARE)
        while words and 2 * words * 2 * rows <= room:
            rows *= 2
        return rows if words else 0

    # --- row blocks
    def _rows(self, index: int, part: Segment, policy: Policy) -> int:
        """Largest row block of a segment; CompileError if not even one row fits."""
        sizing = policy.sizing
        free = self._config.act_words - self._on_chip(index)
        if isinstance(part, CachedSegment):  # all rows at once
            needed = self._attention_words(part.attention)
            if free < needed:
                raise CompileError(self._shortage(part, max(0, free), needed))
            return self._total(part.attention.q)
        total = max(self._total(op.inputs[0]) for op in part.ops)
        if isinstance(part, AttentionSegment):
            free -= self._attention_words(part.attention)
            per_row = self._projected_words(part)
        else:
            per_row = self._row_words(part, sizing)
        if free < per_row:
            raise CompileError(self._shortage(part, max(0, free), per_row))
        rows = total if not per_row else int(free * sizing.share) // per_row
        # one block less is worth a few rows more in each
        rows = -(-total // max(1, int(-(-total // (max(1, rows) * BLOCK_SLACK)))))
        in_halves = any(isinstance(op, Linear) and op.halves for op in part.ops)
        largest = min(rows, self._config.geometry.max_rows >> in_halves)
        if policy.resident or not any(isinstance(op, Linear) for op in part.ops):
            leaves = all(self._homes[name] == Home.DRAM for op in part.ops for name in op.outputs)
            tiles = ROWS_TO_DRAM if leaves else ROWS_WITHOUT_WEIGHTS
            largest = min(largest, tiles * self._config.tile)
        if total > LEAST_BLOCKS * self._config.tile:
            largest = min(largest, -(-total // LEAST_BLOCKS))
        return min(largest, total)

    def _shortage(self, part: Segment, free: int, per_row: int) -> str:
        config, names = self._config, list(dict.fromkeys((part.ops[0].name, part.ops[-1].name)))
        taken = f"{' to '.join(names)} takes {per_row} words of ACT a row"
        return (
            f"not even a row of {self._shape} fits {config.name}: {taken}, "
            f"{free} of {config.act_words} are free"
        )

    def _on_chip(self, index: int) -> int:
        """Words of whole values that are live in a segment; results take the place of operands."""
        words = 0
        for name in self._graph.values:
            if self._homes[name] != Home.CHIP or name in self._homes.in_place:
                continue
            same = self._same_place(name)
            users = [
                number
                for number, part in enumerate(self._parts)
                for op in part.ops
                if same & {*op.inputs, *op.outputs}
            ]
            if users and min(users) <= index <= max(users):
                words += self._total(name) * self._layouts[name].total
        return words

    def _same_place(self, name: str) -> set[str]:
        found = {name}
        for result, operand in self._homes.in_place.items():
            if operand in found:
                found.add(result)
        return found

    def _attention_words(self, op: Attention) -> int:
        """Words of queries, scores and of context on its way to DRAM."""
        keys = -(-self._length(op.k) // self._config.tile)
        cached = isinstance(op, CachedAttention)
        queries = 0 if cached else 2 * self._total(op.q) * self._layouts[op.q].words
        passing = self._homes[op.out] == Home.DRAM
        out = 2 * self._queries * self._layouts[op.out].words if passing else 0
        return queries + self._scores * self._queries * keys + out

    def _projected_words(self, part: AttentionSegment) -> int:
        """Words of a row that pass through on their way to the projections."""
        inputs = {op.x for op in (part.query, part.key, part.value) if op is not None}
        return sum(
            self._homes.turns(name, loaded=True) * self._layouts[name].total
            for name in inputs
            if self._homes[name] == Home.DRAM
        )

    def _row_words(self, part: RowSegment, sizing: Sizing) -> int:
        """Words of a row in the buffers that its values pass through."""
        if sizing.loose:
            made = {name for op in part.ops for name in op.outputs}
            passing = max(passing_words(op, self._layouts) for op in part.ops)
            return passing + sum(
                self._homes.turns(name, loaded=name not in made) * self._layouts[name].total
                for name in dict.fromkeys(n for op in part.ops for n in (*op.inputs, *op.outputs))
                if self._passes_through(name)
            )
        moving = sum(self._layouts[name].total for name in self._loaded(part.ops))
        moving += sum(
            self._layouts[name].total
            for op in part.ops
            for name in op.outputs
            if self._homes.stored(name) and self._homes[name] != Home.CHIP
        )
        return moving + max(self._live(part.ops, position) for position in range(len(part.ops)))

    def _passes_through(self, name: str) -> bool:
        """Whether blocks of a value have buffers of their own."""
        chip = self._homes[name] == Home.CHIP
        return not (chip or name in self._homes.in_place or self._homes.passes(name))

    def _loaded(self, ops: tuple[Operator, ...]) -> set[str]:
        """Values that come from DRAM."""
        made = {name for op in ops for name in op.outputs}
        return {
            name
            for op in ops
            for name in op.inputs
            if self._homes[name] == Home.DRAM and name not in made
        }

    def _live(self, ops: tuple[Operator, ...], position: int) -> int:
        """Words of a row's values, other than whole ones, while one operator runs."""
        op = ops[position]
        names = {*op.inputs, *(n for n in op.outputs if n not in self._homes.in_place)}
        later = {name for after in ops[position + 1 :] for name in after.inputs}
        before = {name for earlier in ops[:position] for name in earlier.outputs}
        names |= later & (before | self._loaded(ops[: position + 1]))
        words = sum(self._layouts[name].total for name in names if self._homes[name] != Home.CHIP)
        return words + passing_words(op, self._layouts)
