"""``transept run``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from transept.host import report
from transept.host.backends.catalogue import check_backend
from transept.host.cli.options import (
    BatchOption,
    ConfigOption,
    DeviceName,
    DeviceOption,
    FilterOption,
    MemoryName,
    MemoryOption,
    ModelArgument,
    SeedOption,
    TokensOption,
    build_simulation,
    choose_config,
    device_options,
    prepare,
    running,
)
from transept.host.devices.catalogue import ACCELERATORS
from transept.host.placement.auto import Placement
from transept.host.placement.scheduler import Placed
from transept.host.placement.told import median_run
from transept.host.runtime.program import AUTO, Program

__all__ = ["run"]

#: Of a sequence, if nobody says: sentences are short.
TOKENS = 32
MIB = 1 << 20


def run(
    model: ModelArgument,
    text: Annotated[list[str] | None, typer.Option("--text", help="repeat for a batch")] = None,
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    tokens: TokensOption = None,
    batch: BatchOption = None,
    key_filter: FilterOption = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="show which part ran where, and what else it would take"),
    ] = False,
    pin: Annotated[
        list[str] | None,
        typer.Option("--pin", help="LAYER=DEVICE; a layer, a prefix, or a pattern with *"),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", help="DEVICE=MIB: weights that a device holds at most"),
    ] = None,
    clock: Annotated[
        float | None,
        typer.Option("--clock", min=1, help="MHz: count the accelerator's cycles at this clock"),
    ] = None,
    runs: Annotated[
        int,
        typer.Option("--runs", min=1, help="with --explain: measured times are medians of so many"),
    ] = 1,
    fallback: Annotated[
        bool, typer.Option(" /--no-fallback", help="an error where a device fails, not another one")
    ] = True,
) -> None:
    """Run a model on texts (or module:function on its example) and show what happened."""
    if runs > 1 and not explain:
        raise ValueError(f"--runs {runs} is for --explain, which shows times")
    placement = _placement(device, pin or [], limit or [], clock, fallback, explain)
    accelerators = {name: device_options(DeviceName(name), memory, seed) for name in ACCELERATORS}
    chosen = choose_config(config, memory)
    texts = text or []
    if ":" not in model:
        if not texts:
            raise ValueError("no --text given")
        if batch and batch != len(texts):
            raise ValueError(f"--batch {batch}, but {len(texts)} texts")
        tokens = tokens or TOKENS
    options = device_options(device, memory, seed)
    ready = prepare(model, chosen, tokens=tokens, batch=batch, texts=texts, key_filter=key_filter)
    from transept.host.bench.model import bench_model

    build_simulation(chosen, device)
    if placement is not None:
        options = {"placement": replace(placement, options=accelerators)}
    elif not fallback:
        options["fallback"] = False
    name = device.value if placement is None else AUTO
    measured: list[tuple[Placed, ...]] = []
    with running(f"running on {device.value}", runs * ready.macs / chosen.macs, options):
        for _ in range(runs - 1):
            ready.program.run(*ready.inputs, device=name, **options)
            measured.append(_placed(ready.program))
        result = bench_model(ready, device=name, **options)
    measured.append(_placed(ready.program))
    report.show_model(result, chosen, memory.value)
    if explain:
        hertz = placement.clock if placement else None
        regions = [median_run(several) for several in zip(*measured, strict=True)]
        report.show_placement(regions, hertz)


def _placed(program: Program) -> tuple[Placed, ...]:
    """By which plans the last run was."""
    return () if program.last is None else program.last.placed


def _placement(
    device: DeviceName,
    pins: list[str],
    limits: list[str],
    clock: float | None,
    fallback: bool,
    explain: bool,
) -> Placement | None:
    """What the user says about where the model runs; None if that is one device and no more."""
    if device != DeviceName.auto and not (pins or limits or clock or explain):
        return None
    placement = Placement(
        devices=() if device == DeviceName.auto else (device.value,),
        pins=dict(_pair("pin", pin, "LAYER=DEVICE") for pin in pins),
        memory={
            name: _mib(size) for name, size in (_pair("limit", x, "DEVICE=MIB") for x in limits)
        },
        clock=None if clock is None else clock * 1e6,
        fallback=fallback,
    )
    for name in (*placement.pins.values(), *placement.memory):
        check_backend(name, {})
    return placement


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"--{option} {text!r} is not {form}")
    return name, value


def _mib(text: str) -> int:
    try:
        size = float(text)
    except ValueError:
        raise ValueError(f"--limit of {text!r} MiB is no number") from None
    return int(size * MIB)
