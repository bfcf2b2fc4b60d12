"""What a launch and each operator take, from the times of whole graphs and of their parts.

With parts at every place where a graph may be cut, the sum of their times exceeds the time of the
whole by a launch for each cut, and by the transfers. So predictions hold at both ends: for the
graph in one part, and cut everywhere. What operators gain by running together (a kernel for two,
rows that are quantised once) is lost by a cut, and is in the launch. Operators between which there
is no cut share the time of their part as they take when they are alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from transept.host.placement.costs import DeviceCosts, Sample, features, kind_of, signature
from transept.host.placement.parts import Work, boundaries

__all__ = ["Times", "decompose"]

#: Seconds of each work, as in a run of the first one; infinite if the device cannot run it.
Times = Callable[[Sequence[Work]], Sequence[float]]
#: First operator, and the one behind the last.
Span = tuple[int, int]
#: Work takes at least so much of what was measured with its launch and transfers.
LEAST_SHARE = 0.02


def decompose(
    works: Sequence[Work], times: Times, bytes_per_second: float, launch: float
) -> DeviceCosts:
    """Costs of a device for the operators of some works.

    launch: seconds of one, if no work can be cut, or noise hides what cuts cost.
    """
    found = DeviceCosts(launch, bytes_per_second)
    seen: set[str] = set()
    measured = []
    for work in works:
        keys = {signature(work.graph, work.shape, op) for op in work.graph.ops}
        if keys - seen:
            measured.append(_Measured.of(work, times))
            seen |= keys
    found.launch = _launch(measured, found)
    for each in measured:
        each.add_to(found)
    return found


def _launch(measured: Sequence[_Measured], costs: DeviceCosts) -> float:
    """Seconds that a cut costs, transfers left out: no whole takes less, nor any part if noise
    hides what cuts cost."""
    known = [each for each in measured if len(each.spans) > 1 and math.isfinite(each.cut(costs))]
    if not known:
        return costs.launch
    launch = sum(each.cut(costs) for each in known) / sum(len(each.spans) - 1 for each in known)
    if launch > 0:
        return min(launch, *((1 - LEAST_SHARE) * each.without_cuts(costs) for each in known))
    least = min(each.without_transfer(span, costs) for each in known for span in each.spans)
    return max(0.0, min(costs.launch, least))


@dataclass(frozen=True, eq=False)
class _Measured:
    """A work whose parts were measured: seconds of all of it, and of spans by what is in them."""

    work: Work
    whole: float
    spans: Sequence[Span]
    seconds: Mapping[tuple[str, ...], float]

    @classmethod
    def of(cls, work: Work, times: Times) -> _Measured:
        """Measure it: spans between cuts, and operators where a span has several; what is alike
        once."""
        spans = list(itertools.pairwise(boundaries(work.graph, {})))
        alone = [(i, i + 1) for first, end in spans if end - first > 1 for i in range(first, end)]
        unique = {_keys(work, span): work.part(*span) for span in (*spans, *alone)}
        whole, *seconds = times([work, *unique.values()])
        return cls(work, whole, spans, dict(zip(unique, seconds, strict=True)))

    def of_span(self, span: Span) -> float:
        """Measured seconds of a span alone."""
        return self.seconds[_keys(self.work, span)]

    def without_transfer(self, span: Span, costs: DeviceCosts) -> float:
        """The same without what goes in and out."""
        return self.of_span(span) - costs.transfer(self.work.part(*span).moved)

    def without_cuts(self, costs: DeviceCosts) -> float:
        """Seconds of the whole without what goes in and out."""
        return self.whole - costs.transfer(self.work.moved)

    def cut(self, costs: DeviceCosts) -> float:
        """Seconds that all cuts cost together."""
        apart = sum(self.without_transfer(span, costs) for span in self.spans)
        return apart - self.without_cuts(costs)

    def add_to(self, costs: DeviceCosts) -> None:
        """Add a sample for every operator that is not known. A part may take less than a mean cut
        costs: what all parts take is shared, so that the whole is exact."""
        shares = sum(self._inside(span, costs) for span in self.spans)
        every = max(self.without_cuts(costs) - costs.launch, LEAST_SHARE * self.whole)
        factor = every / shares if math.isfinite(every) and math.isfinite(shares) else 1.0
        for first, end in self.spans:
            inside = factor * self._inside((first, end), costs)
            alone = [self._inside((i, i + 1), costs) for i in range(first, end)]
            for op, own in zip(self.work.graph.ops[first:end], alone, strict=True):
                key = signature(self.work.graph, self.work.shape, op)
                seconds = inside * own / sum(alone)
                if key not in costs.samples and math.isfinite(seconds):
                    about = features(self.work.graph, self.work.shape, op)
                    costs.add(key, Sample(kind_of(op), about, seconds))

    def _inside(self, span: Span, costs: DeviceCosts) -> float:
        """Seconds of a span without launch and transfer."""
        least = LEAST_SHARE * self.of_span(span)
        return max(self.without_transfer(span, costs) - costs.launch, least)


def _keys(work: Work, span: Span) -> tuple[str, ...]:
    return tuple(signature(work.graph, work.shape, op) for op in work.graph.ops[slice(*span)])
