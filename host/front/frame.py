"""A model exported for one set of input shapes, and what of it the accelerator runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import fx

from transept.golden.config import Config
from transept.host.front.export import Arguments, Values, run
from transept.host.front.limits import limits
from transept.host.front.matcher import Matcher
from transept.host.front.matches import RotaryMatch
from transept.host.front.ranges import Ranges, observe
from transept.host.front.regions import FloatRegion, find_regions

__all__ = ["Choices", "Frame", "frame"]


@dataclass
class Choices:
    """What was decided about a model beyond its patterns; the same for all shapes.

    excluded: reasons why operators stay with torch, by name; plain: linear layers whose activation
    does; cuts: operators before which a region ends.
    """

    excluded: dict[str, str] = field(default_factory=dict)
    plain: set[str] = field(default_factory=set)
    cuts: set[str] = field(default_factory=set)


@dataclass(frozen=True, eq=False)
class Frame:
    """module: the exported graph, in real numbers; values: of every node on the example; excluded:
    reasons why operators stay with torch, by name; reasons: why operators that were looked at are
    not on the accelerator, by node."""

    module: fx.GraphModule
    values: Values
    matcher: Matcher
    regions: list[FloatRegion]
    excluded: dict[str, str]
    reasons: Mapping[fx.Node, str]

    def observe(self, arguments: Arguments, ranges: Ranges) -> None:
        """Add one calibration input of the same shapes."""
        with torch.no_grad():
            observe(self.regions, run(self.module, arguments), ranges)


def frame(
    module: fx.GraphModule, example: Arguments, config: Config | None, choices: Choices
) -> Frame:
    """Find the regions of an exported model, without what is excluded, and what does not fit the
    accelerator in these shapes. With no ``config`` everything fits."""
    values, excluded = run(module, example), dict(choices.excluded)
    while True:
        matcher = Matcher(module, values, excluded, frozenset(choices.plain))
        found = {} if config is None else limits(matcher, config)
        if found:
            excluded |= found
            continue
        regions = find_regions(matcher, frozenset(choices.cuts))
        read = {op.name for r in regions for op in r.rotaries if r.attends(op)}
        rotaries = [op for op in matcher.matches if isinstance(op, RotaryMatch)]
        unread = [op for op in rotaries if op.name not in read]
        if unread:
            excluded |= {op.name: "no attention reads what it rotates" for op in unread}
            continue
        conflicts = [op for region in regions for op in region.spaces.conflicts]
        if not conflicts:
            return Frame(module, values, matcher, regions, excluded, matcher.reasons)
        excluded |= {
            op.name: "its sequences are cut otherwise than those of an attention before it"
            for op in conflicts
        }
