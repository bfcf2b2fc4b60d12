"""``bench generate``: what a step of a language model takes, at several contexts and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transept.host.backends.catalogue import CPU
from transept.host.generation.accelerator import PagedDecoder
from transept.host.generation.arrays import ArrayDecoder, ArraySequence
from transept.host.generation.decoder import Cost, Growth
from transept.host.language.program import LanguageProgram
from transept.host.runtime.paged import pages_of
from transept.host.texts import passages

__all__ = ["CASES", "Case", "bench_generate"]


@dataclass(frozen=True)
class Case:
    """A step: new rows of each of ``batch`` sequences, which have ``context`` rows then."""

    phase: str
    context: int
    batch: int
    rows: int

    def __str__(self) -> str:
        return f"{self.phase}, {self.batch} x {self.rows} tokens, context {self.context}"


#: From the first tokens to a context that on-chip memories do not hold.
CASES = (
    Case("prefill", 16, 1, 16),
    Case("prefill", 128, 1, 128),
    Case("decode", 256, 1, 1),
    Case("decode", 256, 4, 1),
    Case("decode", 256, 16, 1),
    Case("decode", 1024, 1, 1),
    Case("decode", 2048, 1, 1),
)


def bench_generate(
    program: LanguageProgram,
    cases: Sequence[Case],
    *,
    device: str,
    rate: float,
    progress: Callable[[str], None] = lambda what: None,
    **options: Any,
) -> list[dict[str, Any]]:
    """One row for each case. Earlier rows come from the CPU; the step runs on the device, and its
    logits are compared with the CPU's.

    rate: bytes a cycle of the memory; progress: hears what is done.
    """
    pages = max(case.batch * pages_of(case.context) for case in cases)
    decoder = PagedDecoder(program, device, pages=pages, **options)
    reference = ArrayDecoder(program, CPU)
    text = program.vocabulary.encode("\n\n".join(passages()))
    return [_row(program, decoder, reference, case, text, rate, progress) for case in cases]


def _row(
    program: LanguageProgram,
    decoder: PagedDecoder,
    reference: ArrayDecoder,
    case: Case,
    text: list[int],
    rate: float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    before = case.context - case.rows
    growths, wanted = [], []
    for number in range(case.batch):
        progress(f"{case}: sequence {number + 1} on {CPU}")
        start = number * case.context % max(1, len(text) - case.context)
        ids = (text[start:] + text)[: case.context]
        known = _sequence(reference, ids[:before])
        place = decoder.start()
        if before:
            decoder.paged.restore(place, reference.states(known))
        growths.append(Growth(place, ids[before:], 1))
        wanted.append(reference.step([Growth(known, ids[before:], 1)])[0][0])
    progress(f"{case}: on the device")
    found, cost = _grown(decoder, growths)
    for growth in growths:
        decoder.release(growth.sequence)
    cycles = cost.cycles or None
    clock = program.config.clock_mhz * 1e6
    return {
        "phase": case.phase,
        "context": case.context,
        "batch": case.batch,
        "rows": case.rows,
        "layers": program.depth,
        "cycles": cycles,
        "predicted_cycles": cost.predicted,
        "head_cycles": cost.head_cycles or None,
        "bytes": cost.nbytes or None,
        "bandwidth_share": cycles and cost.nbytes / rate / cycles,
        "utilisation": cycles and cost.array_cycles / cycles,
        "layers_utilisation": cycles and cost.layers_utilisation,
        "tokens_per_second": case.batch * case.rows * clock / (cycles or cost.predicted),
        "mismatches": int(sum((a != b).sum() for a, b in zip(found, wanted, strict=True))),
    }


def _grown(decoder: PagedDecoder, growths: Sequence[Growth]) -> tuple[list[np.ndarray], Cost]:
    """Logits of the last token of each; a sequence that grows by more than a step takes several."""
    cost = Cost()
    for sequence, ids, _ in growths:
        start = 0
        *parts, _ = decoder.parts(len(ids))
        for count in parts:
            _, more = decoder.step([Growth(sequence, ids[start : start + count], 0)])
            cost, start = cost + more, start + count
    last = [Growth(g.sequence, g.ids[-decoder.parts(len(g.ids))[-1] :], 1) for g in growths]
    found, more = decoder.step(last)
    return found, cost + more


def _sequence(reference: ArrayDecoder, ids: Sequence[int]) -> ArraySequence:
    """One with these tokens."""
    sequence = reference.start()
    start = 0
    for count in reference.parts(len(ids)):
        reference.step([Growth(sequence, ids[start : start + count], 0)])
        start += count
    return sequence
