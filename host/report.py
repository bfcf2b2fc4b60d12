"""Reports on the terminal: tables, bars and JSON files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transept.golden.config import Config

__all__ = [
    "cell",
    "console",
    "cycle_bar",
    "matrix",
    "show_error",
    "show_layers",
    "show_model",
    "show_rows",
    "writable",
    "write_json",
]

console = Console()
errors = Console(stderr=True)

#: Bytes a cycle of the simulated memories, for memory-bound figures.
RATES = {"default": 12.8, "board": 6.4}

BAR_WIDTH = 60


def show_error(error: object) -> None:
    """One line on standard error, whatever the message holds."""
    text = escape(" ".join(str(error).split()))
    errors.print(f"[red]error:[/red] {text}", highlight=False, soft_wrap=True)


def writable(path: Path | None) -> None:
    """Look before hours of work whether their result can be written.

    Raises
    ------
    ValueError
        If the folder does not exist, or the path is a folder.
    """
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"no folder {path.parent} for {path.name}")
    if path is not None and path.is_dir():
        raise ValueError(f"{path} is a folder")


def write_json(path: Path | None, result: Any) -> None:
    """Write ``result`` to ``path``, if there is one."""
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n")


def cell(value: object) -> str:
    """A table cell: thousands separated, four significant digits, ``-`` for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value)


def _table(title: str) -> Table:
    """A table without lines between columns, so that eight of them fit a narrow terminal."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)


def show_rows(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """A table with the keys of the first row as its columns."""
    table = _table(title)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    console.print(table)


def matrix(title: str, left: list[list[float]], right: list[list[float]], names: tuple) -> None:
    """Two square matrices side by side."""
    table = _table(title)
    for name in names:
        for index in range(len(left)):
            table.add_column(f"{name} {index}" if index == 0 else str(index), justify="right")
    for a, b in zip(left, right, strict=True):
        table.add_row(*(f"{value:.4f}" for value in (*a, *b)))
    console.print(table)


def cycle_bar(parts: Iterable[tuple[str, int, str]], total: int) -> None:
    """One bar of ``total`` cycles; parts are (name, cycles, colour)."""
    bar, legend = "", []
    for name, cycles, colour in parts:
        share = cycles / total if total else 0
        bar += f"[{colour}]" + "█" * round(share * BAR_WIDTH) + f"[/{colour}]"
        legend.append(f"[{colour}]█[/{colour}] {name} {share:.1%}")
    console.print(bar)
    console.print("  ".join(legend))


def show_layers(layers: list[dict], macs_per_cycle: int) -> None:
    """What ran where, and why: the same part of every layer in one row."""
    table = _table("what ran where")
    for name, side in (
        ("part", "left"),
        ("layers", "right"),
        ("device", "left"),
        ("cycles", "right"),
        ("utilisation", "right"),
        ("reason", "left"),
    ):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for layer in layers:
        part = re.sub(r"^.*\.\d+\.", "", layer["name"])
        groups.setdefault((part, layer["device"], layer["reason"]), []).append(layer)
    for (part, device, reason), members in groups.items():
        cycles = sum(layer["cycles"] or 0 for layer in members)
        macs = sum(layer["macs"] or 0 for layer in members)
        share = f"{macs / macs_per_cycle / cycles:.1%}" if cycles else "-"
        table.add_row(part, str(len(members)), device, cell(cycles or None), share, reason)
    console.print(table)


def show_model(result: dict, config: Config, memory: str) -> None:
    """The report of one run of ``bench.model``; memory: name of the simulated memory."""
    if len(result["texts"]) > 1:
        names = ("accelerator", "float32")
        matrix("similarity", result["similarity"], result["similarity_float32"], names)
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
    show_layers(result["layers"], config.macs)


def _show_cycles(result: dict, config: Config, memory: str) -> None:
    cycles = result["cycles"]
    console.print(
        f"{cycles:,} cycles = {cycles / config.clock_mhz / 1000:.2f} ms at {config.clock_mhz} MHz, "
        f"{result['utilisation']:.1%} of the array's peak, memory {memory} "
        f"({RATES[memory]} bytes a cycle)"
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
    cycle_bar(
        (
            ("GEMM", products, "green"),
            ("attention", min(array, attention), "cyan"),
            ("vector", vector, "yellow"),
            ("memory", waiting, "red"),
            ("pipeline", rest, "white"),
        ),
        cycles,
    )
