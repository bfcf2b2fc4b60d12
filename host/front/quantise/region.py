"""A region of real operators as a graph of integer ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from transept.golden.config import Config
from transept.golden.filters import Dense, KeyFilter
from transept.golden.graph import Dim, Graph, GraphError, Operator, Value
from transept.golden.numerics.elementwise import ROTARY_SHIFT
from transept.golden.ops import Attention, Linear, Multiply, Norm, Rotary
from transept.host.front.errors import UnfitError
from transept.host.front.matches import (
    AddMatch,
    AttentionMatch,
    LinearMatch,
    Match,
    MultiplyMatch,
    NormMatch,
    RotaryMatch,
)
from transept.host.front.names import base_name
from transept.host.front.quantise.attention import quantise_attention
from transept.host.front.quantise.elementwise import (
    ROTATED_SHIFT,
    quantise_product,
    quantise_rotary,
)
from transept.host.front.quantise.four_bit import Levels, levels
from transept.host.front.quantise.grids import INT16
from transept.host.front.quantise.linear import quantise_linear
from transept.host.front.quantise.norm import quantise_add, quantise_norm
from transept.host.front.quantise.rounding import Feedback, feedback
from transept.host.front.quantise.scales import Scales
from transept.host.front.ranges import Ranges
from transept.host.front.regions import FloatRegion

__all__ = ["Quantiser"]

#: Rows of a value that no attention reads.
MOST_ROWS = 1 << 24


class Quantiser:
    """Makes graphs of regions; operators that share parameters share the integers too.

    key_filter: in place of dense attention; weights: ``w8``, or ``w4`` for weights of four bits as
    the model has them, with rows of 15 bits.
    """

    def __init__(
        self,
        regions: list[FloatRegion],
        ranges: Ranges,
        config: Config,
        key_filter: KeyFilter | None = None,
        weights: str = "w8",
    ) -> None:
        self._ranges, self._config, self._filter = ranges, config, key_filter
        self._halves = weights == "w4"
        ops = [op for region in regions for op in region.ops]
        self._levels = _levels(ops) if self._halves else {}
        if self._halves and not self._levels:
            raise ValueError(
                "no weights of the model lie on 16 levels in each group of 32 inputs: w4 is for "
                "models that have four bits"
            )
        grouped = {op.inputs[0] for op in ops if base_name(op.name) in self._levels}
        self.scales = Scales(ops, ranges, grouped)
        self._done: dict[tuple, Any] = {}
        self._latest: tuple[torch.Tensor, str, Feedback] | None = None

    def graph(self, region: FloatRegion) -> Graph:
        """The quantised graph of one region.

        Raises
        ------
        ValueError
            If weights or ranges hold NaN or infinity, or (UnfitError) a sum does not fit its
            accumulator; the message names the operator.
        """
        ops = tuple(self._operator(op) for op in region.ops)
        names = dict.fromkeys([*region.inputs, *(out for op in ops for out in op.outputs)])
        values = {name: self._value(name, region) for name in names}
        keys = {region.spaces.dims[op.inputs[1]] for op in region.attentions}
        for op in ops:
            try:
                op.check(values)
            except GraphError as error:
                raise UnfitError(op.name, str(error)) from None
        most = self._config.geometry.max_tokens
        dims = dict.fromkeys(value.dim for value in values.values())
        return Graph(
            tuple(Dim(dim, most if dim in keys else MOST_ROWS) for dim in dims),
            values,
            tuple(region.inputs),
            tuple(region.outputs),
            ops,
        )

    def unfit(self, regions: list[FloatRegion]) -> dict[str, str]:
        """Products that have no scales, by name, each with the reason."""
        ops = [op for region in regions for op in region.ops]
        found = {op.name: self.scales.unfit.get(base_name(op.name)) for op in ops}
        return {name: reason for name, reason in found.items() if reason is not None}

    def _value(self, name: str, region: FloatRegion) -> Value:
        scale = np.asarray(self.scales.scale[name], np.float64)
        return Value(name, region.spaces.dims[name], len(scale), self.scales.bits[name], scale)

    def _operator(self, op: object) -> Operator:
        if isinstance(op, LinearMatch):
            lost = self.scales.too_small(op)
            if lost is not None:
                raise UnfitError(op.name, f"{lost} is so small that hardly a step is left of it")
            values = {"x": op.inputs[0], "y": op.outputs[0]}
            return self._shared(op, self._linear, **values, halves=self._halves)
        if isinstance(op, AttentionMatch):
            q, k, v = op.inputs
            rule = self._filter if self._filter and op.filter == Dense() else op.filter
            return self._shared(op, self._attention, q=q, k=k, v=v, out=op.outputs[0], filter=rule)
        if isinstance(op, MultiplyMatch):
            operands = dict(zip(("y", "x"), op.inputs, strict=True))
            return self._shared(op, self._product, **operands, out=op.outputs[0])
        if isinstance(op, RotaryMatch):
            operands = dict(zip(("x", "cos", "sin"), op.inputs, strict=True))
            return self._shared(op, self._rotary, **operands, out=op.outputs[0])
        assert isinstance(op, NormMatch | AddMatch)
        lost = self.scales.lost(op)
        if lost is not None:
            raise UnfitError(op.name, f"hardly a step is left of {lost} on the grid of its sum")
        if isinstance(op, NormMatch):
            x = op.inputs[1] if len(op.inputs) > 1 else None
            total = op.outputs[1] if len(op.outputs) > 1 else None
            return self._shared(op, self._norm, y=op.inputs[0], x=x, out=op.outputs[0], sum=total)
        return self._shared(op, self._add, y=op.inputs[0], x=op.inputs[1], sum=op.outputs[0])

    def _shared(self, op: Match, make: Callable[[Any], Any], **values: Any) -> Any:
        """The operator made before of the same parameters, on other values."""
        key = (type(op), base_name(op.name), len(op.inputs), len(op.outputs))
        if key not in self._done:
            self._done[key] = make(op)
        return dataclasses.replace(self._done[key], name=op.name, **values)

    def _linear(self, op: LinearMatch) -> Linear:
        scale, fitted = self.scales.scale, self.scales.tables.get(op.name)
        width = len(op.bias)
        out = scale[op.outputs[0]] if fitted is None else np.full(width, 2.0**fitted.in_exponent)
        table = None if fitted is None else fitted.table
        in_scale, levels = scale[op.inputs[0]], self._levels.get(base_name(op.name))
        if levels is not None and not levels.keep(in_scale):
            levels = None
        known = None if levels is not None else self._feedback(op)
        return quantise_linear(op, known, in_scale, out, table, levels=levels)

    def _feedback(self, op: LinearMatch) -> Feedback | None:
        """Of the operand of a linear layer; neighbours with the same operand share it."""
        moments, x = self._ranges.moments(op.name), op.inputs[0]
        if moments is None:
            return None
        if self._latest is None or self._latest[0] is not moments or self._latest[1] != x:
            self._latest = moments, x, feedback(moments, self.scales.scale[x])
        return self._latest[2]

    def _attention(self, op: AttentionMatch) -> Attention:
        scales = [self.scales.scale[name] for name in (*op.inputs, *op.outputs)]
        geometry = self._config.geometry
        return quantise_attention(op, *scales, block=geometry.tile, most_keys=geometry.max_tokens)

    def _product(self, op: MultiplyMatch) -> Multiply:
        shift = self.scales.shifts[base_name(op.name)]
        y, x, out = (self.scales.scale[name] for name in (*op.inputs, *op.outputs))
        if not np.allclose(out, y * x * 2.0**shift, rtol=1e-9, atol=0):
            raise UnfitError(op.name, "its operands have scales for other reasons")
        return quantise_product(op, shift)

    def _rotary(self, op: RotaryMatch) -> Rotary:
        x, out = (self.scales.scale[name] for name in (op.inputs[0], *op.outputs))
        if not np.allclose(out, x * 2.0**ROTATED_SHIFT, rtol=1e-9, atol=0):
            raise UnfitError(op.name, "what it rotates has a scale for another reason")
        largest = max(float(self._ranges[name].max()) for name in op.inputs[1:])
        if largest * 2**ROTARY_SHIFT > INT16:
            raise UnfitError(op.name, f"its cosines or sines reach {largest:g}, 2 is too much")
        return quantise_rotary(op)

    def _norm(self, op: NormMatch) -> Norm:
        exponents, out = self.scales.exponents, self.scales.scale[op.outputs[0]]
        y = exponents[op.inputs[0]]
        x = exponents[op.inputs[1]] if len(op.inputs) > 1 else None
        kept = exponents[op.outputs[1]] if len(op.outputs) > 1 else None
        return quantise_norm(op, self.scales.totals[op.name], y, x, kept, out)

    def _add(self, op: AddMatch) -> Operator:
        parts = [self.scales.exponents[name] for name in (*op.inputs, *op.outputs)]
        return quantise_add(op, self.scales.totals[op.name], *parts)


def _levels(ops: list[Match]) -> dict[str, Levels]:
    """The levels of all weights that have some, by the base name of their layer."""
    found: dict[str, Levels] = {}
    for op in ops:
        name = base_name(op.name)
        if isinstance(op, LinearMatch) and name not in found:
            known = levels(op.weight)
            if known is not None:
                found[name] = known
    return found
