"""Reports on the terminal: tables, bars and JSON files."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.segment import Segments
from rich.table import Table

from transept.golden.config import Config
from transept.host.files import whole_file
from transept.host.placement.scheduler import Placed
from transept.host.placement.told import part_rows, summary, with_columns

__all__ = [
    "cell",
    "console",
    "cycle_bar",
    "matrix",
    "show_error",
    "show_layers",
    "show_model",
    "show_placement",
    "show_rows",
    "write_json",
]

console = Console()
errors = Console(stderr=True)

#: Bytes a cycle of the simulated memories, for memory-bound figures.
RATES = {"wide": 25.6, "default": 12.8, "board": 6.4}

BAR_WIDTH = 60


def show_error(error: object) -> None:
    """One line on standard error, whatever the message holds."""
    text = escape(" ".join(str(error).split()))
    errors.print(f"[red]error:[/red] {text}", highlight=False, soft_wrap=True)


def write_json(path: Path | None, result: Any) -> None:
    """Write ``result`` to ``path``, if there is one."""
    if path is not None:
        with whole_file(path) as place:
            place.write_text(json.dumps(result, indent=2) + "\n")


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


def _fit(columns: Sequence[Sequence[str]], width: int) -> tuple[list[int], bool]:
    """Widths of columns at which no word is broken, and whether they fit.

    What is left goes to the first columns, which say what a row is about.
    """
    widths = [
        max(cell_len(word) for text in col for word in text.split() or [""]) for col in columns
    ]
    spare = width - sum(widths) - len(columns) - 1
    fits = spare >= 0
    for index, column in enumerate(columns):
        more = min(max(map(cell_len, column)) - widths[index], max(spare, 0))
        widths[index] += more
        spare -= more
    return widths, fits


def _show_table(
    title: str, columns: Sequence[Sequence[str]], left: Collection[int] = (), *, turn: bool = False
) -> None:
    """A table of columns, each with its heading first; nothing is ever cut.

    left: columns of text, the others are numbers; turn: make rows of them if only that fits.
    """
    widths, fits = _fit(columns, console.width)
    turned = list(zip(*columns, strict=True))
    if turn and not fits and _fit(turned, console.width)[1]:
        _show_table(title, turned, left=(0,))
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
        side: JustifyMethod = "left" if index in left else "right"
        table.add_column(escape(column[0]), justify=side, width=width)
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*map(escape, row))
    # rather wider than the terminal than without its last digits
    room = console.options.update(width=max(console.width, sum(widths) + len(widths) + 1))
    console.print(Segments(console.render(table, room)), crop=False)


def show_rows(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """A table with the keys of the first row as its columns, or as its rows if they are many."""
    if not rows:
        console.print(f"{title}: nothing")
        return
    columns = [[name.replace("_", " "), *(cell(row[name]) for row in rows)] for name in rows[0]]
    text = [index for index, name in enumerate(rows[0]) if isinstance(rows[0][name], str)]
    _show_table(title, columns, text, turn=True)


def matrix(
    title: str, left: list[list[float]], right: list[list[float]], names: tuple[str, str]
) -> None:
    """Two square matrices side by side."""
    columns = [
        [f"{name} {index}" if index == 0 else str(index), *(f"{row[index]:.4f}" for row in values)]
        for name, values in zip(names, (left, right), strict=True)
        for index in range(len(left))
    ]
    _show_table(title, columns)


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
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for layer in layers:
        part = re.sub(r"^.*\.\d+\.", "", layer["name"])
        groups.setdefault((part, layer["device"], layer["reason"]), []).append(layer)
    rows = [("part", "layers", "device", "cycles", "utilisation", "reason")]
    for (part, device, reason), members in groups.items():
        cycles = sum(layer["cycles"] or 0 for layer in members)
        macs = sum(layer["macs"] or 0 for layer in members)
        share = f"{macs / macs_per_cycle / cycles:.1%}" if cycles else "-"
        rows.append((part, str(len(members)), device, cell(cycles or None), share, reason))
    _show_table("what ran where", list(zip(*rows, strict=True)), left=(0, 2, 5))


def show_model(result: dict, config: Config, memory: str) -> None:
    """The report of one run of ``bench.model``; memory: name of the simulated memory."""
    if len(result["texts"]) > 1:
        names = ("accelerator", "float32")
        matrix("similarity", result["similarity"], result["similarity_float32"], names)
    if result["texts"]:
        for text, cosine in zip(result["texts"], result["cosine"], strict=True):
            room = max(20, console.width - 28)
            console.print(f"cosine to float32 {cosine:.5f}  {escape(text[:room])}")
    else:
        rows = len(result["cosine"])
        console.print(f"cosine to float32 {result['cosine_min']:.5f} at least, of {rows} rows")
    wrong = result["mismatches_vs_emulator"], result["mismatches_vs_golden"]
    console.print(
        f"mismatches: {wrong[0]} against the emulator, {wrong[1]} against the golden model"
    )
    console.print(
        f"{result['macs_share']:.1%} of the multiply-accumulates in {result['regions']} regions or "
        f"parts of them, on {', '.join(result['devices'])}"
    )
    for note in result["notes"]:
        console.print(f"note: {escape(note)}")
    if result.get("cycles"):
        _show_cycles(result, config, memory)
    show_layers(result["layers"], config.macs)


def show_placement(placed: Sequence[Placed], clock: float | None = None) -> None:
    """Every part of each region: where it ran, what was predicted and measured, what else it would
    have taken."""
    for region in placed:
        found = summary(region, clock)
        show_rows(f"placement of {found['region']}", with_columns(part_rows(region, clock)))
        alone = ", ".join(f"{name} {cell(time)} ms" for name, time in found["alone_ms"].items())
        predicted, measured, bound = (
            cell(found[f"{name}_ms"]) for name in ("predicted", "measured", "bound")
        )
        least = " (no other parts take less)" if found["least"] else ""
        console.print(f"predicted {predicted} ms{least}, measured {measured} ms")
        console.print(f"alone: {alone}; no plan is below {bound} ms")


def _show_cycles(result: dict, config: Config, memory: str) -> None:
    cycles = result["cycles"]
    console.print(
        f"{cycles:,} cycles = {cycles / config.clock_mhz / 1000:.2f} ms at {config.clock_mhz} MHz, "
        f"{result['utilisation']:.1%} of the array's peak, memory {memory} "
        f"({RATES[memory]} bytes a cycle)"
    )
    speed = result.get("simulated_khz")
    simulated = "" if speed is None else f" ({speed:.0f} kHz)"
    console.print(
        f"{result['bytes_read']:,} bytes read, {result['bytes_written']:,} written; simulated in "
        f"{result['wall_seconds']:.1f} s{simulated}"
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
