"""Multi-head attention on int8 queries, keys and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from transept.golden.filters import Dense, KeyFilter, QueryBlock, kept_tiles, key_sums
from transept.golden.graph import GraphError, Lengths, Value
from transept.golden.isa import Opcode
from transept.golden.layouts import CHANNEL_RECORD
from transept.golden.numerics.fixed import Array, product
from transept.golden.numerics.namespaces import array_namespace
from transept.golden.numerics.polynomial import reciprocal
from transept.golden.numerics.requantise import ONE, ChannelParameters, requantise
from transept.golden.numerics.softmax import MASKED, levels
from transept.golden.ops.parameters import check_numbers, check_record, like, parameters_like

__all__ = ["Attention"]

#: Limits of the score factors: the requantiser's, whose bias stays 0.
_SCORE_FIELDS = {f"score_{name}": CHANNEL_RECORD[name] for name in ("multiplier", "shift")}


@dataclass(frozen=True, eq=False)
class Attention:
    """``out = softmax(q . k^T, over the keys that the filter keeps) . v``, head by head.

    q: int8[.., heads * d], k: int8[.., kv_heads * d], v: int8[.., kv_heads * e], out: int16[..,
    heads * e]; query head h reads key-value head ``h // (heads / kv_heads)``. Keys beyond the
    length of their sequence are never seen. A query's position is its row.

    score_multiplier (uint16), score_shift: int64[heads], and score_row_shift bring a product to
    log2 units with 8 fractional bits; context, context_row_shift, context_out_shift requantise the
    quotient by the row sum. ``block``: query rows that a filter decides for at once, and keys of a
    tile.
    """

    name: str
    q: str
    k: str
    v: str
    out: str
    heads: int
    kv_heads: int
    score_multiplier: np.ndarray
    score_shift: np.ndarray
    score_row_shift: int
    context: ChannelParameters
    context_row_shift: int
    context_out_shift: int
    block: int
    filter: KeyFilter = field(default_factory=Dense)

    @property
    def inputs(self) -> tuple[str, ...]:
        """q, k and v."""
        return (self.q, self.k, self.v)

    @property
    def outputs(self) -> tuple[str, ...]:
        """out."""
        return (self.out,)

    def check(self, values: Mapping[str, Value]) -> None:
        """GraphError if q, k, v or out have widths that heads do not divide, or other types, or a
        parameter is outside its limits."""
        for what in ("heads", "kv_heads", "block"):
            if getattr(self, what) < 1:
                raise GraphError(f"{self.name} has {what} {getattr(self, what)}, at least 1 is due")
        q, k, v, out = (values[name] for name in (self.q, self.k, self.v, self.out))
        for value, bits in ((q, 8), (k, 8), (v, 8), (out, 16)):
            if value.bits != bits:
                raise GraphError(f"{self.name} takes {value.name} of {bits} bits, not {value.bits}")
        if self.heads % self.kv_heads:
            raise GraphError(
                f"{self.name} has {self.heads} heads for {self.kv_heads} key-value heads"
            )
        for value, heads in ((q, self.heads), (k, self.kv_heads), (v, self.kv_heads)):
            if value.width % heads:
                raise GraphError(
                    f"{self.name}: {heads} heads do not divide the {value.width} of {value.name}"
                )
        if q.width // self.heads != k.width // self.kv_heads:
            raise GraphError(f"{self.name}: heads of {q.name} and {k.name} differ in width")
        if out.width != self.heads * (v.width // self.kv_heads):
            raise GraphError(f"{self.name}: {out.name} has {out.width} elements for its heads")
        if (k.dim, q.dim) != (v.dim, out.dim):
            raise GraphError(
                f"{self.name}: {k.name}, {v.name} or {q.name}, {out.name} differ in rows"
            )
        check_record(self.name, self, _SCORE_FIELDS, (self.heads,))
        check_numbers(self.name, Opcode.SCORES, row_shift=self.score_row_shift)
        check_record(self.name, self.context, CHANNEL_RECORD, (out.width,))
        check_numbers(
            self.name,
            Opcode.CONTEXT,
            row_shift=self.context_row_shift,
            out_shift=self.context_out_shift,
        )

    def evaluate(
        self, values: Mapping[str, Value], arrays: Mapping[str, Array], lengths: Lengths
    ) -> dict[str, Array]:
        """out, int64[batch, length, heads * e]."""
        q, k, v = (arrays[name] for name in self.inputs)
        keys = lengths.get(values[self.k].dim, [k.shape[1]] * len(k))
        queries = lengths.get(values[self.q].dim, [q.shape[1]] * len(q))
        sequences = zip(q, k, v, keys, self.positions(queries, keys), strict=True)
        rows = [self._sequence(*sequence) for sequence in sequences]
        return {self.out: array_namespace(q).stack(rows)}

    def positions(self, queries: Sequence[int], keys: Sequence[int]) -> list[int]:
        """Of the first query of each sequence; queries, keys: real ones of each."""
        return [0] * len(keys)

    def _sequence(self, q: Array, k: Array, v: Array, keys: int, first: int = 0) -> Array:
        """One sequence; q: int64[t, heads * d] from position ``first`` on, of k and v the first
        ``keys`` rows are real."""
        q, k, v = self._split(q, self.heads), self._split(k[:keys], 0), self._split(v[:keys], 0)
        level = levels(*self._scores(q, k, first))
        return self._context(level, v)

    def _split(self, rows: Array, heads: int) -> Array:
        """int64[t, width] to int64[heads, t, d]; heads 0: those of keys and values, repeated."""
        xp = array_namespace(rows)
        split = xp.reshape(rows, (len(rows), heads or self.kv_heads, -1))
        by_head = xp.permute_dims(split, (1, 0, 2))
        return by_head if heads else xp.repeat(by_head, self.heads // self.kv_heads, axis=0)

    def _scores(self, q: Array, k: Array, first: int = 0) -> tuple[Array, Array]:
        """Scores int64[heads, t, keys], masked, and the maximum of each row."""
        xp = array_namespace(q)
        channel = ChannelParameters(
            like(q, self.score_multiplier)[:, None, None],
            like(q, self.score_shift)[:, None, None],
            like(q, np.zeros((), np.int64)),
        )
        ones = q[..., 0] * 0 + ONE
        scores = requantise(
            product(q, xp.permute_dims(k, (0, 2, 1))),
            channel,
            ones,
            ones * 0,
            pre=0,
            row_shift=self.score_row_shift,
            out_shift=0,
            bits=16,
        )
        scores = xp.where(self._kept(q, k, first), scores, like(q, np.array(MASKED)))
        return scores, xp.max(scores, axis=-1, keepdims=True)

    def _kept(self, q: Array, k: Array, first: int) -> Array:
        """bool, broadcastable to [heads, t, keys]: the filter's mask within the kept tiles."""
        rows, count = q.shape[1], k.shape[1]
        position, key = like(q, first + np.arange(rows)), like(q, np.arange(count))
        seen = (position[:, None] >= 0) & (key >= 0) & self.filter.sees(position[:, None], key)
        if not self.filter.looks:
            return seen
        blocks, tiles = (-(-n // self.block) for n in (rows, count))
        kept = np.zeros((self.heads, blocks, tiles), np.int64)
        for head in range(self.heads):
            sums = key_sums(k[head], self.block)
            for block in range(blocks):
                start = block * self.block
                queries = q[head, start : start + self.block].sum(0)
                about = QueryBlock(self.block, start, count, query_sum=queries, key_sums=sums)
                kept[head, block, kept_tiles(self.filter, about)] = 1
        by_row = like(q, kept)[:, position // self.block, :][:, :, key // self.block]
        return seen & (by_row > 0)

    def _context(self, level: Array, v: Array) -> Array:
        """int64[heads, t, keys] levels and int64[heads, keys, e] -> int64[t, heads * e]."""
        xp = array_namespace(v)
        mantissa, exponent = reciprocal(xp.sum(level, axis=-1))
        channel = parameters_like(v, self.context)
        by_head = ChannelParameters(
            *(
                xp.reshape(part, (self.heads, 1, -1))
                for part in (channel.multiplier, channel.shift, channel.bias)
            )
        )
        context = requantise(
            product(level, v),
            by_head,
            mantissa,
            exponent,
            pre=0,
            row_shift=self.context_row_shift,
            out_shift=self.context_out_shift,
            bits=16,
        )
        return xp.reshape(xp.permute_dims(context, (1, 0, 2)), (level.shape[1], -1))

    def macs(self, *rows: Sequence[int]) -> int:
        """Scores and context of every head, all keys of a sequence computed."""
        d = len(self.context.multiplier) // self.heads
        queries, keys, _ = rows
        return sum(2 * t * s * d * self.heads for t, s in zip(queries, keys, strict=True))
