"""``transept trace``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from transept.golden.config import PRESETS
from transept.golden.isa import Engine
from transept.host.cli.options import (
    DeviceName,
    MemoryName,
    MemoryOption,
    SeedOption,
    build_simulation,
    working,
)
from transept.host.compiler.executable import Executable
from transept.host.devices.rtl import RtlDevice
from transept.host.files import check_writable, whole_file
from transept.host.report import console
from transept.host.runtime.program import Program, load
from transept.host.runtime.region import Region, dtype_of
from transept.host.runtime.session import Session
from transept.sim.timeline import last_run, write_trace

__all__ = ["trace"]


def trace(
    file: Path,
    output: Annotated[Path, typer.Option("-o", "--output")],
    region: Annotated[
        str | None, typer.Option("--region", help="its name; the first one if not told")
    ] = None,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
) -> None:
    """Run a region of a program file on the RTL with random inputs; write a Perfetto trace."""
    check_writable(output)
    program = load(file)
    config = program.config
    if PRESETS.get(config.name) != config:  # a file must not choose what is built
        raise ValueError(
            f"{file} is for {config.name} ({config.digest:08x}), which is none of the "
            f"configurations {', '.join(PRESETS)}"
        )
    chosen = _region(program, region)
    executable = next(iter(chosen.executables.values()))
    build_simulation(config, DeviceName.rtl)
    session = Session(config, "rtl", memory=memory.value, seed=seed, timeline=True)
    with working("running on the RTL"):
        result = session.run(chosen, _inputs(chosen, executable, np.random.default_rng(seed)))
    device = session.opened
    if result.report is None or not isinstance(device, RtlDevice):
        raise RuntimeError("; ".join(session.notes))
    cycles = result.report.cycles
    changes = last_run(device.simulation.timeline(), cycles)
    with whole_file(output) as place:
        write_trace(place, changes, cycles, clock_mhz=config.clock_mhz, names=_names(executable))
    console.print(f"{output}: {cycles:,} cycles; open it in ui.perfetto.dev")


def _region(program: Program, name: str | None) -> Region:
    for region in program.regions:
        if name in (None, region.name):
            return region
    known = ", ".join(region.name for region in program.regions)
    raise ValueError(f"no region {name!r}, there is {known}")


def _names(executable: Executable) -> dict[str, list[str]]:
    """What each engine's instructions are called: opcode and layer."""
    names: dict[str, list[str]] = {engine.name: [] for engine in Engine}
    for label, instruction in zip(executable.labels, executable.decoded(), strict=True):
        if instruction.engine is not None:
            names[instruction.engine.name].append(f"{instruction.opcode.name} {label}".strip())
    return names


def _inputs(
    region: Region, executable: Executable, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    shape = executable.shape
    values = [region.graph.values[name] for name in region.graph.inputs]
    return {
        value.name: rng.integers(
            -127, 128, (shape.batch, shape.lengths[value.dim], value.width)
        ).astype(dtype_of(value))
        for value in values
    }
