"""``transept calibrate``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from transept.host import report
from transept.host.backends.catalogue import check_backend
from transept.host.cli.options import (
    BatchOption,
    ConfigOption,
    JsonOption,
    MemoryName,
    ModelOption,
    TokensOption,
    choose_config,
    prepare,
    working,
)
from transept.host.files import check_writable
from transept.host.placement.auto import available
from transept.host.placement.calibrate import calibrate as measure_costs
from transept.host.placement.calibrate import clocked
from transept.host.placement.machine import costs_file, costs_path, machine, save_costs
from transept.host.placement.parts import Work

__all__ = ["calibrate"]

#: Tokens of a sequence, if nobody says.
TOKENS = 32


def calibrate(
    model: ModelOption = "minilm",
    device: Annotated[
        list[str] | None, typer.Option("--device", help="repeat; all that this machine has")
    ] = None,
    config: ConfigOption = "pynq_z2",
    tokens: TokensOption = None,
    batch: BatchOption = None,
    clock: Annotated[
        float | None,
        typer.Option("--clock", min=1, help="MHz: count the accelerator's cycles at this clock"),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Measure what a model's operators take on the devices of this machine, for --device auto.

    Other shapes of the same kinds of operators are estimated from what is measured. With --clock,
    an accelerator's times are not kept: they are not this machine's.
    """
    chosen = choose_config(config, MemoryName.default)
    check_writable(json)
    for name in device or []:
        check_backend(name, {})
    tokens = tokens if ":" in model else tokens or TOKENS
    ready = prepare(model, chosen, tokens=tokens, batch=batch)
    works = [
        Work(region.graph, shape) for region in ready.program.regions for shape in region.shapes
    ]
    devices = device or available(chosen)
    with working("calibrating") as progress:
        costs = measure_costs(
            works,
            devices,
            chosen,
            clock=None if clock is None else clock * 1e6,
            around=ready.program.around(*ready.inputs),
            progress=lambda text: progress.update(progress.task_ids[0], description=text),
        )
    kept = {name: new for name, new in costs.items() if not clocked(name, clock)}
    save_costs(kept, chosen)
    rows = [
        {
            "device": name,
            "launch_us": found.launch * 1e6,
            "GB_per_second": found.bytes_per_second / 1e9,
            "operators": len(found.samples),
        }
        for name, found in costs.items()
    ]
    report.show_rows(f"calibrate, {machine()['processor']}", rows)
    if kept:
        report.console.print(f"kept in {costs_path(chosen)}")
    command = " ".join(["transept", *sys.argv[1:]])
    report.write_json(json, costs_file(costs, command=command))
