"""The command line. Every command is a few lines over a function of the package."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from transept.golden import isa
from transept.golden.config import PRESETS, Config, preset
from transept.host import report
from transept.host.report import console

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
bench_app = typer.Typer(no_args_is_help=True, help="Measure, and compare with golden forms.")
app.add_typer(bench_app, name="bench")

#: typer brings its own click in some versions
UsageError = typer.BadParameter.__bases__[0]

#: Bytes a cycle of the simulated memories, for memory-bound figures.
RATES = {"default": 12.8, "board": 6.4}


class DeviceName(str, Enum):
    """Where a program runs."""

    rtl = "rtl"
    emulator = "emulator"
    cpu = "cpu"


class MemoryName(str, Enum):
    """Timing of the simulated DRAM."""

    default = "default"
    board = "board"


ConfigOption = Annotated[str, typer.Option("--config", help=f"one of {', '.join(PRESETS)}")]
DeviceOption = Annotated[DeviceName, typer.Option("--device")]
MemoryOption = Annotated[MemoryName, typer.Option("--memory", help="12.8 or 6.4 bytes a cycle")]
SeedOption = Annotated[int, typer.Option("--seed")]
TokensOption = Annotated[int, typer.Option("--tokens", min=1)]
BatchOption = Annotated[int, typer.Option("--batch", min=1)]
JsonOption = Annotated[Path | None, typer.Option("--json", help="write the result here")]
ModelOption = Annotated[str, typer.Option("--model", help="minilm or a folder")]


def _config(name: str, memory: MemoryName = MemoryName.default) -> Config:
    """The configuration; the board's memory has a 64-bit port."""
    config = preset(name)
    if memory == MemoryName.board and config.axi_data_bits > 64:
        return preset(f"{name}_board")
    return config


def _options(device: DeviceName, memory: MemoryName, seed: int) -> dict[str, Any]:
    options: dict[str, Any] = {"seed": seed}
    if device == DeviceName.rtl:
        options["memory"] = memory.value
    return options


def _progress(text: str) -> Progress:
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
def _running(text: str, cycles: float, options: dict[str, Any]) -> Iterator[None]:
    """A bar of simulated cycles, for devices that have them."""
    if "memory" not in options:
        with _progress(text):
            yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(text, total=cycles)
        options["progress"] = lambda done: progress.update(task, completed=done)
        yield
        progress.update(task, completed=cycles)


def _build(config: Config, device: DeviceName) -> None:
    """Build the simulation with progress shown, so that later steps only run."""
    if device == DeviceName.rtl:
        from transept.sim.build import accelerator_library

        with _progress(f"building the {config.name} RTL (kept for later runs)"):
            accelerator_library(config)


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
            "stat_KiB": c.stat_words * c.tile / 1024,
            "bus_bits": c.axi_data_bits,
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
        return _run_function(model, _config(config, memory), device, memory, seed)
    from transept.host.bench.model import bench_model
    from transept.host.models import load_text_model

    texts = text or []
    if not texts:
        raise ValueError("no --text given")
    if batch and batch != len(texts):
        raise ValueError(f"--batch {batch}, but {len(texts)} texts")
    chosen = _config(config, memory)
    _build(chosen, device)
    options = _options(device, memory, seed)
    with _progress(f"compiling {model} for {len(texts)} texts of {tokens} tokens"):
        loaded = load_text_model(model)
        program = loaded.compile(chosen, tokens=tokens, batch=len(texts))
    cycles = program.launch.total_macs / chosen.macs
    with _running(f"running on {device.value}", cycles, options):
        result = bench_model(loaded, program, device=device.value, texts=texts, **options)
    _show_model(result, chosen, memory)
    return None


def _run_function(
    name: str, config: Config, device: DeviceName, memory: MemoryName, seed: int
) -> None:
    import torch

    from transept.host.models import load_function
    from transept.host.program import compile

    module, example = load_function(name)
    _build(config, device)
    with torch.no_grad():
        program = compile(module, example, config=config)
        got = program.run(*example, device=device.value, **_options(device, memory, seed))
        want = module(*example)
    cosine = torch.nn.functional.cosine_similarity(got.flatten(), want.flatten(), dim=0)
    console.print(f"cosine to float32 {cosine.item():.5f}, shape {tuple(got.shape)}")
    for note in program.notes:
        console.print(f"note: {escape(note)}")


def _show_model(result: dict, config: Config, memory: MemoryName) -> None:
    """The report of one model run."""
    if len(result["texts"]) > 1:
        names = ("accelerator", "float32")
        report.matrix("similarity", result["similarity"], result["similarity_float32"], names)
    for text, cosine in zip(result["texts"], result["cosine"], strict=True):
        console.print(f"cosine to float32 {cosine:.5f}  {escape(text[:70])}")
    wrong = result["mismatches_vs_emulator"], result["mismatches_vs_golden"]
    console.print(
        f"mismatches: {wrong[0]} against the emulator, {wrong[1]} against the golden model"
    )
    for note in result["notes"]:
        console.print(f"note: {escape(note)}")
    if result.get("cycles"):
        _show_cycles(result, config, memory)
    report.show_layers(result["layers"], config.macs)


def _show_cycles(result: dict, config: Config, memory: MemoryName) -> None:
    cycles = result["cycles"]
    console.print(
        f"{cycles:,} cycles = {cycles / config.clock_mhz / 1000:.2f} ms at {config.clock_mhz} MHz, "
        f"{result['utilisation']:.1%} of the array's peak, memory {memory.value} "
        f"({RATES[memory.value]} bytes a cycle)"
    )
    console.print(
        f"{result['bytes_read']:,} bytes read, {result['bytes_written']:,} written; simulated in "
        f"{result['wall_seconds']:.1f} s ({result['simulated_khz']:.0f} kHz)"
    )
    attention = sum(
        layer["cycles"] or 0 for layer in result["layers"] if layer["name"].endswith(".attention")
    )
    stalls = result["stalls"]["GEMM"]
    array = result["array_cycles"]
    products = max(0, array - min(array, attention))
    vector = stalls["TOKEN"] + stalls["ACCUMULATOR"] + stalls["FILTER"]
    waiting = stalls["WEIGHTS"] + stalls["SCRATCHPAD"]
    rest = max(0, cycles - products - min(array, attention) - vector - waiting)
    report.cycle_bar(
        (
            ("GEMM", products, "green"),
            ("attention", min(array, attention), "cyan"),
            ("vector", vector, "yellow"),
            ("memory", waiting, "red"),
            ("pipeline", rest, "white"),
        ),
        cycles,
    )


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
    chosen = _config(config, memory)
    with _progress(f"compiling {model} for {chosen.name}"):
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
    _build(config, DeviceName.rtl)
    device = open_device("rtl", config, launch, memory=memory.value, seed=seed, timeline=True)
    rng = np.random.default_rng(seed)
    tensor = launch.inputs[0]
    dtype = np.int8 if tensor.bits == 8 else np.int16
    values = rng.integers(-127, 128, (tensor.rows, tensor.width)).astype(dtype)
    with _progress("running on the RTL"):
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

    text = accelerator_verilog(_config(config))
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
    with _progress("synthesising (minutes)"):
        result = synthesise(_config(config, memory))
    rows = [
        {"resource": name, "used": result[name], "limit": limit, "share": result[name] / limit}
        for name, limit in result["limits"].items()
    ]
    report.show_rows(f"{config} on {result['part']}", rows)
    report.show_rows("blocks", [{"block": n} | found for n, found in result["blocks"].items()])
    report.write_json(json, result)


@bench_app.command("gemm")
def bench_gemm_command(
    shapes: Annotated[list[str] | None, typer.Argument(help="MxNxK ...")] = None,
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    json: JsonOption = None,
) -> None:
    """Cycles of INT8 GEMMs whose operands and results are in memory."""
    from transept.host.bench.gemm import DEFAULT_SHAPES, bench_gemm

    report.writable(json)
    chosen = _config(config, memory)
    _build(chosen, device)
    options = _options(device, memory, seed)
    del options["seed"]
    rate = RATES[memory.value]
    wanted = shapes or list(DEFAULT_SHAPES)
    rows = bench_gemm(chosen, wanted, device=device.value, seed=seed, rate=rate, **options)
    report.show_rows(f"bench gemm, {chosen.name}, memory {memory.value}", rows)
    report.write_json(json, rows)


@bench_app.command("softmax")
def bench_softmax_command(
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    json: JsonOption = None,
) -> None:
    """Error of a softmax row against float64, and cycles of the unit."""
    from transept.host.bench.softmax import bench_softmax

    report.writable(json)
    chosen = _config(config, memory)
    _build(chosen, device)
    rows = bench_softmax(chosen, device=device.value, **_options(device, memory, seed))
    report.show_rows(f"bench softmax, {chosen.name}, memory {memory.value}", rows)
    report.write_json(json, rows)


@bench_app.command("model")
def bench_model_command(
    model: ModelOption = "minilm",
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    tokens: TokensOption = 128,
    batch: BatchOption = 1,
    json: JsonOption = None,
) -> None:
    """One whole model: cycles, utilisation, bytes, and mismatches against both golden forms."""
    from transept.host.bench.model import bench_model
    from transept.host.models import load_text_model

    report.writable(json)
    chosen = _config(config, memory)
    _build(chosen, device)
    options = _options(device, memory, seed)
    with _progress(f"compiling {model} for {batch} x {tokens} tokens"):
        loaded = load_text_model(model)
        program = loaded.compile(chosen, tokens=tokens, batch=batch)
    cycles = program.launch.total_macs / chosen.macs
    with _running(f"running on {device.value}", cycles, options):
        result = bench_model(loaded, program, device=device.value, **options)
    result["memory"] = memory.value
    _show_model(result, chosen, memory)
    report.write_json(json, result)


@bench_app.command("accuracy")
def bench_accuracy_command(
    texts: Annotated[Path | None, typer.Option("--texts", help="one passage a line")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="built-in passages")] = 200,
    model: ModelOption = "minilm",
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.emulator,
    json: JsonOption = None,
) -> None:
    """Cosine of embeddings to torch's float32 on real passages."""
    from transept.host.bench.accuracy import bench_accuracy
    from transept.host.models import load_text_model
    from transept.host.texts import passages, read_passages

    report.writable(json)
    chosen = read_passages(texts) if texts else passages(count)
    with Progress(console=console) as progress:
        task = progress.add_task(f"{len(chosen)} passages on {device.value}", total=len(chosen))
        result = bench_accuracy(
            load_text_model(model),
            chosen,
            _config(config),
            device=device.value,
            progress=lambda done: progress.update(task, completed=done),
        )
    report.show_rows("bench accuracy", [result])
    report.write_json(json, result)


@bench_app.command("sim")
def bench_sim_command(
    config: ConfigOption = "pynq_z2",
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    json: JsonOption = None,
) -> None:
    """Speed of the native harness, of the bare model, and of cocotb on the same program."""
    from transept.host.bench.sim import bench_sim

    report.writable(json)
    chosen = _config(config, memory)
    _build(chosen, DeviceName.rtl)
    with _progress("running the same GEMM three ways"):
        result = bench_sim(chosen, memory=memory.value, seed=seed)
    report.show_rows(f"bench sim, {chosen.name}, memory {memory.value}", [result])
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
