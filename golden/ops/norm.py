"""LayerNorm and RMSNorm of a value, or of a residual sum that may also be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transept.golden.graph import GraphError, Lengths, Value
from transept.golden.isa import Opcode
from transept.golden.layouts import NORM_RECORD
from transept.golden.numerics.fixed import Array
from transept.golden.numerics.norm import (
    NormParameters,
    normalise,
    residual_sum,
    rounded_sum,
)
from transept.golden.ops.parameters import check_numbers, check_record, parameters_like

__all__ = ["Norm"]


@dataclass(frozen=True, eq=False)
class Norm:
    """``out = norm(y + x)``, and ``sum = y + x`` if it is named (``numerics.norm``).

    y, x, out, sum: int16 values of one width; x None: of y alone; sum None: it is not kept.
    ``centre``: LayerNorm; else RMSNorm, which leaves the mean out.
    """

    name: str
    y: str
    x: str | None
    out: str
    parameters: NormParameters
    epsilon: int
    out_shift: int
    centre: bool = True
    sum: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """y, and x if there is one."""
        return (self.y,) if self.x is None else (self.y, self.x)

    @property
    def outputs(self) -> tuple[str, ...]:
        """out, and the sum if it is kept."""
        return (self.out,) if self.sum is None else (self.out, self.sum)

    def check(self, values: Mapping[str, Value]) -> None:
        """GraphError if the values differ in width or dimension, are not int16, or a parameter is
        outside its limits."""
        check_rows(self.name, [values[name] for name in (*self.inputs, *self.outputs)])
        width = values[self.y].width
        if width < 2:
            raise GraphError(f"{self.name} needs rows of at least 2 elements, got {width}")
        check_record(self.name, self.parameters, NORM_RECORD, (width,))
        check_numbers(self.name, Opcode.NORM, epsilon=self.epsilon, out_shift=self.out_shift)

    def evaluate(
        self, values: Mapping[str, Value], arrays: Mapping[str, Array], lengths: Lengths
    ) -> dict[str, Array]:
        """out and, if it is kept, sum."""
        y, x = arrays[self.y], None if self.x is None else arrays[self.x]
        parameters = parameters_like(y, self.parameters)
        z = residual_sum(y, x, parameters)
        results = {
            self.out: normalise(
                z,
                parameters,
                epsilon=self.epsilon,
                out_shift=self.out_shift,
                centre=self.centre,
            )
        }
        if self.sum is not None:
            results[self.sum] = rounded_sum(z, parameters)
        return results

    def macs(self, *rows: Sequence[int]) -> int:
        """None on the array."""
        return 0


def check_rows(name: str, values: Sequence[Value]) -> None:
    """GraphError if the values are not int16 rows of one width and dimension."""
    for value in values:
        if value.bits != 16:
            raise GraphError(f"{name} takes int16 rows, {value.name} has {value.bits} bits")
        check_shape(name, values[0], value)


def check_shape(name: str, first: Value, other: Value) -> None:
    """GraphError if two values differ in width or dimension."""
    if (first.width, first.dim) != (other.width, other.dim):
        raise GraphError(
            f"{name} has {first.name} of {first.dim} x {first.width} and "
            f"{other.name} of {other.dim} x {other.width}"
        )
