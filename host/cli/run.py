"""``transept run``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from transept.golden.config import Config
from transept.host import report
from transept.host.cli.options import (
    ConfigOption,
    DeviceName,
    DeviceOption,
    MemoryName,
    MemoryOption,
    ModelArgument,
    SeedOption,
    TokensOption,
    build_simulation,
    choose_config,
    compile_texts,
    device_options,
    running,
    working,
)
from transept.host.report import console

if TYPE_CHECKING:
    import torch

__all__ = ["run"]


def run(
    model: ModelArgument,
    text: Annotated[list[str] | None, typer.Option("--text", help="repeat for a batch")] = None,
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    tokens: TokensOption = 32,
    batch: Annotated[int, typer.Option("--batch", min=0, help="0: as many as texts")] = 0,
) -> None:
    """Run a model on texts (or module:function on its example) and show what happened."""
    chosen = choose_config(config, memory)
    texts = text or []
    if ":" in model:
        if texts or batch:
            raise ValueError(f"{model} brings its own example, --text and --batch do not apply")
        return _run_function(model, chosen, device, memory, seed)
    if not texts:
        raise ValueError("no --text given")
    if batch and batch != len(texts):
        raise ValueError(f"--batch {batch}, but {len(texts)} texts")
    return _run_texts(model, texts, chosen, device, memory, seed, tokens)


def _run_texts(
    model: str,
    texts: list[str],
    config: Config,
    device: DeviceName,
    memory: MemoryName,
    seed: int,
    tokens: int,
) -> None:
    options = device_options(device, memory, seed)
    loaded, program = compile_texts(model, config, tokens, len(texts))
    from transept.host.bench.model import bench_model

    build_simulation(config, device)
    cycles = program.launch.total_macs / config.macs
    with running(f"running on {device.value}", cycles, options):
        result = bench_model(loaded, program, device=device.value, texts=texts, **options)
    report.show_model(result, config, memory.value)


def _run_function(
    name: str, config: Config, device: DeviceName, memory: MemoryName, seed: int
) -> None:
    import torch

    from transept.host.models import load_function
    from transept.host.program import compile

    module, example = load_function(name)
    with torch.no_grad():
        with working(f"compiling {name} for {config.name}"):
            program = compile(module, example, config=config)
        build_simulation(config, device)
        output = program.run(*example, device=device.value, **device_options(device, memory, seed))
        got, want = (list(_tensors(value)) for value in (output, module(*example)))
    if not got:
        raise ValueError(f"the model of {name} returns no tensor")
    pairs = zip(got, want, strict=True)
    cosines = (_cosine(a, b) for a, b in pairs)
    for tensor, cosine in zip(got, cosines, strict=True):
        console.print(f"cosine to float32 {cosine:.5f}, shape {tuple(tensor.shape)}")
    for note in program.notes:
        console.print(f"note: {escape(note)}")


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """The real tensors in what a model returns, which may be nested."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _cosine(got: torch.Tensor, want: torch.Tensor) -> float:
    import torch

    return torch.nn.functional.cosine_similarity(got.flatten(), want.flatten(), dim=0).item()
