"""How the work is cut: into groups of sequences, row blocks, query blocks, and what leaves the chip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from transept.golden.config import Config
from transept.golden.graph import Graph
from transept.golden.ops import Attention, Linear
from transept.host.compiler.homes import crossing
from transept.host.compiler.layout import Layouts
from transept.host.compiler.segments import segments

__all__ = ["Cut", "Shape", "candidates"]


@dataclass(frozen=True)
class Shape:
    """A bucket: sequences of a batch, and rows of each in every dimension."""

    batch: int
    lengths: Mapping[str, int]

    def __str__(self) -> str:
        return f"{self.batch} x {', '.join(str(n) for n in self.lengths.values())}"


@dataclass(frozen=True)
class Cut:
    """One way to cut a graph of one shape.

    group: sequences that go through all operators together; rows: of a block between two values
    that cross segments; queries: rows of a query block; heads: key-value heads on chip at a time;
    scores: score buffers; spilled: values that are kept in DRAM between segments; resident: every
    weight stays on chip.
    """

    group: int
    rows: int
    queries: int
    heads: int
    scores: int
    spilled: frozenset[str]
    resident: bool


#: Row blocks of a group that are tried; norms hide behind products if there are at least two.
BLOCKS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)


def candidates(graph: Graph, config: Config, shape: Shape) -> Iterator[Cut]:
    """Cuts worth trying, the most promising first."""
    longest = max(shape.lengths.values())
    limit = config.geometry.max_rows
    for group in _groups(shape.batch, limit // longest):
        for spilled in _spills(graph):
            for blocks in _block_counts(group * longest, config):
                yield _cut(graph, config, shape, group, spilled, blocks)


def _groups(batch: int, largest: int) -> list[int]:
    """Sequences at a time: as many as one instruction takes, in groups of nearly the same size."""
    sizes = [-(-batch // -(-batch // group)) for group in range(min(batch, largest), 0, -1)]
    return list(dict.fromkeys(sizes)) or [1]


def _block_counts(rows: int, config: Config) -> list[int]:
    """Numbers of row blocks."""
    if rows <= 2 * config.tile:
        return [1, *(n for n in BLOCKS if n <= rows)]
    return [n for n in BLOCKS if n <= rows and -(-rows // n) <= config.geometry.max_rows]


def _spills(graph: Graph) -> list[frozenset[str]]:
    """Values that leave the chip between segments: none, those that attention makes, those that
    are only added to, both, all."""
    across = crossing(graph, segments(graph))
    values = [name for name in across if name not in graph.inputs]
    contexts = frozenset(op.out for op in graph.ops if isinstance(op, Attention)) & set(values)
    operands = {op.x for op in graph.ops if isinstance(op, Linear)}
    residuals = frozenset(name for name in values if name not in operands)
    sets = (frozenset(), contexts, residuals, contexts | residuals, frozenset(values))
    return list(dict.fromkeys(sets))


def _cut(
    graph: Graph, config: Config, shape: Shape, group: int, spilled: frozenset[str], blocks: int
) -> Cut:
    attentions = [op for op in graph.ops if isinstance(op, Attention)]
    longest = max(shape.lengths.values())
    keys = max((shape.lengths[graph.values[op.k].dim] for op in attentions), default=1)
    tiles = -(-keys // config.tile)
    bank = min(config.memories.act_banks)
    queries = max(1, min(config.geometry.max_rows, longest))
    alone = group * queries * tiles <= bank  # scores of all sequences fit one bank
    if not alone:
        queries = min(queries, config.geometry.max_rows // 2, bank // tiles)
        queries = max(config.tile, queries // config.tile * config.tile)
    layouts = Layouts(graph, config)
    heads = 2
    for op in attentions:
        words = sum(layouts[name].words for name in (op.k, op.v)) * (group * keys + config.tile)
        if 2 * words > config.memories.stat_words * STATIONARY_SHARE:
            heads = 1
    return Cut(
        group=group,
        rows=-(-group * longest // blocks),
        queries=queries,
        heads=heads,
        scores=group if alone else 2,
        spilled=spilled,
        resident=False,
    )


#: Share of the stationary scratchpad that keys and values of two heads may take.
STATIONARY_SHARE = 0.75
