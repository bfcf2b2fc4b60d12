"""Attention, in parts of sequences, heads and queries whose scores stay in caches."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from transept.golden.filters import TileThreshold
from transept.golden.graph import Lengths, Value
from transept.golden.numerics.requantise import ChannelParameters
from transept.golden.numerics.softmax import LEVELS, OFFSET
from transept.golden.ops import Attention
from transept.host.backends.cpu.arrays import Arrays, block_elements, slices
from transept.host.backends.cpu.kernel import Kernel
from transept.host.backends.cpu.masks import Mask
from transept.host.backends.cpu.product import products
from transept.host.backends.cpu.reciprocals import reciprocals
from transept.host.backends.cpu.requantise import LIMIT25, Requantiser
from transept.host.backends.cpu.softmax import Scores, levels, row_sums

__all__ = ["AttentionKernel"]

#: Of the reciprocal of a row's sum, which is 0 or at least the largest level.
MOST, EXPONENT = (1 << 16) // LEVELS + 1, 24


class AttentionKernel(Kernel):
    """An ``Attention`` that ``fits``."""

    def __init__(self, op: Attention, values: Mapping[str, Value]) -> None:
        self._op, self._query_dim, self._key_dim = op, values[op.q].dim, values[op.k].dim
        self._scores = Scores(op, values[op.q].width // op.heads)
        context, by_head = op.context, (op.heads, -1)
        self._requantise = Requantiser(
            ChannelParameters(
                context.multiplier.reshape(by_head),
                context.shift.reshape(by_head),
                context.bias.reshape(by_head),
            ),
            row_shift=op.context_row_shift,
            out_shift=op.context_out_shift,
            bits=16,
            largest=LIMIT25 + 1,
            most=MOST,
            exponent=EXPONENT,
        )

    @classmethod
    def fits(cls, op: Attention, values: Mapping[str, Value]) -> bool:
        """Whether the filter goes by positions, or is the one that looks and is known here."""
        return type(op.filter) is TileThreshold or not op.filter.looks

    def __call__(self, arrays: Arrays, lengths: Lengths) -> dict[str, torch.Tensor]:
        """out."""
        op = self._op
        q = _by_head(arrays[op.q], op.heads)
        k, v = (_repeated(_by_head(arrays[x], op.kv_heads), op.heads) for x in (op.k, op.v))
        (batch, heads, rows, _), length = q.shape, k.shape[2]
        real = [int(keys) for keys in lengths.get(self._key_dim, [length] * batch)]
        queries = lengths.get(self._query_dim, [rows] * batch)
        mask = Mask(op, q, k, real, op.positions(queries, real))
        out = torch.empty(batch, rows, heads, v.shape[3], dtype=torch.int16)
        most = block_elements() // length
        for some in slices(batch, most // (heads * rows)):
            keys = max(real[some])
            for block in slices(rows, most):
                positions = mask.positions(some, block, keys)
                for part in slices(heads, most // rows):
                    acc = products(q[some, part, block], k[some, part, :keys].transpose(2, 3))
                    score = self._scores(acc, part)
                    for hidden in (*positions, *mask.tiles(some, part, block, keys)):
                        score.add_(hidden)
                    context = self._context(levels(score), v[some, part, :keys], part)
                    out[some, block, part] = context
        return {op.out: out.flatten(2)}

    def _context(self, level: torch.Tensor, v: torch.Tensor, heads: slice) -> torch.Tensor:
        """float64[batch, queries, heads, e] of float32 levels [batch, heads, queries, keys], which
        are lost, and values int8[batch, heads, keys, e]."""
        sums, keys = row_sums(level).transpose(1, 2), level.shape[3]
        operands = level.sub_(OFFSET).to(torch.int8)
        acc = products(operands, v).transpose(1, 2).contiguous()
        acc += OFFSET * v.double().sum(2)[:, None]
        return self._requantise(acc, reciprocals(sums, LEVELS * keys), heads)


def _by_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[batch, length, width] to [batch, heads, length, width / heads]."""
    return torch.unflatten(x, 2, (heads, -1)).transpose(1, 2).contiguous()


def _repeated(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[batch, key-value heads, ..] for every query head."""
    share = heads // x.shape[1]
    return x if share == 1 else x.repeat_interleave(share, 1)
