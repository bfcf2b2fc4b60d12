"""The command line. Every command is a few lines over a function of the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from transept.golden import isa
from transept.golden.config import PRESETS, Config
from transept.host import cli_bench, report
from transept.host.cli_options import (
    BatchOption,
    ConfigOption,
    DeviceName,
    DeviceOption,
    JsonOption,
    MemoryName,
    MemoryOption,
    SeedOption,
    TokensOption,
    build_simulation,
    choose_config,
    device_options,
    running,
    working,
)
from transept.host.report import console

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
app.add_typer(cli_bench.app, name="bench")

#: typer brings its own click in some versions
UsageError = typer.BadParameter.__bases__[0]

# --- looking around ------------------------------------------------------------------------------


@app.command()
def doctor() -> None:
    """Check that everything Transept needs is installed, and say how to get the rest."""
    from transept.host.doctor import examine

    checks = examine()
    rows = [
        {"what": c.name, "for": c.purpose, "found": c.found, "remedy": c.remedy} for c in checks
    ]
    report.show_rows("transept doctor", rows)
    missing = [check for check in checks if not check.ok]
    if missing:
        raise ValueError("missing: " + "; ".join(f"{c.name} ({c.remedy})" for c in missing))


@app.command()
def devices() -> None:
    """List the devices that programs run on, and the configurations of the accelerator."""
    import shutil

    compiler = "ready" if shutil.which("g++") else "needs g++, see: transept doctor"
    rows = [
        {"device": "rtl", "what": "the full-size RTL under Verilator", "state": compiler},
        {"device": "emulator", "what": "NumPy, instruction by instruction", "state": "ready"},
        {"device": "cpu", "what": "torch, whole-tensor golden model", "state": "ready"},
    ]
    report.show_rows("devices", rows)
    rows = [
        {
            "config": c.name,
            "array": f"{c.tile}x{c.tile}",
            "act_KiB": c.act_words * c.tile * 2 / 1024,
            "stat_KiB": c.memories.stat_words * c.tile / 1024,
            "bus_bits": c.memories.axi_data_bits,
            "digest": f"{c.digest:08x}",
        }
        for c in PRESETS.values()
    ]
    report.show_rows("configurations", rows)


@app.command()
def demo(
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    tokens: TokensOption = 32,
) -> None:
    """Embed real sentences with the real MiniLM on the full-size RTL, and compare with torch."""
    from transept.host.texts import DEMO_SENTENCES

    run("minilm", list(DEMO_SENTENCES), config, device, memory, seed, tokens, 0)


@app.command()
def run(
    model: Annotated[str, typer.Argument(help="minilm, a folder, or module:function")],
    text: Annotated[list[str] | None, typer.Option("--text", help="repeat for a batch")] = None,
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    tokens: TokensOption = 32,
    batch: Annotated[int, typer.Option("--batch", min=0, help="0: as many as texts")] = 0,
) -> None:
    """Run a model on texts (or module:function on its example) and show what happened."""
    if ":" in model:
        return _run_function(model, choose_config(config, memory), device, memory, seed)
    from transept.host.bench.model import bench_model
    from transept.host.models import load_text_model

    texts = text or []
    if not texts:
        raise ValueError("no --text given")
    if batch and batch != len(texts):
        raise ValueError(f"--batch {batch}, but {len(texts)} texts")
    chosen = choose_config(config, memory)
    options = device_options(device, memory, seed)
    with working(f"compiling {model} for {len(texts)} texts of {tokens} tokens"):
        loaded = load_text_model(model)
        program = loaded.compile(chosen, tokens=tokens, batch=len(texts))
    build_simulation(chosen, device)
    cycles = program.launch.total_macs / chosen.macs
    with running(f"running on {device.value}", cycles, options):
        result = bench_model(loaded, program, device=device.value, texts=texts, **options)
    report.show_model(result, chosen, memory.value)
    return None


def _run_function(
    name: str, config: Config, device: DeviceName, memory: MemoryName, seed: int
) -> None:
    import torch

    from transept.host.models import load_function
    from transept.host.program import compile

    module, example = load_function(name)
    build_simulation(config, device)
    with torch.no_grad():
        program = compile(module, example, config=config)
        got = program.run(*example, device=device.value, **device_options(device, memory, seed))
        want = module(*example)
    cosine = torch.nn.functional.cosine_similarity(got.flatten(), want.flatten(), dim=0)
    console.print(f"cosine to float32 {cosine.item():.5f}, shape {tuple(got.shape)}")
    for note in program.notes:
        console.print(f"note: {escape(note)}")


# --- programs ------------------------------------------------------------------------------------


@app.command("compile")
def compile_command(
    model: Annotated[str, typer.Argument(help="minilm, a folder, or module:function")],
    output: Annotated[Path, typer.Option("-o", "--output")],
    config: ConfigOption = "pynq_z2",
    memory: MemoryOption = MemoryName.default,
    tokens: TokensOption = 128,
    batch: BatchOption = 1,
) -> None:
    """Compile a model to a program file."""
    report.writable(output)
    chosen = choose_config(config, memory)
    with working(f"compiling {model} for {chosen.name}"):
        if ":" in model:
            from transept.host.models import load_function
            from transept.host.program import compile

            module, example = load_function(model)
            program = compile(module, example, config=chosen)
        else:
            from transept.host.models import load_text_model

            program = load_text_model(model).compile(chosen, tokens=tokens, batch=batch)
    program.save(output)
    count = len(program.launch.instructions) // isa.INSTRUCTION_BYTES
    size = program.launch.weights.size
    console.print(f"{output}: {count:,} instructions, {size:,} bytes of weights")


@app.command()
def disasm(file: Path) -> None:
    """Print the instructions of a program file."""
    from transept.host.launch import Launch

    for index, instruction in enumerate(Launch.load(file).decoded()):
        print(f"{index:6} {instruction}")


@app.command()
def trace(
    file: Path,
    output: Annotated[Path, typer.Option("-o", "--output")],
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
) -> None:
    """Run a program file on the RTL with random inputs and write a Chrome/Perfetto trace."""
    import numpy as np

    from transept.host.driver import Driver
    from transept.host.launch import Launch
    from transept.host.program import open_device
    from transept.sim.timeline import write_trace

    report.writable(output)
    launch = Launch.load(file)
    config = launch.config
    build_simulation(config, DeviceName.rtl)
    device = open_device("rtl", config, launch, memory=memory.value, seed=seed, timeline=True)
    rng = np.random.default_rng(seed)
    tensor = launch.inputs[0]
    dtype = np.int8 if tensor.bits == 8 else np.int16
    values = rng.integers(-127, 128, (tensor.rows, tensor.width)).astype(dtype)
    with working("running on the RTL"):
        driver = Driver(device)
        _, counters = driver.run(driver.load(launch), [values])
    simulation = device.simulation  # type: ignore[attr-defined]
    write_trace(output, simulation.timeline(), simulation.cycle, clock_mhz=config.clock_mhz)
    console.print(f"{output}: {counters.cycles:,} cycles; open it in ui.perfetto.dev")


@app.command()
def verilog(
    output: Annotated[Path, typer.Option("-o", "--output", help="folder")],
    config: ConfigOption = "pynq_z2",
) -> None:
    """Write the accelerator's Verilog."""
    import hashlib

    from transept.sim.build import accelerator_verilog

    text = accelerator_verilog(choose_config(config))
    output.mkdir(parents=True, exist_ok=True)
    path = output / "accelerator.v"
    path.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    console.print(f"{path}: {len(text.splitlines()):,} lines, sha256 {digest}")


@app.command("test")
def test_command(
    block: Annotated[str, typer.Argument(help="a folder of tests or part of a file's name")],
    seed: SeedOption = 1,
    waves: Annotated[bool, typer.Option("--waves", help="keep waveforms")] = False,
) -> None:
    """Run the tests of one block with a seed."""
    import os
    import subprocess

    root = Path(__file__).resolve().parents[1] / "tests"
    matches = [root / block] if (root / block).exists() else sorted(root.rglob(f"*{block}*.py"))
    matches = [path for path in matches if "benches" not in path.parts]
    if not matches:
        raise ValueError(f"no test {block!r} under {root.name}/")
    environment = os.environ | {"TRANSEPT_SEED": str(seed), "TRANSEPT_WAVES": str(int(waves))}
    command = [sys.executable, "-m", "pytest", "--rootdir", str(root.parent), *map(str, matches)]
    raise typer.Exit(subprocess.run(command, env=environment, cwd=root).returncode)


# --- measurements --------------------------------------------------------------------------------


@app.command()
def synth(
    config: ConfigOption = "pynq_z2",
    memory: MemoryOption = MemoryName.default,
    json: JsonOption = None,
) -> None:
    """Count the resources of the whole accelerator with Yosys."""
    from transept.host.synth import synthesise

    report.writable(json)
    with working("synthesising (minutes)"):
        result = synthesise(choose_config(config, memory))
    rows = [
        {"resource": name, "used": result[name], "limit": limit, "share": result[name] / limit}
        for name, limit in result["limits"].items()
    ]
    report.show_rows(f"{config} on {result['part']}", rows)
    report.show_rows("blocks", [{"block": n} | found for n, found in result["blocks"].items()])
    report.write_json(json, result)


def main() -> None:
    """Run the command line; an error is one line, with exit status 1, or 2 for wrong usage."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except UsageError as error:
        if message := error.format_message():  # empty where help was shown instead
            report.show_error(message)
        sys.exit(2)
    except (ValueError, RuntimeError, OSError, ImportError, KeyError) as error:
        report.show_error(error.args[0] if isinstance(error, KeyError) else error)
        sys.exit(1)


if __name__ == "__main__":
    main()
