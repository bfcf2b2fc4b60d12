"""The quantised graph: what a compiled part of a model computes, exactly.

A graph is a list of operators (``golden.ops``) over named values in single assignment form. It
knows neither instructions nor tiles. Its interpreter is the golden model; the compiler lowers the
same graph to instructions.

A value is a batch of sequences of rows: int[batch, length, width]. Sequences that share a ``Dim``
have the same length; rows without sequence structure are one long sequence of a batch of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from transept.golden.numerics.fixed import Array, integers

__all__ = ["Dim", "Graph", "GraphError", "Lengths", "Operator", "State", "Value"]

#: Real rows of every sequence of a batch, by the name of their dimension; all if it is absent.
Lengths = Mapping[str, Sequence[int]]

LIMITS = {16: 32767, 8: 127}


class GraphError(ValueError):
    """A graph, or what it is given, does not fit together; the message names the value."""


@dataclass(frozen=True)
class Dim:
    """A number of rows that may differ from run to run, at most ``limit``."""

    name: str
    limit: int

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise GraphError(f"dimension {self.name} has limit {self.limit}, must be at least 1")


@dataclass(frozen=True, eq=False)
class Value:
    """Rows of ``width`` integers of ``bits`` bits (16 or 8), symmetric about zero.

    ``scale``, float64[width], is the real value of one step of each element; None where no real
    number is meant.
    """

    name: str
    dim: str
    width: int
    bits: int = 16
    scale: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.bits not in LIMITS:
            raise GraphError(f"value {self.name} has {self.bits} bits, must be 8 or 16")
        if self.width < 1:
            raise GraphError(f"value {self.name} has width {self.width}, must be at least 1")
        if self.scale is None:
            return
        scale = np.asarray(self.scale)
        if scale.shape != (self.width,) or scale.dtype != np.float64:
            raise GraphError(
                f"scale of {self.name} is {scale.dtype}{list(scale.shape)}, "
                f"must be float64[{self.width}]"
            )
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            bad = scale[~(np.isfinite(scale) & (scale > 0))][0]
            raise GraphError(f"scale of {self.name} holds {bad}, must be finite and positive")

    @property
    def limit(self) -> int:
        """Largest magnitude: 32,767 or 127. The lowest code is never used."""
        return LIMITS[self.bits]

    def check_rows(self, rows: Array) -> Array:
        """The same integers as int64.

        Raises
        ------
        GraphError
            If they are not [batch, length, width] or a magnitude exceeds the limit.
        """
        if rows.ndim != 3 or rows.shape[-1] != self.width:
            raise GraphError(
                f"value {self.name} has shape {list(rows.shape)}, "
                f"must be [batch, length, {self.width}]"
            )
        rows = integers(rows)
        if 0 not in rows.shape and int(abs(rows).max()) > self.limit:
            raise GraphError(
                f"value {self.name} holds {int(abs(rows).max())}, its limit is {self.limit}"
            )
        return rows


@dataclass(frozen=True)
class State:
    """A value that persists: ``output`` of one run is ``input`` of the next, at first 0."""

    input: str
    output: str


class Operator(Protocol):
    """One file of ``golden.ops`` each: a frozen dataclass and its exact evaluation."""

    @property
    def name(self) -> str:
        """Its name, unique in a graph."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values that it reads."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that it defines."""

    def check(self, values: Mapping[str, Value]) -> None:
        """GraphError if a value has another width, type or dimension than the operator takes."""

    def evaluate(
        self, values: Mapping[str, Value], arrays: Mapping[str, Array], lengths: Lengths
    ) -> dict[str, Array]:
        """The outputs, int64[batch, length, width]; NumPy or torch, as ``arrays`` are."""

    def macs(self, *rows: Sequence[int]) -> int:
        """Multiply-accumulates for sequences of so many real rows each; rows: of every input."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators in an order in which every value is defined before it is read.

    Raises
    ------
    GraphError
        If a value is missing, defined twice or read before it is defined, or an operator does not
        fit its values.
    """

    dims: tuple[Dim, ...]
    values: Mapping[str, Value]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ops: tuple[Operator, ...]
    states: tuple[State, ...] = field(default=())

    def __post_init__(self) -> None:
        limits = {dim.name for dim in self.dims}
        for name, value in self.values.items():
            if name != value.name:
                raise GraphError(f"value {value.name} is called {name}")
            if value.dim not in limits:
                raise GraphError(f"value {name} has an unknown dimension {value.dim}")
        defined: set[str] = set()
        self._define(defined, "the graph", self.inputs)
        names: set[str] = set()
        for op in self.ops:
            if op.name in names:
                raise GraphError(f"two operators are called {op.name}")
            names.add(op.name)
            self._read(defined, f"operator {op.name}", op.inputs)
            self._define(defined, f"operator {op.name}", op.outputs)
            op.check(self.values)
        self._read(defined, "the output", self.outputs)
        for state in self.states:
            self._check_state(state)

    def _define(self, defined: set[str], who: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.values:
                raise GraphError(f"{who} defines {name}, which is no value")
            if name in defined:
                raise GraphError(f"{who} defines {name} a second time")
            defined.add(name)

    @staticmethod
    def _read(defined: set[str], who: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in defined:
                raise GraphError(f"{who} reads {name}, which nothing before it defines")

    def _check_state(self, state: State) -> None:
        if state.input not in self.inputs or state.output not in self.outputs:
            raise GraphError(f"a state goes from an output to an input, not {state}")
        before, after = self.values[state.input], self.values[state.output]
        same = all(getattr(before, n) == getattr(after, n) for n in ("dim", "width", "bits"))
        if not same or not _equal(before.scale, after.scale):
            raise GraphError(f"state {state.input} and {state.output} differ in type or scale")

    def dim(self, name: str) -> Dim:
        """The named dimension."""
        return next(dim for dim in self.dims if dim.name == name)

    def consumers(self, name: str) -> Iterator[Operator]:
        """Operators that read the named value."""
        return (op for op in self.ops if name in op.inputs)

    def producer(self, name: str) -> Operator | None:
        """The operator that defines the named value; None for an input."""
        return next((op for op in self.ops if name in op.outputs), None)

    def macs(self, lengths: Lengths) -> dict[str, int]:
        """Multiply-accumulates of every operator, for sequences of so many real rows each."""
        return {
            op.name: op.macs(*(lengths[self.values[name].dim] for name in op.inputs))
            for op in self.ops
        }

    def evaluate(
        self, inputs: Mapping[str, Array], lengths: Lengths | None = None
    ) -> dict[str, Array]:
        """The golden model: outputs for integer inputs int[batch, length, width].

        Rows beyond the length of their sequence are computed, and nothing reads them across rows.

        Raises
        ------
        GraphError
            If an input is missing, or has another shape or a value outside its bits.
        """
        arrays = self.evaluate_all(inputs, lengths)
        return {name: arrays[name] for name in self.outputs}

    def evaluate_all(
        self, inputs: Mapping[str, Array], lengths: Lengths | None = None
    ) -> dict[str, Array]:
        """As ``evaluate``, with every value in between."""
        arrays: dict[str, Array] = {}
        for name in self.inputs:
            if name not in inputs:
                raise GraphError(f"input {name} is missing")
            arrays[name] = self.values[name].check_rows(inputs[name])
        for op in self.ops:
            arrays |= op.evaluate(self.values, arrays, lengths or {})
        return arrays


def _equal(left: np.ndarray | None, right: np.ndarray | None) -> bool:
    if left is None or right is None:
        return left is right
    return np.array_equal(left, right)
