"""What lowering an operator may look at, and where its tasks go."""

from __future__ import annotations

from dataclasses import dataclass, field

from transept.golden.config import Config
from transept.golden.graph import Graph
from transept.host.compiler.cut import Cut
from transept.host.compiler.places import Places
from transept.host.compiler.tasks import Buffer, Task
from transept.host.compiler.weights import Block, WeightImage

__all__ = ["Scope"]


@dataclass(frozen=True, eq=False)
class Scope:
    """The graph and its weights, how it is cut, where rows are, and the tasks so far.

    resident: the buffer of every weight block that stays on chip.
    """

    graph: Graph
    image: WeightImage
    config: Config
    cut: Cut
    places: Places
    tasks: list[Task]
    resident: dict[Block, Buffer] = field(default_factory=dict)
