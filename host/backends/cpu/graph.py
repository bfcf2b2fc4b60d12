"""A quantised graph on the CPU: prepared once, run on any shapes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from transept.golden.graph import Graph, GraphError, Lengths, Operator, Value
from transept.golden.ops import (
    Add,
    Append,
    Attention,
    CachedAttention,
    Linear,
    Multiply,
    Norm,
    Rotary,
)
from transept.host.backends.cpu.arrays import Arrays
from transept.host.backends.cpu.attention import AttentionKernel
from transept.host.backends.cpu.cache import AppendKernel
from transept.host.backends.cpu.elementwise import MultiplyKernel, RotaryKernel
from transept.host.backends.cpu.kernel import GoldenKernel, Kernel
from transept.host.backends.cpu.linear import LinearKernel
from transept.host.backends.cpu.norm import AddKernel, NormKernel
from transept.host.compiler.cut import Shape

__all__ = ["KERNELS", "CpuGraph", "kernel_of"]

#: Kernels by the type of operator.
KERNELS: dict[type[Operator], type[Kernel]] = {
    Linear: LinearKernel,
    Attention: AttentionKernel,
    Append: AppendKernel,
    CachedAttention: AttentionKernel,
    Norm: NormKernel,
    Add: AddKernel,
    Multiply: MultiplyKernel,
    Rotary: RotaryKernel,
}


def kernel_of(op: Operator, values: Mapping[str, Value]) -> Kernel:
    """The kernel of an operator's type; the golden model if there is none, or it does not fit."""
    known = KERNELS.get(type(op))
    if known is None or not known.fits(op, values):
        return GoldenKernel(op, values)
    return known(op, values)


class CpuGraph:
    """A graph whose results have the bits of ``Graph.evaluate``, whatever the inputs.

    Weights are copied once, and no state changes between runs; torch's threads are those that the
    caller has set.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._steps = [
            (kernel_of(op, graph.values), last)
            for op, last in zip(graph.ops, _last_reads(graph), strict=True)
        ]

    def prepare(self, shape: Shape, lengths: Lengths | None = None) -> None:
        """Nothing to do: what is prepared serves every shape."""

    def run(
        self, inputs: Mapping[str, np.ndarray], lengths: Lengths | None = None
    ) -> dict[str, np.ndarray]:
        """Every output, int16 or int8 [batch, length, width], of inputs of their types.

        lengths: real rows of each sequence; all of a dimension that is not named. Rows beyond them
        are computed, too.

        Raises
        ------
        GraphError
            If an input is missing, of another type or shape, or holds the lowest code, or there is
            no such length.
        """
        arrays, lengths = Arrays(), lengths or {}
        for name in self._graph.inputs:
            arrays[name] = torch.tensor(_checked(self._graph.values[name], inputs))
        self._check_lengths(arrays, lengths)
        # a precision chosen for others does not hold the sums
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            for kernel, last in self._steps:
                arrays.update(kernel(arrays, lengths))
                arrays.forget(last)
        return {name: arrays[name].numpy() for name in self._graph.outputs}

    def _check_lengths(self, arrays: Arrays, lengths: Lengths) -> None:
        for name, x in arrays.items():
            dim = self._graph.values[name].dim
            real = lengths.get(dim, [x.shape[1]] * len(x))
            if len(real) != len(x):
                raise GraphError(f"{len(real)} lengths of {dim} for {len(x)} sequences of {name}")
            for length in real:
                if not 1 <= length <= x.shape[1]:
                    raise GraphError(f"length {length} of {dim} is outside 1 to {x.shape[1]}")


def _checked(value: Value, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The value's input, contiguous."""
    if value.name not in inputs:
        raise GraphError(f"input {value.name} is missing")
    rows, dtype = inputs[value.name], np.dtype(f"int{value.bits}")
    if rows.dtype != dtype:
        raise GraphError(f"value {value.name} is {rows.dtype}, must be {dtype}")
    if rows.ndim != 3 or rows.shape[2] != value.width or 0 in rows.shape:
        raise GraphError(
            f"value {value.name} has shape {list(rows.shape)}, "
            f"must be [batch, length, {value.width}]"
        )
    if rows.min() < -value.limit:
        raise GraphError(f"value {value.name} holds {rows.min()}, its limit is {value.limit}")
    return np.ascontiguousarray(rows)


def _last_reads(graph: Graph) -> list[list[str]]:
    """For each operator, the values that nothing reads after it."""
    seen, found = set(graph.outputs), []
    for op in reversed(graph.ops):
        names = dict.fromkeys((*op.inputs, *op.outputs))
        found.append([name for name in names if name not in seen])
        seen.update(names)
    return found[::-1]
