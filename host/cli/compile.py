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
    compile_texts,
    working,
)
from transept.host.files import check_writable, whole_file
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
    if ":" in model:
        program = _compile_function(model, chosen)
    else:
        _, program = compile_texts(model, chosen, tokens, batch)
    with whole_file(output) as place:
        program.save(place)
    count = len(program.launch.instructions) // isa.INSTRUCTION_BYTES
    size = program.launch.weights.size
    console.print(f"{output}: {count:,} instructions, {size:,} bytes of weights")


def _compile_function(name: str, config: Config) -> Program:
    from transept.host.models import load_function
    from transept.host.program import compile

    module, example = load_function(name)
    with working(f"compiling {name} for {config.name}"):
        return compile(module, example, config=config)
