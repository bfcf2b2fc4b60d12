"""``transept bench``: measure, and compare with golden forms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from transept.host import report
from transept.host.bench.gemm import DEFAULT_SHAPES, MAX_ROWS, bench_gemm, check_shape
from transept.host.cli.bench_language import bench_generate_command, bench_perplexity_command
from transept.host.cli.options import (
    BatchOption,
    ConfigOption,
    DeviceName,
    DeviceOption,
    FilterOption,
    JsonOption,
    MemoryName,
    MemoryOption,
    ModelOption,
    SeedOption,
    TextModelOption,
    TokensOption,
    build_simulation,
    check_accelerator,
    choose_config,
    device_options,
    prepare,
    running,
    working,
)
from transept.host.doctor import GPU
from transept.host.files import check_writable
from transept.host.report import console
from transept.host.texts import degenerate_texts, passages, read_passages
from transept.sim import build, tools

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Measure, and compare with golden forms.")


@app.command("gemm")
def bench_gemm_command(
    shapes: Annotated[
        list[str] | None,
        typer.Argument(help=f"MxNxK ...; M up to {MAX_ROWS:,}, N and K up to 255 tiles"),
    ] = None,
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    json: JsonOption = None,
) -> None:
    """Cycles of INT8 GEMMs whose operands and results are in memory."""
    chosen = choose_config(config, memory)
    check_writable(json)
    check_accelerator(device)
    wanted = shapes or list(DEFAULT_SHAPES)
    for shape in wanted:
        check_shape(chosen, shape)
    build_simulation(chosen, device)
    options = device_options(device, memory, seed)
    rate = report.RATES[memory.value]
    rows = []
    for shape in wanted:
        with working(shape):
            rows += bench_gemm(chosen, [shape], device=device.value, rate=rate, **options)
    report.show_rows(f"bench gemm, {chosen.name}, memory {memory.value}", rows)
    report.write_json(json, [row | {"memory": memory.value} for row in rows])


@app.command("compile")
def bench_compile_command(json: JsonOption = None) -> None:
    """Seconds that MiniLM and BERT-base of random weights take to compile, and their ratio."""
    check_writable(json)
    from transept.host.bench.compile import bench_compile

    with working("compiling, again and again"):
        rows = bench_compile()
    report.show_rows("bench compile", rows)
    report.write_json(json, rows)


@app.command("cpu")
def bench_cpu_command(json: JsonOption = None) -> None:
    """The CPU backend on a MiniLM of random weights: its time beside the golden model and torch."""
    check_writable(json)
    from transept.host.bench.cpu import bench_cpu

    with working("compiling, then running three ways"):
        rows = bench_cpu()
    report.show_rows("bench cpu", rows)
    report.write_json(json, rows)


@app.command("gpu")
def bench_gpu_command(json: JsonOption = None) -> None:
    """The kernels on a GPU: whether they are exact, and their time beside torch's own."""
    check_writable(json)
    tools.require(GPU)
    from transept.host.bench.gpu import bench_gpu

    result = bench_gpu(lambda text: console.print(text, highlight=False))
    shown = [
        {key: value for key, value in row.items() if key not in ("blocks", "tops")}
        for row in result["rows"]
    ]
    title = f"bench gpu, {result['card']}, torch {result['torch']}, triton {result['triton']}"
    for work in dict.fromkeys(row["work"].split(",")[0] for row in shown):
        rows = [row for row in shown if row["work"].split(",")[0] == work]
        names = dict.fromkeys(key for row in rows for key in row)
        report.show_rows(title, [{key: row.get(key) for key in names} for row in rows])
    report.write_json(json, result)


@app.command("hls")
def bench_hls_command(json: JsonOption = None) -> None:
    """Five blocks by high-level synthesis beside those in Amaranth: cycles, resources, lines."""
    check_writable(json)
    from transept.host.bench.hls import bench_hls

    with working("synthesising every block twice"):
        result = bench_hls()
    report.show_rows(f"bench hls, {result['config']}", result["rows"])
    report.show_rows("a product that avoids communication", [result["product"]])
    report.write_json(json, result)


@app.command("softmax")
def bench_softmax_command(
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    json: JsonOption = None,
) -> None:
    """Error of a softmax row against float64, and cycles of the unit."""
    from transept.host.bench.softmax import bench_softmax

    chosen = choose_config(config, memory)
    check_writable(json)
    check_accelerator(device)
    build_simulation(chosen, device)
    rows = bench_softmax(chosen, device=device.value, **device_options(device, memory, seed))
    report.show_rows(f"bench softmax, {chosen.name}, memory {memory.value}", rows)
    report.write_json(json, [row | {"memory": memory.value} for row in rows])


@app.command("model")
def bench_model_command(
    model: ModelOption = "minilm",
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    tokens: TokensOption = None,
    batch: BatchOption = None,
    key_filter: FilterOption = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="roofline, timeline and stalls as a picture")
    ] = None,
    json: JsonOption = None,
) -> None:
    """One whole model: cycles, utilisation, bytes, and mismatches against both golden forms."""
    chosen = choose_config(config, memory)
    check_writable(json)
    if plot is not None:
        from transept.host.bench.plot import check_plot, plot_model

        check_writable(plot)
        if device != DeviceName.rtl:
            raise ValueError(f"a plot needs cycles, {device.value} has none: --device rtl")
        check_plot(plot)
    options = device_options(device, memory, seed)
    ready = prepare(model, chosen, tokens=tokens, batch=batch, key_filter=key_filter)
    from transept.host.bench.model import bench_model

    build_simulation(chosen, device)
    with running(f"running on {device.value}", ready.macs / chosen.macs, options):
        result = bench_model(ready, device=device.value, **options)
    result["memory"] = memory.value
    report.show_model(result, chosen, memory.value)
    report.write_json(json, result)
    if plot is not None:
        plot_model(result, chosen, report.RATES[memory.value], plot)


@app.command("accuracy")
def bench_accuracy_command(
    texts: Annotated[Path | None, typer.Option("--texts", help="one passage a line")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="built-in passages")] = 200,
    degenerate: Annotated[bool, typer.Option("--degenerate", help="rules, tables, code")] = False,
    model: TextModelOption = "minilm",
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.emulator,
    json: JsonOption = None,
) -> None:
    """Cosine of embeddings to torch's float32, on real passages or on degenerate text."""
    chosen = choose_config(config)
    check_writable(json)
    if texts and degenerate:
        raise typer.BadParameter("--texts and --degenerate exclude each other")
    built_in = degenerate_texts() if degenerate else passages(count)
    found = read_passages(texts) if texts else built_in
    from transept.host.bench.accuracy import bench_accuracy
    from transept.host.models import load_text_model

    with Progress(console=console) as progress:
        task = progress.add_task(f"{len(found)} passages on {device.value}", total=len(found))
        result = bench_accuracy(
            load_text_model(model),
            found,
            chosen,
            device=device.value,
            progress=lambda done: progress.update(task, completed=done),
        )
    report.show_rows("bench accuracy", [result])
    report.write_json(json, result)


@app.command("sim")
def bench_sim_command(
    config: ConfigOption = "pynq_z2",
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    json: JsonOption = None,
) -> None:
    """Speed of the native harness, of the bare model, and of cocotb on the same program."""
    from transept.host.bench.sim import bench_sim

    chosen = choose_config(config, memory)
    check_writable(json)
    tools.require((*build.missing_tools(chosen), *tools.COCOTB))
    build_simulation(chosen, DeviceName.rtl)
    with working("running the same GEMM three ways"):
        result = bench_sim(chosen, memory=memory.value, seed=seed)
    report.show_rows(f"bench sim, {chosen.name}, memory {memory.value}", [result])
    report.write_json(json, result | {"memory": memory.value})


app.command("generate")(bench_generate_command)
app.command("perplexity")(bench_perplexity_command)
