"""The real value of one step of every value: what shares a residual or parameters shares its grid.

Smoothing (SmoothQuant, Xiao et al. 2023) moves the spread of activation channels into the weights:
factors are powers of two where the value is also an operand of a sum, free elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from transept.golden.numerics.elementwise import ROTARY_SHIFT
from transept.golden.numerics.four_bit import GROUP
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
from transept.host.front.quantise.elementwise import ROTATED_SHIFT, both_given, one_free
from transept.host.front.quantise.grids import INT8, INT16, MARGIN16, power_of_two
from transept.host.front.quantise.norm import MOST_SHIFT, sum_exponent
from transept.host.front.quantise.tables import FittedTable, fit_table
from transept.host.front.ranges import SMALLEST, Ranges
from transept.host.front.spaces import Groups

__all__ = ["Scales", "total_of"]

SMOOTHING = 0.5
#: A value that does not reach so many steps in any channel is lost.
LEAST_STEPS = 64
#: An operand that makes no more of a result than this share does not matter.
LEAST_PART = 1e-3


def total_of(op: Match) -> str | None:
    """The value that a norm or sum adds up: the sum itself, or the norm's one operand."""
    if isinstance(op, AddMatch):
        return op.outputs[0]
    if isinstance(op, NormMatch):
        return op.sum or op.inputs[0]
    return None


class Scales:
    """Scales of all values of some operators.

    scale: float64[width] by value; bits: 8 or 16; exponents: of one step, for operands of sums and
    sums that are kept; totals: exponents of the 24-bit sums, by operator; shifts: of products, by
    the base name of the operator; unfit: why a product has none; tables: by linear layer.
    """

    def __init__(self, ops: Sequence[Match], ranges: Ranges, grouped: Collection[str] = ()) -> None:
        self._ops, self._ranges, self._grouped = ops, ranges, frozenset(grouped)
        self.bits: dict[str, int] = {}
        self.scale: dict[str, np.ndarray] = {}
        self.exponents: dict[str, np.ndarray] = {}
        self.totals: dict[str, int] = {}
        self.shifts: dict[str, int] = {}
        self.unfit: dict[str, str] = {}
        self.tables: dict[str, FittedTable] = {}
        self._members = self._groups()
        self._largest = {key: self._reach(values) for key, values in self._members.items()}
        group_of = {value: key for key, values in self._members.items() for value in values}
        self._group_of = group_of
        sums = self._sums()
        for key, values in self._members.items():
            self._free(key, values)
        self._balance(sums)
        for key in sums:
            for value in self._members[key]:
                self.exponents[value] = self._exponents[key]
                self.scale[value] = 2.0 ** self._exponents[key]
        self._multiply()
        self._fit()

    # --- who shares
    def _groups(self) -> dict[str, list[str]]:
        """Values by group: those that meet the same parameters in the same place."""
        groups: Groups[str] = Groups()
        places: dict[tuple, str] = {}
        for op in self._ops:
            for kind, values in (("in", op.inputs), ("out", op.outputs)):
                for index, value in enumerate(values):
                    place = (base_name(op.name), kind, index)
                    groups.join([places.setdefault(place, value), value])
                    eight = isinstance(op, AttentionMatch) and kind == "in"
                    eight |= isinstance(op, RotaryMatch) and kind == "out"
                    self.bits[value] = 8 if eight else self.bits.get(value, 16)
        members: dict[str, list[str]] = {}
        for value in self.bits:
            members.setdefault(groups.find(value), []).append(value)
        return members

    def _readers(self, values: Iterable[str], kind: type) -> list[Match]:
        wanted = set(values)
        return [op for op in self._ops if isinstance(op, kind) and wanted & set(op.inputs)]

    def _makers(self, values: Iterable[str], kind: type) -> list[Match]:
        wanted = set(values)
        return [op for op in self._ops if isinstance(op, kind) and wanted & set(op.outputs)]

    def _sums(self) -> dict[str, list[str]]:
        """Groups whose scales are powers of two, with the operators that add them up."""
        found: dict[str, list[str]] = {}
        for op in self._ops:
            if not isinstance(op, NormMatch | AddMatch):
                continue
            operands = [*op.inputs]
            if isinstance(op, AddMatch):
                operands += op.outputs
            elif len(op.outputs) > 1:
                operands.append(op.outputs[1])
            for value in operands:
                found.setdefault(self._group_of[value], []).append(base_name(op.name))
        return found

    # --- how far values reach
    def _reach(self, values: Sequence[str]) -> np.ndarray:
        """Largest magnitude of each channel; a bias must fit the grid even where the product
        cancels it, a normalised value has at least its gain, and a context of few keys reaches as
        far as the values that it is made of. Contexts of the query heads that share keys and values
        reach equally far, so that they can share their factors."""
        largest = [self._ranges[value] for value in values]
        for op in self._makers(values, LinearMatch):
            if op.activation is None:  # type: ignore[attr-defined]
                largest.append(op.bias.abs().double().numpy())  # type: ignore[attr-defined]
        for op in self._makers(values, AttentionMatch):
            share = op.heads // op.kv_heads  # type: ignore[attr-defined]
            v = self._ranges[op.inputs[2]].reshape(op.kv_heads, -1)  # type: ignore[attr-defined]
            largest.append(np.repeat(v, share, axis=0).flatten() / MARGIN16)
        for op in self._makers(values, NormMatch):
            if op.outputs[0] in values:
                for part in (op.weight, op.bias):  # type: ignore[attr-defined]
                    largest.append(part.abs().double().numpy())
        return self._over_heads(values, np.max(np.stack(largest), axis=0))

    def _over_heads(self, values: Sequence[str], channels: np.ndarray) -> np.ndarray:
        """The largest number of each channel over the query heads of a key-value head, if the
        values are contexts of attention; else the numbers as they are."""
        for op in self._makers(values, AttentionMatch):
            channels = _largest_of_group(op, channels)
        return channels

    # --- grids of one group
    def _free(self, key: str, values: Sequence[str]) -> None:
        """The scale of a group that no sum reads; exponents of one that sums read, before they
        are brought within the reach of shifts."""
        largest = self._largest[key]
        attention = next(iter(self._readers(values, AttentionMatch)), None)
        factors = [op.inputs[1:] for op in self._readers(values, RotaryMatch)]
        if any(value in names for names in factors for value in values):
            scale = np.full(len(largest), 2.0**-ROTARY_SHIFT)
        elif attention is not None and self.bits[values[0]] == 8:
            scale = _eight_bits(attention, values, largest)
        elif any(op.activation for op in self._makers(values, LinearMatch)):  # type: ignore[attr-defined]
            exponent = self._bounded(values, largest)
            scale = np.full(len(largest), 2.0**exponent)
        else:
            weights = [op.weight for op in self._readers(values, LinearMatch)]  # type: ignore[attr-defined]
            factor = self._smoothed(values, weights) if weights else np.ones_like(largest)
            scale = (
                factor * (largest * MARGIN16 / (INT16 * factor)).max()
                if weights
                else (largest * MARGIN16 / INT16)
            )
        for value in values:
            self.scale[value] = scale

    def _smoothed(self, values: Sequence[str], weights: list[torch.Tensor]) -> np.ndarray:
        """``max|x|**a / max|w|**(1 - a)`` for each input channel (SmoothQuant, eq. 4)."""
        largest = self._together(values, self._largest[self._group_of[values[0]]])
        columns = torch.cat([weight.abs() for weight in weights]).amax(0).double().numpy()
        columns = self._together(values, np.maximum(self._over_heads(values, columns), 1e-6))
        return largest**SMOOTHING / columns ** (1 - SMOOTHING)

    def _together(self, values: Sequence[str], channels: np.ndarray) -> np.ndarray:
        """The largest number of each group of channels that share a scale, in all of them."""
        if not self._grouped & set(values):
            return channels
        return np.repeat(channels.reshape(-1, GROUP).max(1), GROUP)

    def _bounded(self, values: Sequence[str], largest: np.ndarray) -> int:
        """Exponent of a group of activations: room for twice what calibration saw, but no more
        than the functions can return."""
        reach = float(largest.max()) * MARGIN16
        ends = []
        for op in self._makers(values, LinearMatch):
            activation = op.activation  # type: ignore[attr-defined]
            if activation is None:
                return power_of_two(reach, INT16)
            span = self._before(op) * MARGIN16
            grid = torch.linspace(-1, 1, 513, dtype=torch.float64) * span
            ends.append(float(activation.function(grid).abs().nan_to_num(posinf=reach).max()))
        return power_of_two(max(min(reach, max(ends)), 1e-6), INT16)

    def _before(self, op: Match) -> float:
        """How far the argument of an activation reaches."""
        bias = float(op.bias.abs().max())  # type: ignore[attr-defined]
        return max(float(self._ranges[f"{op.name}.before"].max()), bias, 1e-4)

    # --- sums
    def _balance(self, sums: dict[str, list[str]]) -> None:
        """Exponents of sums and their operands: shifts are 0 to 15, and nothing overflows."""
        totals: dict[str, int] = {}
        for op in self._ops:
            total = total_of(op)
            if total is not None:
                reach = sum_exponent(op, float(self._ranges[total].max()))
                name = base_name(op.name)
                totals[name] = max(totals.get(name, reach), reach)
        wanted, need = {}, {}
        for key in sums:
            need[key] = np.ceil(np.log2(self._largest[key] * MARGIN16 / INT16)).astype(np.int64)
            wanted[key] = self._wanted(key, need[key])
        for key, names in sums.items():
            for name in names:
                totals[name] = max(totals[name], int(need[key].max()) - MOST_SHIFT)
        while True:  # raising one total may ask for another; it ends, for the largest stays
            raised = False
            for names in sums.values():
                least = max(totals[name] for name in names) - MOST_SHIFT
                for name in names:
                    if totals[name] < least:
                        totals[name], raised = least, True
            if not raised:
                break
        self._exponents = {
            key: np.clip(
                wanted[key],
                max(totals[name] for name in names),
                min(totals[name] for name in names) + MOST_SHIFT,
            )
            for key, names in sums.items()
        }
        for op in self._ops:
            if base_name(op.name) in totals:
                self.totals[op.name] = totals[base_name(op.name)]

    def lost(self, op: Match) -> str | None:
        """The value of a norm or sum of which hardly a step is left, because later sums or an
        epsilon are much larger; None if there is none. An operand that only sums read may be as
        small as it likes."""
        total = total_of(op)
        if total is None:
            return None
        grids: dict[str, Any] = {total: self.totals[op.name]}
        read = [value for value in op.inputs if self._readers([value], LinearMatch)]
        for value in (*read, *op.outputs):
            if value in self.exponents:
                grids[value] = self.exponents[value]
        for value, exponent in grids.items():
            largest = (
                self._largest[self._group_of[value]]
                if value in self._group_of
                else self._ranges[value]
            )
            if largest.max() > SMALLEST and (largest * 2.0**-exponent).max() < LEAST_STEPS:
                return value
        return None

    def too_small(self, op: LinearMatch) -> str | None:
        """The result of a linear layer, or the operand if it matters beside the bias, that is so
        small throughout that hardly a step of the finest grid is left of it; None if there is none.
        """
        (x,), (y,) = op.inputs, op.outputs
        largest = {value: self._ranges.largest(value) for value in (x, y)}
        made = op.weight.abs().double().numpy() @ largest[x]
        for value in (y, x) if made.max() > LEAST_PART * largest[y].max() else (y,):
            finest = SMALLEST * (MARGIN16 / INT16 if self.bits[value] == 16 else 1 / INT8)
            if 0 < largest[value].max() < LEAST_STEPS * finest:
                return value
        return None

    def _wanted(self, key: str, need: np.ndarray) -> np.ndarray:
        values = self._members[key]
        if any(op.activation for op in self._makers(values, LinearMatch)):  # type: ignore[attr-defined]
            exponent = self._bounded(values, self._largest[key])
            return np.full(len(need), exponent)
        weights = [op.weight for op in self._readers(values, LinearMatch)]  # type: ignore[attr-defined]
        if not weights:
            return need
        factor = np.rint(np.log2(self._smoothed(values, weights)))
        return (factor + (need - factor).max()).astype(np.int64)

    # --- products
    def _multiply(self) -> None:
        """The scale of a product is that of its operands, times a power of two: where nothing else
        reads an operand, its scale is chosen so that the product has the one that its readers want.
        What is rotated is finer than what comes of it."""
        settled: set[str] = set()
        for op in self._ops:
            name = base_name(op.name)
            if isinstance(op, RotaryMatch):
                self._set(op.inputs[0], self.scale[op.outputs[0]] * 2.0**-ROTATED_SHIFT)
            elif isinstance(op, MultiplyMatch) and not {name} & {*self.shifts, *self.unfit}:
                try:
                    self.shifts[name] = self._product(op, settled)
                except UnfitError as error:
                    self.unfit[name] = str(error)

    def _product(self, op: MultiplyMatch, settled: set[str]) -> int:
        """The shift of a product, after its scales are set; settled: groups whose scales are those
        of a product already, which it adds to."""
        (out,), group = op.outputs, self._group_of
        makers = self._makers(self._members[group[out]], Match)
        if group[out] in self._exponents or not all(isinstance(m, MultiplyMatch) for m in makers):
            raise UnfitError(op.name, "its result has the scale of a sum or of an activation")
        free = next(
            (x for x in op.inputs[::-1] if group[x] not in settled and self._is_free(x)), None
        )
        largest, weight = self._largest, self._read_by(out)
        if free is None or group[free] in {group[x] for x in op.inputs if x != free}:
            y, x = (self.scale[value] for value in op.inputs)
            found = both_given(y, x, largest=largest[group[out]], weight=weight).checked(op.name)
            same = np.allclose(found.out, self.scale[out], rtol=1e-9, atol=0)
            if group[out] in settled and not same:
                raise UnfitError(op.name, "its result has the scale of another product")
        else:
            fixed = next(value for value in op.inputs if value != free)
            reaches = largest[group[fixed]], largest[group[free]], largest[group[out]]
            found = one_free(
                self.scale[fixed],
                self.scale[out],
                largest=reaches,
                weight=weight,
                widens=group[out] not in settled,
                together=lambda channels: self._together([out], channels),
            ).checked(op.name)
            assert found.free is not None
            self._set(free, found.free)
        self._set(out, found.out)
        settled |= {group[value] for value in (*op.inputs, out)}
        return found.shift

    def _read_by(self, value: str) -> np.ndarray:
        """How much linear layers make of each channel of a value; one, if none reads it."""
        readers = self._readers(self._members[self._group_of[value]], LinearMatch)
        weights = [op.weight for op in readers]  # type: ignore[attr-defined]
        if not weights:
            return np.ones(len(self.scale[value]))
        return torch.cat(weights).double().norm(dim=0).numpy()

    def _is_free(self, value: str) -> bool:
        """Whether products alone read a value that has no scale for another reason."""
        values = self._members[self._group_of[value]]
        makers = self._makers(values, Match)
        plain = all(isinstance(op, LinearMatch) and op.activation is None for op in makers)
        readers = self._readers(values, Match)
        return plain and all(isinstance(op, MultiplyMatch) for op in readers)

    def _set(self, value: str, scale: np.ndarray) -> None:
        """Give all values of a group a scale."""
        for member in self._members[self._group_of[value]]:
            self.scale[member] = scale

    # --- activations
    def _fit(self) -> None:
        fitted: dict[tuple, FittedTable] = {}
        for op in self._ops:
            if isinstance(op, LinearMatch) and op.activation is not None:
                scale = self.scale[op.outputs[0]]
                exponents = np.log2(scale).astype(np.int64)
                if (exponents != exponents[0]).any():  # of a sum that needs finer channels
                    raise ValueError(f"results of {op.name} have different scales")
                key = (base_name(op.name), int(exponents[0]))
                if key not in fitted:
                    fitted[key] = fit_table(
                        op.activation.function, self._before(op), int(exponents[0])
                    )
                self.tables[op.name] = fitted[key]


def _eight_bits(op: Match, values: Sequence[str], largest: np.ndarray) -> np.ndarray:
    """Queries and keys have one scale for each key-value head, values one for each channel."""
    assert isinstance(op, AttentionMatch)
    heads = op.kv_heads if {*op.inputs[:2]} & {*values} else len(largest)
    by_head = largest.reshape(heads, -1).max(1) / INT8
    return np.repeat(by_head, len(largest) // heads)


def _largest_of_group(op: Match, channels: np.ndarray) -> np.ndarray:
    """Of the query heads that read the same key-value head, channel by channel."""
    assert isinstance(op, AttentionMatch)
    by_head = channels.reshape(op.kv_heads, op.heads // op.kv_heads, -1)
    return np.broadcast_to(by_head.max(1, keepdims=True), by_head.shape).reshape(channels.shape)
