"""A graph and a shape to an executable: the cheapest predicted cut that fits."""

from __future__ import annotations

import math

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.graph import Graph
from transept.golden.ops import Attention
from transept.host.compiler.cut import Cut, Policy, Shape, choose, policies
from transept.host.compiler.emit import emit
from transept.host.compiler.errors import CompileError
from transept.host.compiler.executable import Executable
from transept.host.compiler.lowering import lower
from transept.host.compiler.order import schedule
from transept.host.compiler.place import place
from transept.host.compiler.segments import segments
from transept.host.compiler.stream import program_order
from transept.host.compiler.weights import WeightImage

__all__ = ["compile_cut", "compile_graph"]

#: A cut that keeps the array this busy is not worth another search.
GOOD_SHARE = 0.985
#: Policies and families of them that are tried after the best one so far.
PATIENCE = 2
#: Attentions of the part of a graph that a policy is found on; the rest repeats it.
PROBE = 2
#: Cycles from the start command to the first instruction, and from the last write to END.
LAUNCH = 60


def compile_graph(
    graph: Graph, config: Config, shape: Shape, image: WeightImage | None = None
) -> Executable:
    """The executable of the cut that is predicted to take the fewest cycles.

    Raises
    ------
    CompileError
        If no cut fits the accelerator; the message names what does not.
    """
    image = image or WeightImage(graph, config)
    probe = _beginning(graph)
    ranked = _search(probe, config, shape, image)
    reason: CompileError | None = None
    for found, policy in ranked:
        if probe is graph:
            return found
        try:
            return _compile(graph, config, shape, image, policy)
        except CompileError as error:
            reason = reason or error
    raise reason or CompileError(f"there is no way to cut {shape} on {config.name}")


def _beginning(graph: Graph) -> Graph:
    """The graph up to its third attention, if it has more."""
    attentions = [i for i, op in enumerate(graph.ops) if isinstance(op, Attention)]
    if len(attentions) <= PROBE + 1:
        return graph
    parts = segments(graph)
    third = next(p for p in parts if graph.ops[attentions[PROBE]] in p.ops)
    end = min(graph.ops.index(op) for op in third.ops)
    ops = graph.ops[:end]
    defined = [name for op in ops for name in op.outputs]
    needed = {name for op in graph.ops[end:] for name in op.inputs} | set(graph.outputs)
    outputs = tuple(name for name in defined if name in needed)
    return Graph(graph.dims, graph.values, graph.inputs, outputs, ops)


def _search(
    graph: Graph, config: Config, shape: Shape, image: WeightImage
) -> list[tuple[Executable, Policy]]:
    """Executables of promising policies, the best first.

    Raises
    ------
    CompileError
        If none fits.
    """
    rows = {dim: [length] * shape.batch for dim, length in shape.lengths.items()}
    enough = sum(graph.macs(rows).values()) / config.macs / GOOD_SHARE
    found: list[tuple[Executable, Policy]] = []
    reason: CompileError | None = None
    tired = 0
    for family in policies(shape.batch, max(shape.lengths.values()), config):
        best = min((e.predicted_cycles for e, _ in found), default=math.inf)
        try:
            found += _best_of_family(graph, config, shape, image, family)
        except CompileError as error:
            reason = reason or error
            continue
        found.sort(key=lambda pair: pair[0].predicted_cycles)
        tired = 0 if found[0][0].predicted_cycles < best else tired + 1
        if found[0][0].predicted_cycles <= enough or tired == PATIENCE:
            break
    if not found:
        raise reason or CompileError(f"there is no way to cut {shape} on {config.name}")
    return found


def _best_of_family(
    graph: Graph, config: Config, shape: Shape, image: WeightImage, family: list[Policy]
) -> list[tuple[Executable, Policy]]:
    """The policies of a family that fit, as long as smaller blocks make it better."""
    found: list[tuple[Executable, Policy]] = []
    reason: CompileError | None = None
    tired, fits = 0, set()
    for policy in family:
        if policy.share in fits:
            continue
        try:
            made = _compile(graph, config, shape, image, policy)
        except CompileError as error:
            reason = reason or error
            continue
        fits.add(policy.share)
        best = min((e.predicted_cycles for e, _ in found), default=math.inf)
        tired = 0 if made.predicted_cycles < best else tired + 1
        found.append((made, policy))
        if tired == PATIENCE:
            break
    if not found:
        raise reason or CompileError(f"not even one row of {shape} fits {config.name}")
    return found


def _compile(
    graph: Graph, config: Config, shape: Shape, image: WeightImage, policy: Policy
) -> Executable:
    cut = choose(graph, config, shape, policy)
    if cut is None:
        raise CompileError(f"not even one row of {shape} fits {config.name}")
    return compile_cut(graph, config, shape, cut, image)


def compile_cut(
    graph: Graph, config: Config, shape: Shape, cut: Cut, image: WeightImage
) -> Executable:
    """The executable of one cut.

    Raises
    ------
    CompileError
        If it does not fit the accelerator.
    """
    tasks, tensors = lower(graph, image, config, shape, cut)
    plan = schedule(tasks, config, cut.fill)
    program = program_order(plan, tasks)
    place(program, config, plan.reserve)
    tallies = tally_numbers(graph)
    assembly, patches = emit(program, config, plan.reserve, tallies)
    return Executable(
        shape=shape,
        cut=cut,
        instructions=isa.encode_program(assembly.program()),
        patches=tuple(patches),
        labels=tuple(assembly.labels),
        tallies=tallies,
        tensors=tensors,
        predicted_cycles=plan.cycles + LAUNCH,
    )


def tally_numbers(graph: Graph) -> dict[str, int]:
    """A counter of clipped elements for every operator; neighbours share one if they are many."""
    share = -(-len(graph.ops) // isa.TALLIES)
    return {op.name: index // share for index, op in enumerate(graph.ops)}
