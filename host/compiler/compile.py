"""A graph and a shape to an executable: the cheapest predicted cut that fits."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
from collections.abc import Iterator
from dataclasses import dataclass

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.graph import Graph
from transept.golden.ops import Append, Attention
from transept.host.compiler.cut import TOGETHER, Cut, Policy, Shape, choose, policies
from transept.host.compiler.emit import emit
from transept.host.compiler.errors import CompileError
from transept.host.compiler.executable import Executable
from transept.host.compiler.lowering import lower
from transept.host.compiler.order import Schedule, schedule_below
from transept.host.compiler.place import place
from transept.host.compiler.segments import beginning
from transept.host.compiler.stream import Step, program_order
from transept.host.compiler.tasks import Task
from transept.host.compiler.tensors import Tensor
from transept.host.compiler.weights import WeightImage

__all__ = ["compile_cut", "compile_graph", "schedule_of"]

#: A cut that keeps the array this busy is not worth another search.
GOOD_SHARE = 0.985
#: Families of policies that are tried after the best one so far.
PATIENCE = 2
#: The same for many new rows of sequences with states: what is spilled decides most there.
PATIENCE_OF_ROWS = 8
#: A later policy is better only if it saves more than this share.
GAIN = 0.0005
#: What reads less from memory may take longer by this share.
LOSS = 0.005
#: Of the stationary scratchpad, that weights which stay on chip may take.
RESIDENT_SHARE = 0.9
#: Attentions of the part of a graph that a policy is found on; the rest repeats it.
PROBE = 2
#: Cycles from the start command to the first instruction, and from the last write to END.
LAUNCH = 60


@dataclass(frozen=True, eq=False)
class _Draft:
    """A cut with its tasks and when they run."""

    graph: Graph
    cut: Cut
    tasks: list[Task]
    tensors: dict[str, Tensor]
    schedule: Schedule

    @property
    def cycles(self) -> int:
        """Predicted cycles of a launch."""
        return self.schedule.cycles + LAUNCH


@dataclass(frozen=True, eq=False)
class _Plan:
    """A draft whose buffers have places, not yet written as instructions."""

    draft: _Draft
    program: list[Step]

    @property
    def cycles(self) -> int:
        """Predicted cycles of a launch."""
        return self.draft.cycles


def compile_graph(
    graph: Graph, config: Config, shape: Shape, image: WeightImage | None = None
) -> Executable:
    """The executable of the cut that is predicted to take the fewest cycles.

    Raises
    ------
    CompileError
        If no cut fits the accelerator; the message names what does not.
    """
    with _nothing_collected():
        compiler = _Compiler(graph, config, shape, image or WeightImage(graph, config))
        return compiler.emit(compiler.best())


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Without looking for cyclic garbage: a compiler makes none, and it would look through
    millions of tasks and instructions again and again, a third of the time of a large model."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def schedule_of(graph: Graph, config: Config, shape: Shape) -> Schedule:
    """When every task of ``compile_graph`` runs.

    Raises
    ------
    CompileError
        If no cut fits the accelerator.
    """
    return _Compiler(graph, config, shape, WeightImage(graph, config)).best().draft.schedule


def compile_cut(
    graph: Graph, config: Config, shape: Shape, cut: Cut, image: WeightImage
) -> Executable:
    """The executable of one cut.

    Raises
    ------
    CompileError
        If it does not fit the accelerator.
    """
    compiler = _Compiler(graph, config, shape, image)
    return compiler.emit(compiler.plan(compiler.draft(graph, cut)))


class _Compiler:
    def __init__(self, graph: Graph, config: Config, shape: Shape, image: WeightImage) -> None:
        self._graph, self._config = graph, config
        self._shape, self._image = shape, image

    def best(self) -> _Plan:
        """The plan of the best policy, found on the first layers."""
        probe = _beginning(self._graph)
        found = self._search(probe)
        if probe is self._graph:
            return self._once(*found[0])
        for _, policy in found:
            try:
                cut = choose(self._graph, self._config, self._shape, policy)
                if cut is not None:
                    return self.plan(self.draft(self._graph, cut))
            except CompileError:
                continue
        return self._search(self._graph)[0][0]

    def _once(self, plan: _Plan, policy: Policy) -> _Plan:
        """The plan that reads weights less often, if there is one that takes hardly longer."""
        best, limit = plan, math.floor(plan.cycles * (1 + LOSS)) + 1
        for tiles in TOGETHER:
            together = dataclasses.replace(policy, together=tiles)
            with contextlib.suppress(CompileError):
                cut = choose(self._graph, self._config, self._shape, together)
                draft = cut and self.draft_below(limit, self._graph, cut)
                if draft:
                    best = self.plan(draft)
                    limit = best.cycles
        return best

    def _search(self, graph: Graph) -> list[tuple[_Plan, Policy]]:
        """Plans of promising policies, the best first.

        Raises
        ------
        CompileError
            If none fits.
        """
        shape, config = self._shape, self._config
        enough = sum(graph.macs(shape.rows).values()) / config.macs / GOOD_SHARE
        found: list[tuple[_Plan, Policy]] = []
        reason: CompileError | None = None
        seen: set[Cut] = set()
        tired = 0
        resident = self._image.column_words <= config.memories.stat_words * RESIDENT_SHARE
        # a resident column is one instruction
        resident &= self._image.k_tiles <= isa.operand(isa.Opcode.MATMUL, "k_tiles").most
        kept = {graph.values[op.out].dim for op in graph.ops if isinstance(op, Append)}
        longest = max(length for dim, length in shape.lengths.items() if dim not in kept)
        many = bool(kept) and longest > config.tile
        patience = PATIENCE_OF_ROWS if many else PATIENCE
        chained = sum(isinstance(op, Attention) for op in graph.ops) > 1
        for family in policies(shape.batch, longest, config, resident=resident, chained=chained):
            limit = found[0][0].cycles * (1 - GAIN) if found else math.inf
            try:
                made = self._family(graph, family, seen, limit)
            except CompileError as error:
                # the last ones leave least on chip, so their reasons are the firmest
                reason = error
                continue
            if made is None:
                continue
            found, tired = [*made, *found], 0 if made else tired + 1
            # what is read once is not read again to save a few cycles
            once = found[0][1].resident
            if once or found[0][0].cycles <= enough or tired == patience:
                break
        if not found:
            raise reason or CompileError(f"there is no way to cut {shape} on {config.name}")
        return found

    def _family(
        self, graph: Graph, family: list[Policy], seen: set[Cut], limit: float
    ) -> list[tuple[_Plan, Policy]] | None:
        """Plans of the policies that fit, the best first; None if there is no new cut. The first
        one that takes ``limit`` cycles, or gains nothing on the one before it, ends the search,
        except for a single operator: those that follow have smaller blocks still.

        Raises
        ------
        CompileError
            If none fits.
        """
        found: list[tuple[_Plan, Policy]] = []
        reason: CompileError | None = None
        fits: set[tuple[int, ...]] = set()  # row blocks
        for policy in family:
            try:
                cut = choose(graph, self._config, self._shape, policy)
                if cut is None or cut in seen or cut.rows in fits:
                    continue
                seen.add(cut)
                draft = self.draft_below(limit, graph, cut)
                if draft is None:
                    if len(graph.ops) > 1:
                        return found
                    continue
                found.insert(0, (self.plan(draft), policy))
            except CompileError as error:
                reason = error
                continue
            fits.add(cut.rows)
            limit = draft.cycles * (1 - GAIN)
        if found:
            return found
        if reason is not None:
            raise reason
        return None

    def draft(self, graph: Graph, cut: Cut) -> _Draft:
        """The tasks of one cut, ordered."""
        draft = self.draft_below(math.inf, graph, cut)
        assert draft is not None
        return draft

    def draft_below(self, limit: float, graph: Graph, cut: Cut) -> _Draft | None:
        """The same; None if they take ``limit`` cycles or more."""
        tasks, tensors = lower(graph, self._image, self._config, self._shape, cut)
        made = schedule_below(limit - LAUNCH, tasks, self._config, cut.fill)
        return _Draft(graph, cut, tasks, tensors, made) if made else None

    def plan(self, draft: _Draft) -> _Plan:
        """The tasks of one cut, placed."""
        program = program_order(draft.schedule, draft.tasks)
        place(program, self._config, draft.schedule.reserve)
        return _Plan(draft, program)

    def emit(self, plan: _Plan) -> Executable:
        """The instructions of a plan."""
        draft = plan.draft
        tallies = tally_numbers(draft.graph)
        reserve = draft.schedule.reserve
        assembly, patches = emit(plan.program, self._config, reserve, tallies)
        return Executable(
            shape=self._shape,
            cut=draft.cut,
            instructions=isa.encode_program(assembly.program()),
            patches=tuple(patches),
            labels=tuple(assembly.labels),
            tallies=tallies,
            tensors=draft.tensors,
            predicted_cycles=plan.cycles,
        )


def _beginning(graph: Graph) -> Graph:
    """The graph up to its third attention, if it has another one behind that."""
    attentions = sum(isinstance(op, Attention) for op in graph.ops)
    return beginning(graph, PROBE) if attentions > PROBE + 1 else graph


def tally_numbers(graph: Graph) -> dict[str, int]:
    """A counter of clipped elements for every operator; neighbours share one if they are many."""
    share = -(-len(graph.ops) // isa.TALLIES)
    return {op.name: index // share for index, op in enumerate(graph.ops)}
