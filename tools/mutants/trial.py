"""One mutant on trial: does a test see it, does it change nothing, or does it survive?"""

from __future__ import annotations

import time
from dataclasses import dataclass

from mutants.draw import Mutant
from mutants.equivalents import Equivalent, reason
from mutants.hardware import same_verilog
from mutants.mutations import same_code
from mutants.project import Scratch
from mutants.testmap import Test, TestMap, batches, elaborates, relevant, runs
from mutants.watch import Failure, limit, run_tests

__all__ = ["CAUGHT", "EQUIVALENT", "SURVIVED", "Verdict", "judge"]

CAUGHT, EQUIVALENT, SURVIVED = "caught", "equivalent", "survived"


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    status: str
    why: str  # how it was caught, why it changes nothing, or how many tests did not see it
    test: str = ""  # that caught it
    seconds: float = 0.0


def judge(scratch: Scratch, tests: TestMap, known: list[Equivalent], mutant: Mutant) -> Verdict:
    """Try one mutant in a copy, which is clean again afterwards."""
    text = (scratch.root / mutant.file).read_text()
    listed = reason(known, mutant)
    if listed is not None:
        return Verdict(EQUIVALENT, listed)
    if same_code(text, mutant.mutation.apply(text)):
        return Verdict(EQUIVALENT, "the same code")
    begun = time.monotonic()
    with scratch.planted(mutant):
        verdict = _try(scratch, tests, mutant)
    return Verdict(*verdict, seconds=round(time.monotonic() - begun, 1))


def _try(scratch: Scratch, tests: TestMap, mutant: Mutant) -> tuple[str, str, str]:
    chosen = relevant(tests, mutant)
    unchanged: bool | None = None  # its Verilog, made only for what the quickest tests do not see
    for batch in batches(chosen, mutant):
        if unchanged:
            batch = [test for test in batch if _may_differ(test, tests, mutant)]
        failure = _run(scratch, batch)
        if failure is not None:
            return CAUGHT, failure.how, failure.test
        if unchanged is None:
            unchanged = _is_unchanged(scratch, tests, mutant)
    if unchanged:
        return EQUIVALENT, f"the same Verilog of {', '.join(tests.texts)}", ""
    return SURVIVED, f"tests run: {len(chosen)}", ""


def _run(scratch: Scratch, batch: list[Test]) -> Failure | None:
    limits = {test.name: limit(test.seconds) for test in batch}
    return run_tests(scratch, limits) if limits else None


def _may_differ(test: Test, tests: TestMap, mutant: Mutant) -> bool:
    """Whether a test may see a fault that leaves the accelerators of the map as they are: it makes
    others, or single components."""
    others = not test.accelerators or not test.accelerators <= set(tests.texts)
    return others and runs(test, mutant)


def _is_unchanged(scratch: Scratch, tests: TestMap, mutant: Mutant) -> bool:
    """Whether it leaves the hardware as it is. A forgotten error is no hardware, and what makes no
    accelerator of the map makes another one."""
    if mutant.floor != "rtl" or mutant.mutation.guard or not elaborates(tests, mutant):
        return False
    return same_verilog(scratch, tests.texts)
