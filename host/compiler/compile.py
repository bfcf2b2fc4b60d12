"""A graph and a shape to an executable: the cheapest predicted cut that fits."""

from __future__ import annotations

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.graph import Graph
from transept.host.compiler.cut import Cut, Shape, candidates
from transept.host.compiler.emit import emit
from transept.host.compiler.errors import CompileError
from transept.host.compiler.executable import Executable
from transept.host.compiler.lowering import lower
from transept.host.compiler.order import schedule
from transept.host.compiler.place import place
from transept.host.compiler.stream import program_order
from transept.host.compiler.weights import WeightImage

__all__ = ["compile_cut", "compile_graph"]

#: A cut that keeps the array this busy is not worth another search.
GOOD_SHARE = 0.985
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
    rows = {dim: [length] * shape.batch for dim, length in shape.lengths.items()}
    enough = sum(graph.macs(rows).values()) / config.macs / GOOD_SHARE
    best: Executable | None = None
    reason: CompileError | None = None
    for cut in candidates(graph, config, shape):
        try:
            found = compile_cut(graph, config, shape, cut, image)
        except CompileError as error:
            reason = reason or error
            continue
        if best is None or found.predicted_cycles < best.predicted_cycles:
            best = found
        if best.predicted_cycles <= enough:
            break
    if best is None:
        raise reason or CompileError(f"there is no way to cut {shape} on {config.name}")
    return best


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
    plan = schedule(tasks, config)
    program = program_order(plan, tasks)
    place(program, config, plan.reserve)
    assembly, patches = emit(program, config, plan.reserve)
    return Executable(
        shape=shape,
        cut=cut,
        instructions=isa.encode_program(assembly.program()),
        patches=tuple(patches),
        labels=tuple(assembly.labels),
        tensors=tensors,
        predicted_cycles=plan.cycles + LAUNCH,
    )
