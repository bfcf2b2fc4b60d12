"""What a run has found, on the terminal."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mutants.draw import Mutant
from mutants.testmap import TestMap, batches, cost, relevant
from mutants.trial import CAUGHT, EQUIVALENT, SURVIVED, Verdict

__all__ = ["console", "estimate", "share", "show_results", "show_verdict"]

console = Console()
COLOURS = {CAUGHT: "green", EQUIVALENT: "blue", SURVIVED: "red"}

#: What is reckoned with: one in ten mutants is tried on all of its tests, the others on the first.
SURVIVING = 0.1


def estimate(tests: TestMap, mutants: Sequence[Mutant], workers: int) -> float:
    """Seconds that a run will take, roughly."""
    total = 0.0
    for mutant in mutants:
        prices = [
            sum(cost(test, mutant) for test in batch) + max(test.startup for test in batch)
            for batch in batches(relevant(tests, mutant), mutant)
        ]
        total += (1 - SURVIVING) * sum(prices[:1]) + SURVIVING * sum(prices)
    return total / workers


def share(verdicts: Sequence[Verdict]) -> float:
    """The part of the mutants that change something which a test has seen; 1 if there are none."""
    found = Counter(verdict.status for verdict in verdicts)
    relevant_ones = found[CAUGHT] + found[SURVIVED]
    return found[CAUGHT] / relevant_ones if relevant_ones else 1.0


def show_verdict(mutant: Mutant, verdict: Verdict) -> None:
    """A mutant and what became of it."""
    colour, fault = COLOURS[verdict.status], mutant.mutation
    by = f" by {verdict.test}" if verdict.test else ""
    head = f"{mutant.file}:{fault.line} {verdict.seconds:.0f} s, {verdict.why}{by}"
    console.print(f"[{colour}]{verdict.status:10}[/{colour}] {escape(head)}", soft_wrap=True)
    if verdict.status != CAUGHT:
        console.print(escape(f"    - {fault.before}\n    + {fault.after}"), soft_wrap=True)


def show_results(mutants: Sequence[Mutant], verdicts: Mapping[int, Verdict]) -> None:
    """How many of each floor were caught, and every mutant that survived."""
    table = Table("floor", "mutants", "caught", "hung", "survived", "equivalent", "share")
    table.add_column("s each")
    floors = sorted({mutant.floor for mutant in mutants})
    for floor in [*floors, "all"]:
        part = [v for i, v in verdicts.items() if floor in (mutants[i].floor, "all")]
        found = Counter(verdict.status for verdict in part)
        hung = sum(verdict.why == "hung" for verdict in part)
        counts = (len(part), found[CAUGHT], hung, found[SURVIVED], found[EQUIVALENT])
        mean = statistics.fmean([verdict.seconds for verdict in part] or [0.0])
        table.add_row(floor, *map(str, counts), f"{share(part):.1%}", f"{mean:.0f}")
    for index, verdict in sorted(verdicts.items()):
        if verdict.status == SURVIVED:
            show_verdict(mutants[index], verdict)
    console.print(table)
