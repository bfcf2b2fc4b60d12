"""``transept compile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from transept.golden import isa
from transept.host.cli.options import (
    BatchOption,
    ConfigOption,
    FilterOption,
    MemoryName,
    MemoryOption,
    ModelArgument,
    TokensOption,
    choose_config,
    prepare,
)
from transept.host.files import check_writable
from transept.host.report import console

__all__ = ["compile"]


def compile(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("-o", "--output")],
    config: ConfigOption = "pynq_z2",
    memory: MemoryOption = MemoryName.default,
    tokens: TokensOption = None,
    batch: BatchOption = None,
    key_filter: FilterOption = None,
) -> None:
    """Compile a model to a program file; module:function brings its own tokens and batch."""
    chosen = choose_config(config, memory)
    check_writable(output)
    if output.exists() and not output.is_file():
        raise ValueError(f"{output} is no regular file")
    ready = prepare(model, chosen, tokens=tokens, batch=batch, key_filter=key_filter)
    ready.program.save(output)
    executables = [e for region in ready.program.regions for e in region.executables.values()]
    count = sum(len(e.instructions) for e in executables) // isa.INSTRUCTION_BYTES
    size = sum(region.weights.size for region in ready.program.regions)
    console.print(
        f"{output}: {len(ready.program.regions)} regions, {count:,} instructions, "
        f"{size:,} bytes of weights"
    )
