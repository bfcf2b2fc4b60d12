"""What patterns find in a torch graph: operators on named values, still in real numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import fx

from transept.golden.filters import Dense, KeyFilter
from transept.host.front.patterns.pointwise import Pointwise

__all__ = ["AddMatch", "AttentionMatch", "Boundary", "LinearMatch", "Mask", "Match", "NormMatch"]


@dataclass(frozen=True, eq=False)
class Boundary:
    """A tensor of the torch graph as a value of rows: element i of it is element ``codes[i]`` of
    the flattened rows [rows, width]."""

    node: fx.Node
    codes: torch.Tensor
    rows: int
    width: int


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
