"""``transept verilog``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from transept.host.cli.options import (
    BlocksOption,
    ConfigOption,
    FiltersOption,
    HlsOption,
    choose_config,
    working,
)
from transept.host.files import whole_file
from transept.host.report import console
from transept.sim.build import accelerator_verilog

__all__ = ["verilog"]


def verilog(
    output: Annotated[Path, typer.Option("-o", "--output", help="folder")],
    config: ConfigOption = "pynq_z2",
    hls: HlsOption = None,
    filters: FiltersOption = None,
    blocks: BlocksOption = None,
) -> None:
    """Write the accelerator's Verilog."""
    chosen = choose_config(config, hls=hls, filters=filters, blocks=blocks)
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is no folder")
    with working(f"elaborating {chosen.name}"):
        text = accelerator_verilog(chosen)
    output.mkdir(parents=True, exist_ok=True)
    path = output / "accelerator.v"
    with whole_file(path) as place:
        place.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    console.print(f"{path}: {len(text.splitlines()):,} lines, sha256 {digest}")
