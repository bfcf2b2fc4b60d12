"""What a sequence keeps of its earlier tokens: keys and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transept.golden.graph import GraphError, Lengths, Value
from transept.golden.numerics.fixed import Array
from transept.golden.numerics.namespaces import array_namespace
from transept.golden.ops.attention import Attention

__all__ = ["Append", "CachedAttention", "starts"]


def starts(rows: Sequence[int], whole: Sequence[int]) -> list[int]:
    """Where the new rows of each sequence begin: ``rows`` of them end sequences of ``whole`` rows.

    Raises
    ------
    GraphError
        If a sequence has more new rows than rows.
    """
    for new, length in zip(rows, whole, strict=True):
        if new > length:
            raise GraphError(f"{new} new rows of a sequence of {length}")
    return [length - new for new, length in zip(rows, whole, strict=True)]


@dataclass(frozen=True, eq=False)
class Append:
    """``out`` = ``cache`` with ``rows`` at its end: of a sequence with n real new rows, which has t
    rows with them, they are rows t - n to t - 1.

    cache, out: of one dimension, whose lengths count the new rows; rows: of another one, as wide
    and of as many bits. What lies behind the length of a sequence stays as it is.
    """

    name: str
    cache: str
    rows: str
    out: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """cache and rows."""
        return (self.cache, self.rows)

    @property
    def outputs(self) -> tuple[str, ...]:
        """out."""
        return (self.out,)

    def check(self, values: Mapping[str, Value]) -> None:
        """GraphError if cache, rows and out differ in width or bits, or cache and out in rows."""
        cache, rows, out = (values[name] for name in (self.cache, self.rows, self.out))
        for value in (rows, out):
            if (value.width, value.bits) != (cache.width, cache.bits):
                raise GraphError(
                    f"{self.name} has {cache.name} of {cache.width} x {cache.bits} bits and "
                    f"{value.name} of {value.width} x {value.bits} bits"
                )
        if cache.dim != out.dim or cache.dim == rows.dim:
            raise GraphError(
                f"{self.name}: {cache.name}, {rows.name} and {out.name} are rows of {cache.dim}, "
                f"{rows.dim} and {out.dim}"
            )

    def evaluate(
        self, values: Mapping[str, Value], arrays: Mapping[str, Array], lengths: Lengths
    ) -> dict[str, Array]:
        """out, int64[batch, length, width]."""
        cache, rows = arrays[self.cache], arrays[self.rows]
        xp = array_namespace(cache)
        new = lengths.get(values[self.rows].dim, [rows.shape[1]] * len(rows))
        whole = lengths.get(values[self.cache].dim, [cache.shape[1]] * len(cache))
        sequences = zip(cache, rows, starts(new, whole), whole, strict=True)
        return {
            self.out: xp.stack(
                [
                    xp.concat([old[:first], some[: end - first], old[end:]], axis=0)
                    for old, some, first, end in sequences
                ]
            )
        }

    def macs(self, *rows: Sequence[int]) -> int:
        """None on the array."""
        return 0


@dataclass(frozen=True, eq=False)
class CachedAttention(Attention):
    """Attention of the last rows of a sequence on all of them: the last real query has the position
    of the last key. k and v have the dimension of the cache, q another one.
    """

    def check(self, values: Mapping[str, Value]) -> None:
        """GraphError as of ``Attention``, or if keys have the rows of queries, or the filter looks
        at more than positions: what it keeps would depend on how the rows come."""
        super().check(values)
        q, k = values[self.q], values[self.k]
        if q.dim == k.dim:
            raise GraphError(f"{self.name}: {q.name} and {k.name} have the same rows, {q.dim}")
        if self.filter.looks:
            kind = self.filter.kind.name.lower()
            raise GraphError(f"{self.name} has filter {kind}, must be one of positions alone")

    def positions(self, queries: Sequence[int], keys: Sequence[int]) -> list[int]:
        """Of the first query of each sequence; queries, keys: real ones of each."""
        return starts(queries, keys)
