"""Operators as launches of kernels, a class an operator.

A step is made once for a graph, with its constants on the device; ``launches`` binds it to the
memory of one shape. Who makes a value also makes the int8 rows that products read of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch

from transept.golden.graph import Graph, Operator
from transept.golden.ops import Add, Attention, Linear, Multiply, Norm, Rotary
from transept.host.backends.gpu.memory import Memory
from transept.host.backends.gpu.tune import ATTENTION_BLOCKS, Tuner, linear_blocks
from transept.host.compiler.errors import CompileError
from transept.host.kernels.attention import AttentionKernel
from transept.host.kernels.elementwise import multiplied, rotated
from transept.host.kernels.matmul import LinearKernel, joinable
from transept.host.kernels.norm import NormKernel
from transept.host.kernels.rows import activated, lookup, quantise_rows

__all__ = ["STEPS", "Launch", "Step", "quantise", "steps"]

#: Starts kernels on the memory that it was bound to.
Launch = Callable[[], object]


class Step(Protocol):
    """Neighbouring operators that start together."""

    ops: tuple[Operator, ...]

    def launches(self, memory: Memory, tuner: Tuner) -> Iterator[Launch]:
        """What computes the operators' outputs in ``memory``."""


def steps(graph: Graph, device: torch.device) -> list[Step]:
    """All operators in the order of the graph; linear layers of the same rows may be one product.

    Raises
    ------
    CompileError
        If an operator has no kernel.
    """
    found: list[Step] = []
    done: set[str] = set()
    for op in graph.ops:
        if op.name in done:
            continue
        ops = _beside(graph, op) if isinstance(op, Linear) else (op,)
        done |= {other.name for other in ops}
        if type(op) not in STEPS:
            raise CompileError(f"gpu: {op.name} is a {type(op).__name__}, there is no such kernel")
        if isinstance(op, Linear) and op.halves:
            raise CompileError(f"gpu: {op.name} has rows in halves, there is no such kernel")
        found.append(STEPS[type(op)](graph, ops, device))
    return found


def _beside(graph: Graph, op: Linear) -> tuple[Linear, ...]:
    """The linear layers that are one product with ``op``: neighbouring columns of one result."""
    bits = graph.values[op.y].bits
    found: tuple[Linear, ...] = (op,)
    for other in graph.consumers(op.x):
        if not isinstance(other, Linear) or other is op or graph.values[other.y].bits != bits:
            continue
        joined = (*found, other)
        if joinable(joined, bits) and not any(_operand(graph, member) for member in joined):
            found = joined
    return found


def _operand(graph: Graph, op: Linear) -> bool:
    """Whether a product reads the int8 result as it is, which then has rows of its own."""
    eight = graph.values[op.y].bits == 8
    return eight and any(isinstance(reader, Linear) for reader in graph.consumers(op.y))


def quantise(memory: Memory, name: str) -> Iterator[Launch]:
    """Make operands of a value, if a product reads it."""
    if memory.operand(name):
        x, rows = memory.value(name), memory.rows(name)
        yield lambda: quantise_rows(x, rows)


class LinearStep:
    """Linear layers of the same rows, with the activation of the one that has one."""

    def __init__(self, graph: Graph, ops: Sequence[Linear], device: torch.device) -> None:
        self.ops: tuple[Operator, ...] = tuple(ops)
        self._graph, self._op = graph, ops[0]
        self._outputs = [op.y for op in ops]
        self._bits = 16 if self._op.table else graph.values[self._op.y].bits
        self._kernel = LinearKernel(ops, self._bits, device)
        self._table = None if self._op.table is None else lookup(self._op.table, device)

    def launches(self, memory: Memory, tuner: Tuner) -> Iterator[Launch]:
        """The product, and what follows it row by row."""
        kernel, width = self._kernel, len(self._kernel.weights)
        x, dynamic = memory.rows(self._op.x), self._graph.values[self._op.x].bits == 16
        if self._table is None and len(self._outputs) == 1:
            y = memory.value(self._op.y)
        else:
            dtype = torch.int8 if self._bits == 8 else torch.int16
            y = memory.tensor(memory.count(self._op.x), width, dtype)
        if len(self._outputs) > 1:
            memory.share(self._outputs, y)
        blocks = tuner.fastest(
            ("linear", len(y), *kernel.weights.shape, self._bits),
            linear_blocks(len(y)),
            lambda blocks: kernel(x, y, dynamic=dynamic, blocks=blocks),
        )
        yield lambda: kernel(x, y, dynamic=dynamic, blocks=blocks)
        if self._table is None:
            for name in self._outputs:
                yield from quantise(memory, name)
            return
        yield from self._activation(memory, y)
        memory.give_back(y)

    def _activation(self, memory: Memory, before: torch.Tensor) -> Iterator[Launch]:
        name, table = self._op.y, self._table
        assert table is not None
        after = memory.value(name) if memory.kept(name) else None
        if memory.operand(name):
            rows = memory.rows(name)
            yield lambda: quantise_rows(before, rows, table, after)
        elif after is not None:
            yield lambda: activated(before, table, after)


class NormStep:
    """A norm or a sum, and int8 rows of the norm."""

    def __init__(self, graph: Graph, ops: Sequence[Norm | Add], device: torch.device) -> None:
        self.ops: tuple[Operator, ...] = tuple(ops)
        self._op = ops[0]
        self._kernel = NormKernel(self._op, device)

    def launches(self, memory: Memory, tuner: Tuner) -> Iterator[Launch]:
        """One kernel; another one if a product reads the sum."""
        op, kernel = self._op, self._kernel
        y = memory.value(op.y)
        x = None if op.x is None else memory.value(op.x)
        total = None if op.sum is None else memory.value(op.sum)
        out = rows = None
        if isinstance(op, Norm):
            out = memory.value(op.out) if memory.kept(op.out) else None
            rows = memory.rows(op.out) if memory.operand(op.out) else None
        yield lambda: kernel(y, x, out, total, rows)
        if op.sum is not None:
            yield from quantise(memory, op.sum)


class AttentionStep:
    """An attention."""

    def __init__(self, graph: Graph, ops: Sequence[Attention], device: torch.device) -> None:
        self.ops: tuple[Operator, ...] = tuple(ops)
        self._op = ops[0]
        self._kernel = AttentionKernel(self._op, device)

    def launches(self, memory: Memory, tuner: Tuner) -> Iterator[Launch]:
        """The attention, and int8 rows of its context."""
        op, kernel = self._op, self._kernel
        q, k, v, out = (memory.sequences(name) for name in (op.q, op.k, op.v, op.out))
        keys = memory.keys(op.k)
        kind = ("attention", *q.shape, *k.shape[1:], v.shape[2], op.heads, op.filter)
        blocks = tuner.fastest(
            kind,
            ATTENTION_BLOCKS,
            lambda blocks: kernel(q, k, v, out, keys, blocks=blocks, whole=True),
        )
        yield lambda: kernel(q, k, v, out, keys, blocks=blocks, whole=memory.whole)
        yield from quantise(memory, op.out)


class MultiplyStep:
    """A product of elements, and int8 rows of it."""

    def __init__(self, graph: Graph, ops: Sequence[Multiply], device: torch.device) -> None:
        self.ops: tuple[Operator, ...] = tuple(ops)
        self._op = ops[0]

    def launches(self, memory: Memory, tuner: Tuner) -> Iterator[Launch]:
        """The product; another kernel if a linear layer reads it."""
        op = self._op
        y, x, out = (memory.value(name) for name in (op.y, op.x, op.out))
        yield lambda: multiplied(y, x, out, op.shift)
        yield from quantise(memory, op.out)


class RotaryStep:
    """A rotary embedding."""

    def __init__(self, graph: Graph, ops: Sequence[Rotary], device: torch.device) -> None:
        self.ops: tuple[Operator, ...] = tuple(ops)
        self._op = ops[0]

    def launches(self, memory: Memory, tuner: Tuner) -> Iterator[Launch]:
        """One kernel."""
        op = self._op
        x, cos, sin, out = (memory.value(name) for name in (*op.inputs, op.out))
        yield lambda: rotated(x, cos, sin, out, op.shift)


#: The step of every operator.
STEPS: dict[type, Callable[..., Step]] = {
    Linear: LinearStep,
    Norm: NormStep,
    Add: NormStep,
    Attention: AttentionStep,
    Multiply: MultiplyStep,
    Rotary: RotaryStep,
}
