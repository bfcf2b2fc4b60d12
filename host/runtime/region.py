"""A region: one part of a model that runs on the accelerator, for any shape."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from transept.golden.config import Config
from transept.golden.graph import Graph, Lengths, Value
from transept.golden.ops import Attention
from transept.host.compiler.compile import compile_graph
from transept.host.compiler.cut import Shape
from transept.host.compiler.executable import Executable
from transept.host.compiler.weights import WeightImage
from transept.host.runtime.errors import ProgramError

__all__ = ["Region", "dtype_of"]


_TYPES: dict[int, np.dtype] = {8: np.dtype(np.int8), 16: np.dtype(np.int16)}


def dtype_of(value: Value) -> np.dtype:
    """The type of a value's elements outside the accelerator: int16 or int8."""
    return _TYPES[value.bits]


#: Share of the values that enter a region that may lie beyond their grid without a note.
NARROW = 1e-3


def notes_beyond(counts: Mapping[str, tuple[int, int]]) -> list[str]:
    """Notes on inputs of which more than a few values were clipped; counts: those beyond the grid,
    and all, by name."""
    return [
        f"{beyond:,} of {total:,} values lie beyond the grid of {name} and were clipped"
        for name, (beyond, total) in counts.items()
        if beyond > NARROW * total
    ]


@dataclass(eq=False)
class Region:
    """A quantised graph on one configuration, and its executables by shape.

    All executables share one weight image; each is compiled when it is first asked for. shapes:
    those that it was made for, in this order, compiled or not.
    """

    name: str
    graph: Graph
    config: Config
    executables: dict[Shape, Executable] = field(default_factory=dict, init=False)
    shapes: dict[Shape, None] = field(default_factory=dict, init=False)
    _checked: dict[tuple, Shape] = field(default_factory=dict, init=False, repr=False)

    @functools.cached_property
    def image(self) -> WeightImage:
        """Where every constant lies in window WEIGHTS."""
        return WeightImage(self.graph, self.config)

    @functools.cached_property
    def weights(self) -> np.ndarray:
        """Contents of window WEIGHTS, uint8[:]."""
        return self.image.image()

    # --- shapes
    def shape(self, batch: int, lengths: Mapping[str, int]) -> Shape:
        """The shape of ``batch`` sequences with so many rows in every dimension.

        Raises
        ------
        ProgramError
            If a dimension is missing or unknown, or a number is outside its limits.
        """
        if batch < 1:
            raise ProgramError(f"{self.name}: batch {batch} must be at least 1")
        self._check_names("dimension", lengths, [dim.name for dim in self.graph.dims])
        for dim in self.graph.dims:
            if not 1 <= lengths[dim.name] <= dim.limit:
                raise ProgramError(
                    f"{self.name}: {lengths[dim.name]} rows of {dim.name} "
                    f"are outside 1 to {dim.limit}"
                )
        return Shape(batch, {dim.name: lengths[dim.name] for dim in self.graph.dims})

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of one run, every row real."""
        return sum(self.graph.macs(shape.rows).values())

    def bucket(self, shape: Shape) -> Shape:
        """The cheapest shape with an executable that gives the same rows, others behind them; the
        shape itself if there is none."""
        known = [other for other in self.executables if self._holds(other, shape)]
        return min(known, key=lambda s: self.executables[s].predicted_cycles, default=shape)

    def _holds(self, larger: Shape, shape: Shape) -> bool:
        if larger.batch != shape.batch:
            return False
        if any(larger.lengths[dim] < length for dim, length in shape.lengths.items()):
            return False
        return all(
            length in (larger.lengths[dim], -(-length // block) * block)
            for dim, length in shape.lengths.items()
            for block in self._looked_at(dim)
        )

    def _looked_at(self, dim: str) -> list[int]:
        """Query rows that a filter looks at together: more would change what it sees."""
        return [
            op.block
            for op in self.graph.ops
            if isinstance(op, Attention) and op.filter.looks and self.graph.values[op.q].dim == dim
        ]

    # --- executables
    def executable(self, shape: Shape) -> Executable:
        """The executable of a shape, compiled now if it is not there yet.

        Raises
        ------
        CompileError
            If no cut of the shape fits the accelerator.
        """
        if shape not in self.executables:
            self.add(compile_graph(self.graph, self.config, shape, self.image))
        return self.executables[shape]

    def add(self, executable: Executable) -> None:
        """Keep an executable, in place of the one of the same shape."""
        self.executables[executable.shape] = executable
        self.shapes[executable.shape] = None

    # --- inputs and outputs
    def quantise(self, name: str, real: np.ndarray) -> np.ndarray:
        """Real numbers [..., width] on the grid of an input; what lies beyond it is clipped.

        Raises
        ------
        ProgramError
            If there is no such input, it has no scale, the width is another one, or a number is NaN
            or infinite.
        """
        if name not in self.graph.inputs:
            raise ProgramError(f"{self.name} has no input {name}")
        value, real = self.graph.values[name], np.asarray(real, np.float64)
        if real.ndim < 1 or real.shape[-1] != value.width:
            raise ProgramError(
                f"{self.name}: input {name} has shape {list(real.shape)}, "
                f"must be [batch, length, {value.width}]"
            )
        if not np.isfinite(real).all():
            place = np.argwhere(~np.isfinite(real))[0]
            raise ProgramError(
                f"{self.name}: input {name} holds {real[tuple(place)]} at {place.tolist()}; "
                "only finite values can be quantised"
            )
        steps = np.rint(real / self._scale(value))
        return np.clip(steps, -value.limit, value.limit).astype(dtype_of(value))

    def beyond(self, name: str, real: np.ndarray, lengths: Sequence[int] | None) -> tuple[int, int]:
        """Of the real numbers [batch, length, width] of an input, those of real rows beyond its
        grid, and all."""
        value = self.graph.values[name]
        found = np.abs(np.rint(np.asarray(real, np.float64) / self._scale(value))) > value.limit
        for sequence, length in enumerate(lengths or ()):
            found[sequence, length:] = False
        return int(found.sum()), found.size

    def real(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Real numbers of an output.

        Raises
        ------
        ProgramError
            If it has no scale.
        """
        return rows * self._scale(self.graph.values[name])

    def _scale(self, value: Value) -> np.ndarray:
        if value.scale is None:
            raise ProgramError(f"{self.name}: {value.name} has no scale, it takes integers alone")
        return value.scale

    def check(self, inputs: Mapping[str, np.ndarray], lengths: Lengths | None) -> Shape:
        """The shape of some inputs.

        Raises
        ------
        ProgramError
            If an input is missing or unknown, is not [batch, length, width] of its type, holds the
            lowest code, or disagrees with another about batch or length; or if real lengths do not
            fit.
        """
        form = tuple([(name, given.shape, given.dtype) for name, given in inputs.items()])
        if form not in self._checked:
            self._checked[form] = self._formed(inputs)
        shape = self._checked[form]
        for name, given in inputs.items():
            _check_codes(self.name, self.graph.values[name], given)
        for dim, real in (lengths or {}).items():
            self._check_lengths(shape, dim, real)
        return shape

    def check_rows(self, shape: Shape, inputs: Mapping[str, np.ndarray]) -> None:
        """Check some inputs of a shape that is known.

        Raises
        ------
        ProgramError
            If one is no input, has another type or size, or holds the lowest code.
        """
        for name, given in inputs.items():
            value = self.graph.values[name]
            _check_form(self.name, value, given)
            wanted = (shape.batch, shape.lengths[value.dim])
            if given.shape[:2] != wanted:
                raise ProgramError(
                    f"{self.name}: input {name} is {given.shape[0]} x {given.shape[1]} rows, "
                    f"must be {wanted[0]} x {wanted[1]}"
                )
            _check_codes(self.name, value, given)

    def _formed(self, inputs: Mapping[str, np.ndarray]) -> Shape:
        """The shape of inputs that have the types and widths of the graph's and agree."""
        self._check_names("input", inputs, self.graph.inputs)
        rows: dict[str, int] = {}
        batch = 0
        for name in self.graph.inputs:
            value, given = self.graph.values[name], inputs[name]
            _check_form(self.name, value, given)
            batch = batch or len(given)
            expected = rows.setdefault(value.dim, given.shape[1])
            if (len(given), given.shape[1]) != (batch, expected):
                raise ProgramError(
                    f"{self.name}: input {name} is {len(given)} x {given.shape[1]} rows, "
                    f"the others are {batch} x {expected}"
                )
        return self.shape(batch, rows)

    def _check_lengths(self, shape: Shape, dim: str, real: object) -> None:
        if dim not in shape.lengths:
            raise ProgramError(f"{self.name} has no dimension {dim}")
        if not isinstance(real, Sequence | np.ndarray):
            raise ProgramError(f"{self.name}: lengths of {dim} are {real!r}, must be a list")
        given = list(real)
        if len(given) != shape.batch:
            raise ProgramError(
                f"{self.name}: {len(given)} lengths of {dim} for {shape.batch} sequences"
            )
        for length in given:
            if not isinstance(length, int | np.integer) or not 1 <= length <= shape.lengths[dim]:
                raise ProgramError(
                    f"{self.name}: sequence length {length} of {dim} "
                    f"is outside 1 to {shape.lengths[dim]}"
                )

    def _check_names(self, what: str, given: Mapping, known: Sequence[str]) -> None:
        if given.keys() == set(known):
            return
        for name in known:
            if name not in given:
                raise ProgramError(f"{self.name}: {what} {name} is missing")
        for name in given:
            if name not in known:
                raise ProgramError(f"{self.name} has no {what} {name}")


def _check_form(region: str, value: Value, given: np.ndarray) -> None:
    dtype = dtype_of(value)
    if given.dtype != dtype:
        raise ProgramError(f"{region}: input {value.name} is {given.dtype}, must be {dtype}")
    if given.ndim != 3 or given.shape[-1] != value.width or 0 in given.shape:
        raise ProgramError(
            f"{region}: input {value.name} has shape {list(given.shape)}, "
            f"must be [batch, length, {value.width}]"
        )


def _check_codes(region: str, value: Value, given: np.ndarray) -> None:
    lowest = np.minimum.reduce(given, axis=None)
    if lowest < -value.limit:
        raise ProgramError(
            f"{region}: input {value.name} holds {lowest}, "
            f"{given.dtype} operands are {-value.limit} to {value.limit}"
        )
