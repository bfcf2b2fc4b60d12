"""``python -m mutants``: plant faults in the source and see whether the tests notice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mutants import equivalents
from mutants.campaign import Campaign, Records, Results, digest
from mutants.draw import draw
from mutants.project import Project
from mutants.report import console, estimate, share, show_results, show_verdict
from mutants.testmap import TestMap
from mutants.workers import Workers

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "mutants"
FLOORS = ("golden", "rtl", "host")
#: What keeps builds here.
BUILDER = "transept.sim.cache"


def main(
    seed: Annotated[int, typer.Option(help="which mutants")] = 1,
    count: Annotated[int, typer.Option(min=1, help="how many")] = 200,
    only: Annotated[list[str] | None, typer.Option(help="of a floor, folder or file")] = None,
    output: Annotated[Path | None, typer.Option(help="results, as JSON lines")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with these results")] = None,
    workers: Annotated[int, typer.Option(min=1, help="side by side")] = 2,
    aim: Annotated[float, typer.Option(help="the least share to be caught")] = 0.97,
    show: Annotated[bool, typer.Option("--list", help="only list the mutants")] = False,
) -> None:
    """Plant faults in rtl, golden and host, and see whether the tests notice."""
    places = [place.rstrip("/") for place in only or FLOORS]
    if unknown := [place for place in places if place.split("/")[0] not in FLOORS]:
        raise ValueError(f"{', '.join(unknown)}: faults are planted in {', '.join(FLOORS)}")
    mutants = draw(ROOT, places, seed, count)
    if show:
        return print(*mutants, sep="\n")
    path = resume or output or FOLDER / f"{seed}_{count}_{digest(mutants)}.jsonl"
    results = Results(path, mutants, resume=resume is not None)
    project = Project.of(ROOT, builder=BUILDER, cache=_cache())
    with Workers(project, workers) as copies:
        tests = _map(copies, project)
        minutes = estimate(tests, [mutants[i] for i in results.missing], workers) / 60
        console.print(f"{len(results.missing)} mutants, about {minutes:.0f} minutes")
        console.print(f"results: {path}", soft_wrap=True)
        _try(copies, Campaign(tests, equivalents.load(), results))
    show_results(mutants, results.verdicts)
    raise typer.Exit(int(share([*results.verdicts.values()]) < aim))


def _cache() -> Path:
    from transept.sim.cache import cache_dir

    return cache_dir()


def _map(copies: Workers, project: Project) -> TestMap:
    records = Records(FOLDER / "map", project)
    with _progress() as progress:
        missing = len(records.missing)
        for _ in progress.track(records.find(copies), missing, description="what each test calls"):
            pass
    for test in records.failing:
        console.print(f"[red]fails without a fault, is left out:[/red] {test}")
    return records.map()


def _try(copies: Workers, campaign: Campaign) -> None:
    with _progress() as progress:
        missing = len(campaign.results.missing)
        for found in progress.track(campaign.run(copies), missing, description="mutants"):
            show_verdict(*found)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


if __name__ == "__main__":
    try:
        typer.run(main)
    except (ValueError, RuntimeError, OSError) as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)
