"""Programs as users see them: a model of which the accelerator runs regions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transept.golden.config import Config, preset
from transept.golden.filters import FILTERS, KeyFilter, parameters
from transept.golden.graph import Lengths
from transept.golden.ops import Attention
from transept.host.backends.catalogue import CPU
from transept.host.runtime.driver import RunReport
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.region import Region, notes_beyond
from transept.host.runtime.session import Result, Session

if TYPE_CHECKING:
    import torch

    from transept.host.front.export import Arguments
    from transept.host.front.importer import ImportedModel
    from transept.host.front.ranges import Ranges
    from transept.host.placement.auto import Placement
    from transept.host.placement.scheduler import Placed, Scheduler

#: Every part of a model where it ends soonest.
AUTO = "auto"
#: Share of an operator's results that may be clipped without a note: int8 grids are narrow.
SATURATED = 1e-3

__all__ = ["Execution", "Part", "Program", "choose_filter", "compile", "load"]


@dataclass(frozen=True, eq=False)
class Part:
    """One region's share of a run: int arrays [batch, length, width] in and out."""

    region: Region
    inputs: Mapping[str, np.ndarray]
    lengths: Lengths
    result: Result

    def elements(self, operators: str) -> int:
        """Elements that some operators, separated by commas, computed in this run."""
        graph, wanted = self.region.graph, operators.split(", ")
        batch = len(next(iter(self.inputs.values())))
        rows = {graph.values[name].dim: x.shape[1] for name, x in self.inputs.items()}
        return sum(
            batch * rows[graph.values[out].dim] * graph.values[out].width
            for op in graph.ops
            if op.name in wanted
            for out in op.outputs
        )


#: Hears of every region's share of a run.
Watch = Callable[[Part, Session], None]


@dataclass(frozen=True, eq=False)
class Execution:
    """What was done in one run of the model, region by region; placed: by which plans, if devices
    were chosen."""

    parts: tuple[Part, ...]
    placed: tuple[Placed, ...] = ()

    @property
    def seconds(self) -> float:
        """Wall time of all regions."""
        return sum(part.result.seconds for part in self.parts)

    @property
    def reports(self) -> list[RunReport]:
        """Counters of the regions that ran on an accelerator."""
        return [part.result.report for part in self.parts if part.result.report is not None]

    @property
    def clipped(self) -> dict[str, int]:
        """Elements that did not fit their grid, by operator; those with none are left out."""
        found: dict[str, int] = {}
        for report in self.reports:
            for name, count in report.tallies.items():
                if count:
                    found[name] = found.get(name, 0) + count
        return found


@dataclass(repr=False)
class Program:
    """A compiled model. ``last`` tells about its last run, ``notes`` what was not as it should be.

    regions: the accelerator's parts; imported: the torch model around them, only where the program
    was compiled; explanation: what ``explain`` says of a program that was loaded.
    """

    config: Config
    regions: list[Region]
    imported: ImportedModel | None = None
    explanation: dict[str, Any] | None = None
    last: Execution | None = None
    notes: list[str] = field(default_factory=list)
    _sessions: dict[str, Session] = field(default_factory=dict, repr=False)
    _schedulers: dict[str, Scheduler] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        operators = sum(len(region.graph.ops) for region in self.regions)
        names = ", ".join(region.name for region in self.regions)
        return f"<Program for {self.config.name}: {operators} operators in {names}>"

    def run(
        self,
        *args: Any,
        device: str = "emulator",
        watch: Watch | None = None,
        placement: Placement | None = None,
        **options: Any,
    ) -> Any:
        """Run the whole model on ``rtl``, ``emulator``, ``gpu``, ``cpu`` or ``golden``, the
        specification; or ``auto``, every part where it ends soonest (``host.placement``).

        args: those of the model, or one dictionary of named ones, or a dictionary of the values
        that enter the one region of a loaded program. Shapes may differ from the example's: the
        graph is exported again for them, scales and weights stay. Every device gives the same bits.
        A device that fails is reset, and the CPU does the work instead; ``notes`` says so. With
        option ``fallback=False`` the error is raised.
        watch: called after each region with its share of the run and the session.
        placement: devices to choose from, pins, limits, for ``auto`` alone.

        Raises
        ------
        ValueError
            If the arguments are of another kind than the example, or hold NaN or infinity, or a pin
            fits no layer.
        """
        self.notes = []
        if device != AUTO and placement is not None:
            raise ValueError(f"placement is for device {AUTO}, the device is {device}")
        if self.imported is None:
            return self._run_values(args, device, placement, options)
        _check_named({name: value for name, value in options.items() if hasattr(value, "shape")})
        arguments = _arguments(args)
        chosen = self._scheduler(placement, options, args) if device == AUTO else None
        parts: list[Part] = []
        placed: list[Placed] = []

        def runner(
            index: int, inputs: dict[str, np.ndarray], lengths: dict[str, list[int]]
        ) -> dict[str, np.ndarray]:
            region = self.regions[index]
            if chosen is not None:
                outputs, found = self._place(chosen, region, inputs, lengths, placed)
            else:
                part = self.run_region(region, inputs, lengths, device, **options)
                outputs, found = part.result.outputs, [(part, self.session(device, **options))]
            parts.extend(part for part, _ in found)
            if watch is not None:
                for part, session in found:
                    watch(part, session)
            return outputs

        result, notes = self.imported.run(arguments, runner)
        self.last = Execution(tuple(parts), tuple(placed))
        self.notes += [*notes, *self._saturation()]
        return result

    def around(self, *args: Any) -> Callable[[], object]:
        """What a run of the model does outside of its regions, to be called; they give again what
        they gave first. Nothing, if the program was loaded: it has regions alone."""
        if self.imported is None:
            return lambda: None
        imported, arguments = self.imported, _arguments(args)
        given: dict[int, dict[str, np.ndarray]] = {}

        def runner(
            index: int, inputs: dict[str, np.ndarray], lengths: dict[str, list[int]]
        ) -> dict[str, np.ndarray]:
            if index not in given:
                part = self.run_region(self.regions[index], inputs, lengths, CPU)
                given[index] = dict(part.result.outputs)
            return given[index]

        return lambda: imported.run(arguments, runner)

    def _scheduler(
        self, placement: Placement | None, options: dict, args: Sequence[Any]
    ) -> Scheduler:
        """What places regions as the user wants; measures what was never measured."""
        from transept.host.placement.auto import Placement, scheduler

        wanted = placement or Placement()
        for name in options:
            if name != "fallback":
                raise ValueError(
                    f"device {AUTO} has no option {name!r}, there is fallback; "
                    "those of devices are in the placement"
                )
        if "fallback" in options:
            wanted = dataclasses.replace(wanted, fallback=bool(options["fallback"]))
        if repr(wanted) not in self._schedulers:
            self._schedulers[repr(wanted)] = scheduler(
                self.config, wanted, self.regions, self.session, self.around(*args)
            )
        return self._schedulers[repr(wanted)]

    def _place(
        self,
        chosen: Scheduler,
        region: Region,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths,
        placed: list[Placed],
    ) -> tuple[dict[str, np.ndarray], list[tuple[Part, Session]]]:
        """Run a region on the devices of a plan; its parts, each with the session that ran it."""
        found = chosen.run(region, inputs, lengths)
        placed.append(found)
        self.notes += chosen.notes
        chosen.notes.clear()
        return found.outputs, [
            (Part(p.region, p.inputs, p.lengths, p.result), chosen.session(p.result.device))
            for p in found.parts
        ]

    def run_region(
        self,
        region: Region | str,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None = None,
        device: str = "emulator",
        **options: Any,
    ) -> Part:
        """Run one region, itself or its name, on integers [batch, length, width]; lengths: all rows
        by default. ``Region.quantise`` makes integers of real numbers, ``Region.real`` the reverse.

        Raises
        ------
        ProgramError
            If there is no such region, or the inputs are not its own.
        """
        if isinstance(region, str):
            region = self._region(region)
        session = self.session(device, **options)
        result = session.run(region, inputs, lengths)
        self.notes += session.notes
        session.notes.clear()
        return Part(region, inputs, lengths or {}, result)

    def _region(self, name: str) -> Region:
        found = [region for region in self.regions if region.name == name]
        if len(found) != 1:
            names = ", ".join(region.name for region in self.regions)
            raise ProgramError(f"the program has no region {name!r}, there are {names}")
        return found[0]

    def session(self, device: str, **options: Any) -> Session:
        """The open device with these options; devices stay open."""
        key = f"{device} {sorted(options.items(), key=str)}"
        if key not in self._sessions:
            self._sessions[key] = Session(self.config, device, **options)
        return self._sessions[key]

    def _run_values(
        self, args: Sequence[Any], device: str, placement: Placement | None, options: dict
    ) -> dict[str, np.ndarray]:
        """A loaded program's one region, on real values."""
        if len(self.regions) != 1:
            names = ", ".join(region.name for region in self.regions)
            raise ProgramError(
                f"the program has {len(self.regions)} regions: run_region of {names}"
            )
        region = self.regions[0]
        if not 1 <= len(args) <= 2 or not isinstance(args[0], dict):
            raise ProgramError(
                "a loaded program takes a dictionary of the real values that enter it, "
                f"{', '.join(region.graph.inputs)}, and lengths"
            )
        integers = {name: region.quantise(name, rows) for name, rows in args[0].items()}
        lengths = args[1] if len(args) == 2 else None
        placed: list[Placed] = []
        if device == AUTO:
            chosen = self._scheduler(placement, options, args)
            outputs, found = self._place(chosen, region, integers, lengths or {}, placed)
            parts = [part for part, _ in found]
        else:
            parts = [self.run_region(region, integers, lengths, device, **options)]
            outputs = parts[0].result.outputs
        counts = {
            name: region.beyond(name, rows, (lengths or {}).get(region.graph.values[name].dim))
            for name, rows in args[0].items()
        }
        self.last = Execution(tuple(parts), tuple(placed))
        self.notes += [*notes_beyond(counts), *self._saturation()]
        return {name: region.real(name, rows) for name, rows in outputs.items()}

    def _saturation(self) -> list[str]:
        """Notes on operators of which more than a few results were clipped."""
        assert self.last is not None
        found = []
        for part in self.last.parts:
            tallies = part.result.report.tallies if part.result.report else {}
            for name, count in tallies.items():
                share = count / part.elements(name)
                if share > SATURATED:
                    found.append(f"{count:,} elements ({share:.1%}) of {name} were clipped")
        return found

    def reference(self, *args: Any, **named: Any) -> Any:
        """The float model's result.

        Raises
        ------
        ProgramError
            If the program was loaded: the float model is not in the file.
        """
        _check_named(named)
        if self.imported is None:
            raise ProgramError("a loaded program has no float model; compile the model instead")
        return self.imported.reference(_arguments(args))

    def explain(self) -> dict[str, Any]:
        """What runs where, and why: see ``host.front.explain``."""
        if self.imported is None:
            return dict(self.explanation or {})
        from transept.host.front.explain import explain

        return explain(self.imported)

    def save(self, path: str | Path) -> None:
        """Write regions, their programs and the explanation to one file.

        Raises
        ------
        ProgramError
            If the folder does not exist, or the path is no regular file.
        """
        from transept.host.runtime.file import save

        save(path, self.config, self.regions, self.explain())


def _check_named(inputs: Mapping[str, Any]) -> None:
    if inputs:
        raise ValueError(f"{', '.join(inputs)}: inputs with names go into one dictionary")


def _arguments(args: Sequence[Any]) -> Arguments:
    """What a model is called with: those given, or one dictionary of named ones."""
    from transept.host.front.export import Arguments

    return Arguments.of(args[0] if len(args) == 1 and isinstance(args[0], dict) else args)


def load(path: str | Path) -> Program:
    """A program from a file. It runs without torch, on the values that enter its regions.

    Raises
    ------
    ProgramError
        If the file is missing, corrupt, or for another contract version.
    """
    from transept.host.runtime.file import load as load_file

    config, regions, explanation = load_file(path)
    return Program(config, regions, explanation=explanation)


def compile(
    model: torch.nn.Module,
    example: Any,
    *,
    config: str | Config = "pynq_z2",
    calibration: Sequence[Any] | Ranges | None = None,
    key_filter: str | KeyFilter | None = None,
) -> Program:
    """Compile everything of a torch model that the accelerator can run.

    example: a tensor, a tuple of arguments, or a dictionary of named ones. calibration: inputs like
    it, of any size, whose ranges set the scales (the example alone by default), or the ranges of
    another program, so that both have the same scales and give the same bits. key_filter: in place
    of dense attention, as ``tile_threshold:100`` or ``window:64,0``.

    Raises
    ------
    ExportError
        If torch cannot export the model for these inputs.
    UnsupportedModelError
        If no part of the model can run on the accelerator.
    ValueError
        If weights or calibration inputs hold NaN or infinity, there is no such configuration or
        filter, or no attention that the filter could be in place of.
    """
    chosen = preset(config) if isinstance(config, str) else config
    if not isinstance(chosen, Config):
        raise ValueError(f"config is a {type(config).__name__}, not a name or a Config")
    rule = choose_filter(key_filter, chosen) if isinstance(key_filter, str) else key_filter
    if rule is not None and not isinstance(rule, KeyFilter):
        kind = type(rule).__name__
        raise ValueError(f"key_filter is a {kind}, not a name with parameters or a KeyFilter")
    from transept.host.front.importer import import_model

    imported = import_model(model, example, chosen, calibration, rule)
    kept = [op.filter for r in imported.regions for op in r.graph.ops if isinstance(op, Attention)]
    if rule is not None and rule not in kept:
        raise ValueError(
            f"key filter {rule.kind.name.lower()} is in place of dense attention, "
            "of which the model has none on the accelerator"
        )
    return Program(chosen, imported.regions, imported)


def choose_filter(text: str, config: Config) -> KeyFilter:
    """A key filter by name, with its parameters behind a colon.

    Raises
    ------
    ValueError
        If there is no such filter, the configuration has not built it, or a parameter is wrong.
    """
    name, _, told = text.partition(":")
    if name not in FILTERS:
        raise ValueError(f"no key filter {name!r}, there are {', '.join(FILTERS)}")
    if name not in config.filters.names:
        built = ", ".join(config.filters.names) or "none"
        raise ValueError(f"{config.name} has not built the key filter {name}, it has {built}")
    try:
        numbers = [int(part) for part in told.split(",")] if told else []
    except ValueError:
        raise ValueError(f"key filter {text!r}: its parameters must be whole numbers") from None
    try:
        return FILTERS[name](*numbers)
    except TypeError:
        count = len(parameters(FILTERS[name]))
        raise ValueError(
            f"key filter {text!r} has {len(numbers)} parameters, {name} has {count}"
        ) from None
