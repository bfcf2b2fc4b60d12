"""Operators on the elements of two values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transept.golden.graph import Lengths, Value
from transept.golden.isa import Opcode, Operation
from transept.golden.layouts import NORM_RECORD
from transept.golden.numerics.elementwise import combine
from transept.golden.numerics.fixed import Array
from transept.golden.numerics.norm import NormParameters, residual_sum, rounded_sum
from transept.golden.ops.norm import check_rows, check_shape
from transept.golden.ops.parameters import check_numbers, check_record, parameters_like

__all__ = ["Add", "Multiply"]


@dataclass(frozen=True, eq=False)
class Add:
    """``sum = y + x`` on int16 rows with a power-of-two scale for each channel of each.

    Of the parameters the shifts alone count.
    """

    name: str
    y: str
    x: str
    sum: str
    parameters: NormParameters

    @property
    def inputs(self) -> tuple[str, ...]:
        """y and x."""
        return (self.y, self.x)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The sum."""
        return (self.sum,)

    def check(self, values: Mapping[str, Value]) -> None:
        """GraphError if the values differ in width or dimension, are not int16, or a shift is
        outside its limits."""
        check_rows(self.name, [values[name] for name in (self.y, self.x, self.sum)])
        check_record(self.name, self.parameters, NORM_RECORD, (values[self.y].width,))

    def evaluate(
        self, values: Mapping[str, Value], arrays: Mapping[str, Array], lengths: Lengths
    ) -> dict[str, Array]:
        """The sum."""
        y = arrays[self.y]
        parameters = parameters_like(y, self.parameters)
        return {self.sum: rounded_sum(residual_sum(y, arrays[self.x], parameters), parameters)}

    def macs(self, *rows: Sequence[int]) -> int:
        """None on the array."""
        return 0


@dataclass(frozen=True, eq=False)
class Multiply:
    """``out = sat(round(y * x / 2**shift))``: the product of a gated layer (Shazeer 2020).

    y, x: int16 values of one width; out: int16 or int8; shift: 0..15.
    """

    name: str
    y: str
    x: str
    out: str
    shift: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """y and x."""
        return (self.y, self.x)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The product."""
        return (self.out,)

    def check(self, values: Mapping[str, Value]) -> None:
        """GraphError if the values differ in width or dimension, the operands are not int16, or the
        shift is outside its limits."""
        check_rows(self.name, [values[name] for name in self.inputs])
        check_shape(self.name, values[self.y], values[self.out])
        check_numbers(self.name, Opcode.ELEMENTWISE, shift=self.shift)

    def evaluate(
        self, values: Mapping[str, Value], arrays: Mapping[str, Array], lengths: Lengths
    ) -> dict[str, Array]:
        """The product."""
        y, x = (arrays[name] for name in self.inputs)
        bits = values[self.out].bits
        return {self.out: combine(y, x, Operation.PRODUCT, shift=self.shift, bits=bits)}

    def macs(self, *rows: Sequence[int]) -> int:
        """None on the array."""
        return 0
