"""``transept run``."""

from __future__ import annotations

from typing import Annotated

import typer

from transept.host import report
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

__all__ = ["run"]

#: Of a sequence, if nobody says: sentences are short.
TOKENS = 32


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
) -> None:
    """Run a model on texts (or module:function on its example) and show what happened."""
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
    with running(f"running on {device.value}", ready.macs / chosen.macs, options):
        result = bench_model(ready, device=device.value, **options)
    report.show_model(result, chosen, memory.value)
