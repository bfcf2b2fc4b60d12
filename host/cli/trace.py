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
from transept.host.devices.rtl import RtlDevice
from transept.host.driver import Driver
from transept.host.files import check_writable, whole_file
from transept.host.launch import Launch, Tensor
from transept.host.program import open_device
from transept.host.report import console
from transept.sim.timeline import write_trace

__all__ = ["trace"]


def trace(
    file: Path,
    output: Annotated[Path, typer.Option("-o", "--output")],
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
) -> None:
    """Run a program file on the RTL with random inputs and write a Chrome/Perfetto trace."""
    check_writable(output)
    launch = Launch.load(file)
    config = launch.config
    if PRESETS.get(config.name) != config:  # a file must not choose what is built
        raise ValueError(
            f"{file} is for {config.name} ({config.digest:08x}), which is none of the "
            f"configurations {', '.join(PRESETS)}"
        )
    build_simulation(config, DeviceName.rtl)
    device = open_device("rtl", config, launch, memory=memory.value, seed=seed, timeline=True)
    assert isinstance(device, RtlDevice)
    rng = np.random.default_rng(seed)
    inputs = [_random(rng, tensor) for tensor in launch.inputs]
    with working("running on the RTL"):
        driver = Driver(device)
        _, counters = driver.run(driver.load(launch), inputs)
    changes, end = device.simulation.timeline(), device.simulation.cycle
    with whole_file(output) as place:
        write_trace(place, changes, end, clock_mhz=config.clock_mhz, names=_names(launch))
    console.print(f"{output}: {counters.cycles:,} cycles; open it in ui.perfetto.dev")


def _names(launch: Launch) -> dict[str, list[str]]:
    """What each engine's instructions are called: opcode and layer."""
    names: dict[str, list[str]] = {engine.name: [] for engine in Engine}
    for label, instruction in zip(launch.labels, launch.decoded(), strict=True):
        if instruction.engine is not None:
            names[instruction.engine.name].append(f"{instruction.opcode.name} {label}".strip())
    return names


def _random(rng: np.random.Generator, tensor: Tensor) -> np.ndarray:
    dtype = np.int8 if tensor.bits == 8 else np.int16
    return rng.integers(-127, 128, (tensor.rows, tensor.width)).astype(dtype)
