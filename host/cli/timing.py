"""``transept timing``."""

from __future__ import annotations

from typing import Annotated

import typer

from transept.host import report
from transept.host.cli.options import (
    BlocksOption,
    ConfigOption,
    FiltersOption,
    JsonOption,
    choose_config,
    working,
)
from transept.host.files import check_writable
from transept.host.timing.report import estimate

__all__ = ["timing"]

PathsOption = Annotated[
    int, typer.Option("--paths", min=1, help="the longest paths, one of each pair of blocks")
]


def timing(
    config: ConfigOption = "pynq_z2",
    filters: FiltersOption = None,
    blocks: BlocksOption = None,
    paths: PathsOption = 20,
    json: JsonOption = None,
) -> None:
    """Estimate the clock that a 7-series part supports, and show the longest paths by block."""
    chosen = choose_config(config, filters=filters, blocks=blocks)
    check_writable(json)
    with working(f"timing of {chosen.name} (minutes, if its Verilog is new)"):
        result = estimate(chosen, paths)
    report.show_rows(
        f"{chosen.name}: estimate before place and route",
        [
            {
                "net model": name,
                "longest_ns": ns,
                "mhz": 1000 / ns,
                "nets_ns": result["method"]["nets_ns"][name],
                f"ends above {result['period_ns']:g} ns": result["late"][name],
            }
            for name, ns in result["longest_ns"].items()
        ],
    )
    shown = ("ns", "levels", "fanout", "from", "to")
    longest = [{key: at[key] for key in shown} for at in result["paths"]]
    report.show_rows("longest paths by block, nominal", longest)
    steps = result["paths"][0]["steps"] if result["paths"] else []
    longest = [at | {"beside": ", ".join(at["beside"])} for at in steps]
    report.show_rows("cells of the longest, with registers beside it", longest)
    report.write_json(json, result)
