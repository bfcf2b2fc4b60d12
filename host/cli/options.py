"""Options and progress that the commands share."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from transept.golden.config import HLS_BLOCKS, PRESETS, Blocks, Config, preset
from transept.golden.filters import FILTERS
from transept.host.devices.catalogue import ACCELERATORS
from transept.host.limits import MAX_TOKENS, check_sequences
from transept.host.report import console

if TYPE_CHECKING:
    from transept.host.language.program import LanguageProgram
    from transept.host.models import Prepared

__all__ = [
    "BatchOption",
    "BlocksOption",
    "ConfigOption",
    "DeviceName",
    "DeviceOption",
    "FilterOption",
    "FiltersOption",
    "HlsOption",
    "JsonOption",
    "LanguageArgument",
    "LanguageOption",
    "MemoryName",
    "MemoryOption",
    "ModelArgument",
    "ModelOption",
    "SeedOption",
    "TextModelOption",
    "TokensOption",
    "WeightsName",
    "WeightsOption",
    "build_simulation",
    "check_accelerator",
    "choose_config",
    "device_options",
    "language",
    "prepare",
    "running",
    "working",
]


class DeviceName(str, Enum):
    """Where a program runs."""

    rtl = "rtl"
    emulator = "emulator"
    gpu = "gpu"
    cpu = "cpu"
    golden = "golden"
    auto = "auto"


class MemoryName(str, Enum):
    """Timing of the simulated DRAM."""

    wide = "wide"
    default = "default"
    board = "board"


class WeightsName(str, Enum):
    """Bits of a language model's weights."""

    w8 = "w8"
    w4 = "w4"


#: Of a sequence, if nobody says.
DEFAULT_TOKENS = 128
_LONGEST = max(config.geometry.max_tokens for config in PRESETS.values())

ConfigOption = Annotated[str, typer.Option("--config", help=f"one of {', '.join(PRESETS)}")]
DeviceOption = Annotated[DeviceName, typer.Option("--device")]
HlsOption = Annotated[
    str | None,
    typer.Option("--hls", help=f"by high-level synthesis: some of {','.join(HLS_BLOCKS)}"),
]
FiltersOption = Annotated[
    str | None,
    typer.Option("--filters", help=f"key filters that are built, of {','.join(FILTERS)}"),
]
_BLOCKS = tuple(field.name for field in dataclasses.fields(Blocks))
BlocksOption = Annotated[
    str | None,
    typer.Option("--blocks", help=f"optional parts that are built, of {','.join(_BLOCKS)}"),
]
MemoryOption = Annotated[
    MemoryName, typer.Option("--memory", help="25.6, 12.8 or 6.4 bytes a cycle")
]
SeedOption = Annotated[int, typer.Option("--seed")]
TokensOption = Annotated[
    int | None,
    typer.Option(
        "--tokens",
        min=1,
        help=f"of a sequence, {DEFAULT_TOKENS} if not told; attention to {_LONGEST}",
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option("--batch", min=1, help=f"sequences; up to {MAX_TOKENS:,} tokens in all"),
]
FilterOption = Annotated[
    str | None,
    typer.Option("--filter", help="key filter in place of dense attention: NAME[:PARAMETERS]"),
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="write the result here")]
_TEXT_MODELS = "minilm, or a folder in the transformers format"
_MODELS = f"{_TEXT_MODELS}, or module:function"
ModelOption = Annotated[str, typer.Option("--model", help=_MODELS)]
TextModelOption = Annotated[str, typer.Option("--model", help=_TEXT_MODELS)]
ModelArgument = Annotated[str, typer.Argument(help=_MODELS)]
_LANGUAGE_MODELS = "smollm2, a GGUF file, or a folder in the transformers format"
LanguageArgument = Annotated[str, typer.Argument(metavar="MODEL", help=_LANGUAGE_MODELS)]
LanguageOption = Annotated[str, typer.Option("--model", help=_LANGUAGE_MODELS)]
WeightsOption = Annotated[WeightsName, typer.Option("--weights", help="bits of a weight")]


def choose_config(
    name: str,
    memory: MemoryName = MemoryName.default,
    hls: str | None = None,
    filters: str | None = None,
    blocks: str | None = None,
) -> Config:
    """The configuration; with the board's memory the one for the board, if it has a narrower port
    to it. hls, filters, blocks: names with commas between.

    Raises
    ------
    ValueError
        If there is no such name, or the parts do not go together.
    """
    config = preset(name)
    if memory == MemoryName.board:
        config = PRESETS.get(f"{name}_board", config)
    if filters is not None:
        config = config.replace(names=tuple(filters.split(",")))
    if blocks is not None:
        named = blocks.split(",") if blocks else []
        for name in named:
            if name not in _BLOCKS:
                raise ValueError(f"unknown block {name!r}, there are {', '.join(_BLOCKS)}")
        config = config.replace(**{name: name in named for name in _BLOCKS})
    return config.replace(hls=tuple(hls.split(","))) if hls else config


def check_accelerator(device: DeviceName) -> None:
    """ValueError if the device is none that runs instructions."""
    if device.value not in ACCELERATORS:
        known = " and ".join(ACCELERATORS)
        raise ValueError(f"no accelerator {device.value!r}, there is {known}")


def device_options(device: DeviceName, memory: MemoryName, seed: int) -> dict[str, Any]:
    """What ``Program.run`` needs to open the device."""
    options: dict[str, Any] = {"seed": seed} if device.value in ACCELERATORS else {}
    if device == DeviceName.rtl:
        options["memory"] = memory.value
    return options


def prepare(
    model: str,
    config: Config,
    *,
    tokens: int | None,
    batch: int | None,
    texts: Sequence[str] = (),
    key_filter: str | None = None,
) -> Prepared:
    """A model by name, compiled, with inputs: texts, passages that fill the tokens, or the example
    that ``module:function`` brings; sizes are checked before torch is imported."""
    if ":" in model:
        if texts or tokens or batch:
            raise ValueError(
                f"{model} brings its own example; --text, --tokens and --batch do not apply"
            )
        with working(f"compiling {model} for {config.name}"):
            from transept.host.models import prepare_function

            return prepare_function(model, config, key_filter)
    tokens, batch = tokens or DEFAULT_TOKENS, len(texts) or batch or 1
    check_sequences(tokens=tokens, batch=batch)
    with working(f"loading {model}"):
        from transept.host.bench.model import long_texts
        from transept.host.models import load_text_model

        loaded = load_text_model(model)
    loaded.check(config, tokens, batch)
    cycles = loaded.cycles(config, tokens, batch)
    what = (
        f"compiling {model} for {config.name}: {batch} x {tokens} tokens, {cycles:,} cycles or more"
    )
    with working(what):
        chosen = texts or long_texts(loaded, tokens, batch)
        return loaded.prepare(chosen, config, tokens=tokens, key_filter=key_filter)


def language(
    model: str, config: Config, weights: WeightsName, layers: int | None = None
) -> LanguageProgram:
    """The program of a language model by name, made if it is not kept."""
    from transept.host.language.kept import is_kept, language_program

    kept = is_kept(model, config, layers=layers, weights=weights.value)
    what = f"loading {model}" if kept else f"quantising {model}, which is done once,"
    with working(f"{what} for {config.name}"):
        return language_program(model, config, layers=layers, weights=weights.value)


def working(text: str) -> Progress:
    """A spinner with the time that has passed."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=False,
    )
    progress.add_task(text)
    return progress


@contextlib.contextmanager
def running(text: str, cycles: float, options: dict[str, Any]) -> Iterator[None]:
    """A bar of simulated cycles, for devices that have them."""
    if "memory" not in options:
        with working(text):
            yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(text, total=cycles)
        options["progress"] = lambda done: progress.update(task, completed=done)
        yield
        progress.update(task, completed=cycles)


def build_simulation(config: Config, device: DeviceName) -> None:
    """Build the simulation with progress shown, so that later steps only run."""
    if device == DeviceName.rtl:
        from transept.sim.build import accelerator_library

        with working(f"building the {config.name} RTL (kept for later runs)"):
            accelerator_library(config)
