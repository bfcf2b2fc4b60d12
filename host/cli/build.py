"""``transept build``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from transept.host import report
from transept.host.cli.options import JsonOption, working
from transept.host.files import check_writable
from transept.host.flows.base import NO_TOOL, Built, FlowError
from transept.host.flows.catalogue import FLOWS
from transept.host.report import console

__all__ = ["build"]

BuildableName = Enum("BuildableName", {name: name for name in FLOWS}, type=str)  # type: ignore[misc]


def build(
    output: Annotated[Path, typer.Option("-o", "--output", help="folder")],
    name: Annotated[BuildableName, typer.Option("--board")] = BuildableName.pynq_z2,  # type: ignore[attr-defined]
    limit: Annotated[
        float, typer.Option("--limit", min=0.001, help="minutes after which tools are stopped")
    ] = 360.0,
    json: JsonOption = None,
) -> None:
    """Make everything for a board: its bitstream, or, where the vendor's tools are missing, the
    complete project that another machine builds by one command."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is no folder")
    check_writable(json)
    try:
        with working(f"building {name.value}") as progress:
            task = progress.task_ids[0]
            built = FLOWS[name.value](
                output, 60 * limit, lambda text: progress.update(task, description=text)
            )
    except FlowError as error:
        report.write_json(json, error.built.facts())
        raise
    report.write_json(json, built.facts())
    _show(built, output)


def _show(built: Built, output: Path) -> None:
    if built.tool == NO_TOOL:
        lines = [
            f"{built.board}: no bitstream, its tool is not on PATH.",
            f"{output} is the whole project; where the tool is, one command builds it:",
            f"    {built.command}",
        ]
        for line in lines:
            console.print(line, highlight=False, soft_wrap=True)
        return
    resources = ", ".join(
        f"{getattr(built, n):,g} {n.upper()}" for n in ("lut", "ff", "dsp", "bram")
    )
    console.print(f"{built.bitstream}", highlight=False, soft_wrap=True)
    console.print(
        f"{built.tool}, {resources}; {built.clock_mhz:g} MHz, {built.fmax_mhz:g} by its timing",
        highlight=False,
        soft_wrap=True,
    )
