"""Linear layers, with an activation table on the way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transept.golden.graph import GraphError, Lengths, Value
from transept.golden.isa import Opcode
from transept.golden.layouts import CHANNEL_RECORD
from transept.golden.numerics.fixed import Array, product, saturate
from transept.golden.numerics.four_bit import FourBitWeights
from transept.golden.numerics.namespaces import array_namespace
from transept.golden.numerics.requantise import (
    ONE,
    ROW_MAX_FLOOR,
    ActivationTable,
    ChannelParameters,
    activation,
    join_halves,
    quantise_halves,
    quantise_row,
    requantise,
)
from transept.golden.ops.parameters import (
    check_numbers,
    check_record,
    check_table,
    like,
    parameters_like,
)

__all__ = ["ACCUMULATOR_BITS", "Linear"]

#: Width of an accumulator; ``check`` proves that no input can leave it.
ACCUMULATOR_BITS = 27


@dataclass(frozen=True, eq=False)
class Linear:
    """``y = table(requantise(int8(x) . weight^T))``.

    x of 16 bits is quantised to int8 by the maximum of its row at run time, which comes back as the
    row multiplier, or, with ``halves``, to 15 bits as two int8 halves; x of 8 bits is taken as it
    is. y has 16 or 8 bits. weight: int8[n, k]; channel: of n; row_shift, out_shift: of
    ``numerics.requantise``; packed: what the weights are unpacked from, if they have four bits.
    """

    name: str
    x: str
    y: str
    weight: np.ndarray
    channel: ChannelParameters
    row_shift: int
    out_shift: int
    table: ActivationTable | None = None
    halves: bool = False
    packed: FourBitWeights | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """x."""
        return (self.x,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """y."""
        return (self.y,)

    def check(self, values: Mapping[str, Value]) -> None:
        """GraphError if weights or parameters do not fit, or a sum could leave its accumulator."""
        x, y = values[self.x], values[self.y]
        if self.weight.dtype != np.int8 or self.weight.shape != (y.width, x.width):
            raise GraphError(
                f"weights of {self.name} are {self.weight.dtype}{list(self.weight.shape)}, "
                f"must be int8[{y.width}, {x.width}]"
            )
        check_record(self.name, self.channel, CHANNEL_RECORD, (y.width,))
        check_numbers(self.name, Opcode.MATMUL, row_shift=self.row_shift, out_shift=self.out_shift)
        if self.table is not None:
            check_table(self.name, self.table)
        if x.dim != y.dim:
            raise GraphError(f"{self.name} reads rows of {x.dim} and writes rows of {y.dim}")
        magnitude = np.abs(self.weight.astype(np.int64))
        if magnitude.max() > 127:
            raise GraphError(f"weights of {self.name} hold -128, operands are -127 to 127")
        largest = 127 * int(magnitude.sum(1).max())
        if self.halves:
            largest += int(magnitude.sum(1).max()) // 2 + 1  # of the lower half
            if x.bits != 16:
                raise GraphError(f"{self.name} has halves of rows of {x.bits} bits, must be 16")
        if self.packed is not None:
            self._check_packed(self.packed)
        if largest >> (ACCUMULATOR_BITS - 1):
            raise GraphError(
                f"a sum of {self.name} may reach {largest}, accumulators have "
                f"{ACCUMULATOR_BITS} bits"
            )

    def _check_packed(self, packed: FourBitWeights) -> None:
        """GraphError unless the weights are what their four bits say."""
        try:
            packed.check(self.weight.shape)
        except ValueError as error:
            raise GraphError(f"four-bit weights of {self.name}: {error}") from None
        if not np.array_equal(packed.unpack(), self.weight):
            raise GraphError(f"weights of {self.name} are not those of its four bits")

    def evaluate(
        self, values: Mapping[str, Value], arrays: Mapping[str, Array], lengths: Lengths
    ) -> dict[str, Array]:
        """y, int64[batch, length, n]."""
        x = arrays[self.x]
        weight = like(x, self.weight.T)
        xp = array_namespace(x)
        if values[self.x].bits == 16:
            row_max = xp.max(abs(x), axis=-1)
            multiplier = row_max.clip(ROW_MAX_FLOOR, 32767)
            if self.halves:
                sums = join_halves(*(product(h, weight) for h in quantise_halves(x, row_max)))
            else:
                sums = product(quantise_row(x, row_max), weight)
        else:
            multiplier = x[..., 0] * 0 + ONE
            sums = product(x, weight)
        bits = values[self.y].bits
        y = requantise(
            sums,
            parameters_like(x, self.channel),
            multiplier,
            multiplier * 0,
            pre=0,
            row_shift=self.row_shift,
            out_shift=self.out_shift,
            bits=16 if self.table else bits,
        )
        if self.table:
            y = activation(y, parameters_like(x, self.table))
            y = saturate(y, bits)
        return {self.y: y}

    def macs(self, *rows: Sequence[int]) -> int:
        """One for each weight and row."""
        return sum(rows[0]) * self.weight.size
