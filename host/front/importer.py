"""A torch model on the accelerator: its regions, and the torch graph around them for each shape."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from transept.golden.config import Config
from transept.golden.filters import KeyFilter
from transept.golden.graph import Graph
from transept.host.compiler.compile import compile_graph
from transept.host.compiler.cut import Shape
from transept.host.compiler.errors import CompileError
from transept.host.front.bind import Binding, Runner, bind
from transept.host.front.errors import ExportError, UnfitError, UnsupportedModelError
from transept.host.front.export import Arguments, export
from transept.host.front.frame import Choices, Frame, frame
from transept.host.front.masks import MaskError
from transept.host.front.matches import LinearMatch, Match, NormMatch
from transept.host.front.quantise import Quantiser
from transept.host.front.quantise.linear import check_finite
from transept.host.front.ranges import Ranges
from transept.host.front.regions import FloatRegion
from transept.host.front.states import ModelState, drawing
from transept.host.runtime.region import Region, notes_beyond

__all__ = ["ImportedModel", "import_model", "measure_ranges", "region_shape"]

#: An activation table that is further off than this share of the largest result is none.
TABLE_ERROR = 0.01
#: A model that does not settle after so many decisions is given up.
MOST_ATTEMPTS = 40


@dataclass(frozen=True, eq=False)
class _Bound:
    """One set of input shapes: the graph with calls of the accelerator, and its calls."""

    frame: Frame
    module: fx.GraphModule
    bindings: list[Binding]
    regions: list[Region]


class ImportedModel:
    """A torch model of which the accelerator runs regions.

    regions: of all shapes that were seen; those of another shape share graphs and weights as far as
    they are the same. choices: why operators stay with torch. ranges: what calibration saw.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        example: Arguments,
        config: Config,
        ranges: Ranges,
        key_filter: KeyFilter | None = None,
        weights: str = "w8",
    ) -> None:
        self.model, self.config, self.example = model, config, example
        self.ranges = ranges
        self.choices = Choices(plain=set(ranges.plain))
        self.regions: list[Region] = []
        self._filter, self._weights = key_filter, weights
        self._exports: dict[tuple, fx.GraphModule] = {}
        self._frames: dict[tuple, tuple[Choices, Frame]] = {}  # while it is decided what stays
        self._quantiser: tuple[Frame, Ranges, Quantiser] | None = None  # the latest one
        self._bound: dict[tuple, _Bound] = {}
        self._rules: dict[str, KeyFilter] = {}  # what the masks of the example say
        self._operators: dict[str, Match] = {}  # as they were on the example
        self._state: ModelState | None = None  # when it was quantised

    # --- running
    def run(self, arguments: Arguments, runner: Runner) -> tuple[object, list[str]]:
        """The model's result, and notes on what was not as it should be. ``runner`` gets an index
        into ``regions``.

        A mask that the regions cannot express makes torch run all of it in float.

        Raises
        ------
        ExportError
            If the arguments are of another kind than the example.
        ValueError
            If a value that enters a region is NaN or infinite.
        """
        arguments = arguments.like(self.example)
        self._check_unchanged()
        try:
            bound = self.bound(arguments)
            numbers = [self.regions.index(region) for region in bound.regions]
            for binding in bound.bindings:
                binding.runner = lambda i, arrays, lengths: runner(numbers[i], arrays, lengths)
            with torch.no_grad():
                result = bound.module(*arguments.args, **arguments.kwargs)
        except MaskError as error:
            return self.reference(arguments), [f"ran in float with torch: {error}"]
        notes = [note for b in bound.bindings for note in notes_beyond(b.beyond)]
        for name in itertools.islice(drawing(self.model), 1):
            notes.append(f"computed as in eval(): {name} is in training mode")
        return result, notes

    def _check_unchanged(self) -> None:
        """ValueError if a parameter, buffer or module is another one, or a tensor was written to,
        since it was quantised: what torch computes would have the new one, the regions the old."""
        name = None if self._state is None else self._state.changed(self.model)
        if name is not None:
            raise ValueError(f"{name} has changed since the program was compiled; compile anew")

    def reference(self, arguments: Arguments) -> object:
        """The result of the float model."""
        arguments = arguments.like(self.example)
        with torch.no_grad():
            return self._exported(arguments)(*arguments.args, **arguments.kwargs)

    def bound(self, arguments: Arguments) -> _Bound:
        """The graph for these shapes; made when they are first seen, those of the example from the
        example.

        Raises
        ------
        MaskError
            If masks of the first run with these shapes say what the accelerator cannot do, or the
            model computes something else than in the shapes of the example.
        """
        key = arguments.key
        if key not in self._bound:
            found = self._frame(arguments)
            if not self.ranges.covers(found.regions):
                raise MaskError("; ".join(dict.fromkeys(found.reasons.values())) or "other regions")
            for op in (op for region in found.regions for op in region.ops):
                if not op.alike(self._operators.setdefault(op.name, op)):
                    raise MaskError(f"{op.name} is another function than in the example")
            for op in (op for region in found.regions for op in region.attentions):
                op.filter = self._rules.setdefault(op.name, op.filter)
            regions = self._regions(found)
            module, bindings = bind(found, [region.graph for region in regions])
            self._bound[key] = _Bound(found, module, bindings, regions)
        return self._bound[key]

    def _frame(self, arguments: Arguments, *, limited: bool = True) -> Frame:
        """What can run on the accelerator, as far as is decided; for the shapes of the example, on
        the example, and then what does not fit is decided for all shapes.

        limited: without what does not fit the accelerator in these shapes.
        """
        key = arguments.key, limited
        known = self._frames.get(key)
        if known is None or known[0] != self.choices:
            own = arguments.key == self.example.key
            first = self.example if own else arguments
            config = self.config if limited else None
            found = frame(self._exported(first), first, config, self.choices)
            if own:
                self.choices.excluded = dict(found.excluded)
            known = self._frames[key] = copy.deepcopy(self.choices), found
        return known[1]

    def _exported(self, arguments: Arguments) -> fx.GraphModule:
        if arguments.key not in self._exports:
            self._exports[arguments.key] = export(self.model, arguments)
        return self._exports[arguments.key]

    def _regions(self, found: Frame) -> list[Region]:
        """A region of each float one, the same as before if its operators are the same."""
        regions = []
        known = {signature(region.graph): region for region in self.regions}
        for float_region in found.regions:
            key = float_region.signature
            if key not in known:
                graph = self._quantiser_of(found).graph(float_region)
                known[key] = Region(float_region.name, graph, self.config)
                self.regions.append(known[key])
            regions.append(known[key])
        return regions

    def _quantiser_of(self, found: Frame) -> Quantiser:
        """The quantiser of a frame, with what calibration has seen by now."""
        known = self._quantiser
        if known is None or known[0] is not found or known[1] is not self.ranges:
            made = Quantiser(found.regions, self.ranges, self.config, self._filter, self._weights)
            self._quantiser = known = found, self.ranges, made
        return known[2]

    # --- deciding
    def settle(self, *, fit: bool = True) -> None:
        """Decide what stays with torch, until everything else fits the accelerator.

        fit: in the shape of the example; without it, shapes are tried by whoever asks for them.

        Raises
        ------
        UnsupportedModelError
            If nothing is left.
        """
        for _ in range(MOST_ATTEMPTS):
            if not self._unfit(self.calibrated(), fit=fit):
                self.bound(self.example)
                self._frames.clear()
                self._quantiser = None
                self._state = ModelState(self.model)
                return
        raise UnsupportedModelError(f"no cut of the model fits {self.config.name}")

    def calibrated(self) -> Frame:
        """The frame of the example, of which calibration has seen every value."""
        while True:
            found = self._frame(self.example)
            if not found.regions:
                raise UnsupportedModelError(_nothing(found, self.choices))
            _check_weights(found.regions)
            if not self.ranges.covers(found.regions):
                self.ranges = self._measured()
            if not self._plain(found):
                return found

    def _measured(self) -> Ranges:
        """Ranges over the calibration inputs, of any shapes: also of those that do not fit."""
        ranges = Ranges(self.ranges.inputs, self.choices.plain)
        for number, arguments in enumerate(ranges.inputs):
            own = arguments.key == self.example.key
            try:
                self._frame(arguments, limited=own).observe(arguments, ranges)
            except ExportError as error:
                raise ExportError(f"calibration input {number}: {error}") from error
        return ranges

    def _plain(self, found: Frame) -> bool:
        """Whether an activation turned out to be none that a table can be."""
        bad = {
            name: table.error
            for name, table in self._quantiser_of(found).scales.tables.items()
            if table.error > TABLE_ERROR or not self.config.blocks.activation
        }
        if bad:
            self.choices.plain |= set(bad)
            self.ranges = Ranges(self.ranges.inputs)  # those values mean something else now
        return bool(bad)

    def _unfit(self, found: Frame, *, fit: bool) -> bool:
        """Whether something turned out not to fit, alone or, with ``fit``, together."""
        self.regions.clear()
        unfit = self._quantiser_of(found).unfit(found.regions)
        if unfit:
            self.choices.excluded |= unfit
            return True
        try:
            regions = self._regions(found)
        except UnfitError as error:
            self.choices.excluded[_matched(error.operator, found)] = str(error)
            return True
        for region, float_region in zip(regions, found.regions, strict=True):
            shape = region_shape(region, float_region)
            region.shapes[shape] = None
            if not fit:
                continue
            try:
                _check_fit(region, shape)
            except CompileError as error:
                alone = _too_large(region, shape, found)
                if alone:
                    self.choices.excluded |= alone
                elif len(region.graph.ops) > 1:
                    self.choices.cuts.add(_middle(region.graph, shape, found))
                else:
                    self.choices.excluded[_matched(region.graph.ops[0].name, found)] = str(error)
                return True
        return False


def region_shape(region: Region, float_region: FloatRegion) -> Shape:
    """The shape of a float region's rows."""
    orders = float_region.spaces.orders
    batch = len(next(iter(orders.values())))
    return region.shape(batch, {dim: order.shape[1] for dim, order in orders.items()})


def _check_fit(region: Region, shape: Shape) -> None:
    """CompileError unless some cut fits. One sequence tells: the others go behind it."""
    if shape.batch == 1:
        region.executable(shape)
    else:
        compile_graph(region.graph, region.config, Shape(1, shape.lengths), region.image)


def signature(graph: Graph) -> tuple:
    """What two regions have in common if they are the same for other shapes."""
    return tuple((op.name, op.inputs, op.outputs) for op in graph.ops), graph.outputs


def _check_weights(regions: list[FloatRegion]) -> None:
    """ValueError if a parameter holds NaN or infinity, which calibration would only pass on."""
    for op in (op for region in regions for op in region.ops):
        if isinstance(op, LinearMatch | NormMatch):
            check_finite(op.name, op.weight, op.bias)


def _nothing(found: Frame, choices: Choices) -> str:
    reasons = dict.fromkeys([*choices.excluded.values(), *found.reasons.values()])
    told = (
        "; ".join(reasons)
        or "no linear layer, convolution or attention that a pattern takes was found"
    )
    return f"no part of the model can run on the accelerator: {told}"


def _too_large(region: Region, shape: Shape, frame: Frame) -> dict[str, str]:
    """Operators that no cut fits even alone."""
    found = {}
    for op in region.graph.ops:
        values = {name: region.graph.values[name] for name in (*op.inputs, *op.outputs)}
        used = {value.dim for value in values.values()}
        dims = tuple(dim for dim in region.graph.dims if dim.name in used)
        graph = Graph(dims, values, tuple(dict.fromkeys(op.inputs)), tuple(op.outputs), (op,))
        lengths = {dim.name: shape.lengths[dim.name] for dim in dims}
        try:
            compile_graph(graph, region.config, Shape(shape.batch, lengths))
        except CompileError as error:
            found[_matched(op.name, frame)] = str(error)
    return found


def _matched(name: str, found: Frame) -> str:
    """The operator that a pattern matched: projections belong to their attention."""
    matched = {op.name for op in found.matcher.matches}
    return name if name in matched else name.rpartition(".")[0]


def _middle(graph: Graph, shape: Shape, found: Frame) -> str:
    """The operator that begins the second half of the work."""
    macs = graph.macs(shape.rows)
    half, so_far = sum(macs.values()) / 2, 0
    for index, op in enumerate(graph.ops):
        so_far += macs[op.name]
        if so_far >= half and index:
            return _matched(op.name, found)
    return _matched(graph.ops[-1].name, found)


def measure_ranges(model: torch.nn.Module, calibration: Sequence[object], config: Config) -> Ranges:
    """What calibration sees of a model, to be shared by programs for several shapes.

    calibration: inputs as ``import_model`` takes them.
    """
    inputs = _inputs(calibration)
    imported = ImportedModel(model, inputs[0], config, Ranges(inputs))
    imported.calibrated()
    return imported.ranges


def import_model(
    model: torch.nn.Module,
    example: object,
    config: Config,
    calibration: Sequence[object] | Ranges | None = None,
    key_filter: KeyFilter | None = None,
    *,
    fit: bool = True,
    weights: str = "w8",
) -> ImportedModel:
    """Find, calibrate and quantise everything of ``model`` that the accelerator can run.

    example: a tensor, a tuple of arguments or a dictionary of named ones; calibration: inputs in
    the same forms, of any shapes (the example alone by default), or ranges of a model imported
    before; key_filter: in place of dense attention; fit: what fits in no cut of the example's shape
    stays with torch.

    Raises
    ------
    ExportError
        If torch cannot export the model for these inputs.
    UnsupportedModelError
        If no part of it can run on the accelerator.
    ValueError
        If weights or calibration inputs hold NaN or infinity.
    """
    arguments = Arguments.of(example)
    if isinstance(calibration, Ranges):
        ranges = calibration
    else:
        given = [arguments] if calibration is None else _inputs(calibration)
        numbered = enumerate(given or [arguments])
        ranges = Ranges([_like(inputs, arguments, number) for number, inputs in numbered])
    imported = ImportedModel(model, arguments, config, ranges, key_filter, weights)
    imported.settle(fit=fit)
    return imported


def _like(inputs: Arguments, example: Arguments, number: int) -> Arguments:
    try:
        return inputs.like(example)
    except ExportError as error:
        raise ExportError(f"calibration input {number}: {error}") from error


def _inputs(calibration: Sequence[object]) -> list[Arguments]:
    if isinstance(calibration, torch.Tensor | Mapping) or not isinstance(calibration, Iterable):
        kind = type(calibration).__name__
        raise ValueError(f"calibration is a list of inputs like the example, not a {kind}")
    return [Arguments.of(inputs) for inputs in calibration]
