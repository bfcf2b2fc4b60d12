"""``transept compile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transept.golden import isa
from transept.golden.config import Config
from transept.host.cli.options import (
    BatchOption,
    ConfigOption,
    MemoryName,
    MemoryOption,
    ModelArgument,
    TokensOption,
    choose_config,
    working,
)
from transept.host.files import check_writable, whole_file
from transept.host.limits import check_sequences
from transept.host.report import console

if TYPE_CHECKING:
    from transept.host.program import Program

__all__ = ["compile"]


def compile(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("-o", "--output")],
    config: ConfigOption = "pynq_z2",
    memory: MemoryOption = MemoryName.default,
    tokens: TokensOption = 128,
    batch: BatchOption = 1,
) -> None:
    """Compile a model to a program file; module:function brings its own tokens and batch."""
    chosen = choose_config(config, memory)
    check_writable(output)
    if output.exists() and not output.is_file():
        raise ValueError(f"{output} is no regular file")
    if ":" not in model:
        check_sequences(chosen, tokens=tokens, batch=batch)
    with working(f"compiling {model} for {chosen.name}"):
        program = _compile(model, chosen, tokens, batch)
    with whole_file(output) as place:
        program.save(place)
    count = len(program.launch.instructions) // isa.INSTRUCTION_BYTES
    size = program.launch.weights.size
    console.print(f"{output}: {count:,} instructions, {size:,} bytes of weights")


def _compile(model: str, config: Config, tokens: int, batch: int) -> Program:
    if ":" in model:
        from transept.host.models import load_function
        from transept.host.program import compile

        module, example = load_function(model)
        return compile(module, example, config=config)
    from transept.host.models import load_text_model

    return load_text_model(model).compile(config, tokens=tokens, batch=batch)
