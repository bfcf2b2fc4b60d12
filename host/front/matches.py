"""What patterns find in a torch graph: operators on named values, still in real numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import fx

from transept.golden.filters import Dense, KeyFilter
from transept.host.front.patterns.pointwise import Pointwise

__all__ = [
    "AddMatch",
    "AttentionMatch",
    "Boundary",
    "Gathered",
    "LinearMatch",
    "Mask",
    "Match",
    "MultiplyMatch",
    "NormMatch",
    "RotaryMatch",
    "Source",
]


@dataclass(frozen=True, eq=False)
class Source:
    """Where a value lies in the torch graph: element e of row r is element ``index[r, e]`` of the
    flattened tensor of ``node``, times ``sign[e]`` if there are signs."""

    node: fx.Node
    index: torch.Tensor
    sign: torch.Tensor | None = None

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """The value [rows, width] in the tensor of its node."""
        flat = tensor.detach().flatten()
        whole = self._in_order and len(flat) == self.index.numel()
        rows = flat.reshape(self.index.shape) if whole else flat[self.index]
        return rows if self.sign is None else rows * self.sign

    @functools.cached_property
    def _in_order(self) -> bool:
        count = self.index.numel()
        return bool((self.index.flatten() == torch.arange(count)).all())

    def same(self, other: Source) -> bool:
        """Whether both are the same elements with the same signs."""
        if self.node is not other.node or not torch.equal(self.index, other.index):
            return False
        if self.sign is None or other.sign is None:
            return self.sign is other.sign
        return torch.equal(self.sign, other.sign)

    def columns(self, elements: torch.Tensor) -> Source:
        """Some elements of every row."""
        sign = None if self.sign is None else self.sign[elements]
        return Source(self.node, self.index[:, elements], sign)


@dataclass(frozen=True, eq=False)
class Boundary:
    """A tensor of the torch graph as a value of rows: element i of it is element ``codes[i]`` of
    the flattened rows [rows, width]."""

    node: fx.Node
    codes: torch.Tensor
    rows: int
    width: int

    @property
    def source(self) -> Source:
        """The inverse of the codes."""
        index = torch.empty(self.rows * self.width, dtype=torch.int64)
        index[self.codes.flatten()] = torch.arange(len(index))
        return Source(self.node, index.reshape(self.rows, self.width))


@dataclass(frozen=True, eq=False)
class Gathered:
    """A value of rows whose elements torch computes, some of them in several places of it."""

    source: Source

    @property
    def node(self) -> fx.Node:
        """The node that computes them."""
        return self.source.node

    @property
    def rows(self) -> int:
        """Rows of the value."""
        return len(self.source.index)


@dataclass(eq=False, kw_only=True)
class Match:
    """One operator. ``inputs`` and ``outputs``: values; ``nodes``: torch operators that it takes
    the place of; ``defines``: where each output is in the torch graph; ``facts``: what it computes
    besides its constants, the same for other shapes."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: frozenset[fx.Node]
    defines: dict[str, Boundary]
    module: str = ""
    facts: str = ""

    @property
    def constants(self) -> tuple[torch.Tensor, ...]:
        """Tensors that decide what it computes, the same for other shapes."""
        return ()

    def alike(self, other: Match) -> bool:
        """Whether both compute the same, in whatever shapes."""
        same = type(self) is type(other) and self.facts == other.facts
        return same and all(map(_equal, self.constants, other.constants))


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal; not looked into if they are the same piece of memory."""
    if one.shape != other.shape:
        return False
    same = one.data_ptr() == other.data_ptr() and one.stride() == other.stride()
    return same or torch.equal(one, other)


@dataclass(eq=False, kw_only=True)
class LinearMatch(Match):
    """``y = activation(x W^T + b)``; weight float32[n, k], bias float32[n]; ``weights``: path of
    the parameter, by which layers are counted; product: where the result is before the activation.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    activation: Pointwise | None
    weights: str
    product: Boundary

    @property
    def constants(self) -> tuple[torch.Tensor, ...]:
        """Weight and bias."""
        return self.weight, self.bias


@dataclass(eq=False, kw_only=True)
class NormMatch(Match):
    """LayerNorm (``centre``) or RMSNorm of y, or of y + x; outputs: the result, and the sum if it
    is kept; sum: its name, kept or not."""

    weight: torch.Tensor
    bias: torch.Tensor
    epsilon: float
    centre: bool
    sum: str | None = None

    @property
    def constants(self) -> tuple[torch.Tensor, ...]:
        """Weight and bias."""
        return self.weight, self.bias


@dataclass(eq=False, kw_only=True)
class AddMatch(Match):
    """y + x."""


@dataclass(eq=False, kw_only=True)
class MultiplyMatch(Match):
    """y * x, element by element."""


@dataclass(eq=False, kw_only=True)
class RotaryMatch(Match):
    """``x cos + partner(x) sin``; inputs: x, cos, sin, the last two of the positions of x's rows.

    heads; columns: the elements of x that each head reads, int64[heads, d]; the partner of element
    i is i + d / 2, and the sines of the first half of d are negative.
    """

    heads: int
    columns: torch.Tensor

    @property
    def constants(self) -> tuple[torch.Tensor, ...]:
        """The elements that each head reads."""
        return (self.columns,)


@dataclass(frozen=True, eq=False)
class Mask:
    """A tensor that says which keys a query sees: added to the scores, or true where it does.

    kind: add, keep, drop; shape: of the scores where it meets them, in whatever view; factor: by
    which both are multiplied then.
    """

    node: fx.Node
    kind: str
    shape: tuple[int, ...]
    factor: float = 1.0


@dataclass(eq=False, kw_only=True)
class AttentionMatch(Match):
    """softmax(scale q k^T, masked) v; inputs: q, k, v.

    heads, kv_heads; columns: the elements of q, k and v that each head reads, int64[heads, d];
    queries, keys: int64[batch, length], the row of each position in its value; leading: the score
    tensor's dimensions before [t, s], and slices: the sequence of each of its slices, in order;
    causal: only keys up to the query's own position. ``filter`` says the same as masks and causal
    do on the example.
    """

    heads: int
    kv_heads: int
    columns: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    queries: torch.Tensor
    keys: torch.Tensor
    leading: tuple[int, ...]
    slices: torch.Tensor
    scale: float
    masks: tuple[Mask, ...] = field(default=())
    causal: bool = False
    filter: KeyFilter = field(default_factory=Dense)

    @property
    def constants(self) -> tuple[torch.Tensor, ...]:
        """The elements that each head reads."""
        return self.columns
