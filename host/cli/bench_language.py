"""``transept bench generate`` and ``transept bench perplexity``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from transept.host import report
from transept.host.cli.options import (
    ConfigOption,
    DeviceName,
    DeviceOption,
    JsonOption,
    LanguageOption,
    MemoryName,
    MemoryOption,
    SeedOption,
    WeightsName,
    WeightsOption,
    build_simulation,
    check_accelerator,
    choose_config,
    device_options,
    language,
    working,
)
from transept.host.files import check_writable
from transept.host.language.model import SMOLLM2
from transept.host.report import console
from transept.host.texts import passages, read_passages

__all__ = ["bench_generate_command", "bench_perplexity_command"]


def bench_generate_command(
    model: LanguageOption = SMOLLM2,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="of the first so many alone")
    ] = None,
    phase: Annotated[
        list[str] | None, typer.Option("--phase", help="prefill or decode, both if not told")
    ] = None,
    context: Annotated[
        list[int] | None, typer.Option("--context", help="of these cases alone")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option("--batch", help="of these cases alone")] = None,
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    weights: WeightsOption = WeightsName.w8,
    seed: SeedOption = 1,
    json: JsonOption = None,
) -> None:
    """Cycles and bytes of a language model's steps, and whether their logits are the CPU's."""
    from transept.host.bench.generate import CASES, bench_generate

    chosen = choose_config(config, memory)
    check_writable(json)
    check_accelerator(device)
    wanted = [
        case
        for case in CASES
        if (not phase or case.phase in phase)
        and (not context or case.context in context)
        and (not batch or case.batch in batch)
    ]
    if not wanted:
        known = "; ".join(str(case) for case in CASES)
        raise ValueError(f"no case is left of {known}")
    program = language(model, chosen, weights, layers)
    build_simulation(chosen, device)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("")
        found = bench_generate(
            program,
            wanted,
            device=device.value,
            rate=report.RATES[memory.value],
            progress=lambda what: progress.update(task, description=what),
            **device_options(device, memory, seed),
        )
    rows = [row | {"weights": weights.value, "memory": memory.value} for row in found]
    report.show_rows(f"bench generate, {model}, {chosen.name}", rows)
    report.write_json(json, rows)


def bench_perplexity_command(
    model: LanguageOption = SMOLLM2,
    texts: Annotated[
        Path | None, typer.Option("--texts", help="a passage a line; Python's reference if none")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=2, help="in all, at most")] = 2048,
    window: Annotated[int, typer.Option("--window", min=2, help="tokens of a text")] = 128,
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.cpu,
    weights: WeightsOption = WeightsName.w8,
    json: JsonOption = None,
) -> None:
    """Perplexity of a quantised language model on real text, and how far it is from the float."""
    chosen = choose_config(config)
    check_writable(json)
    if device == DeviceName.auto:
        raise ValueError("device auto is for whole runs; bench perplexity takes one device")
    found = read_passages(texts) if texts else passages()
    program = language(model, chosen, weights)
    from transept.host.bench.perplexity import bench_perplexity
    from transept.host.generation.session import LanguageSession
    from transept.host.language.model import load_language_model

    with working(f"loading {model} in float"):
        loaded = load_language_model(model)
    with Progress(console=console) as progress:
        task = progress.add_task(f"{tokens} tokens on {device.value}", total=tokens)
        result = bench_perplexity(
            loaded,
            LanguageSession(program, device.value),
            found,
            tokens=tokens,
            window=window,
            progress=lambda done: progress.update(task, completed=done),
        )
    report.show_rows(f"bench perplexity, {model}", [result])
    report.write_json(json, result)
