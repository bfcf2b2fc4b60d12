"""``torch.compile(model, backend="transept")``: every graph that dynamo finds is a program.

A graph is calibrated by what it is first called with, or by inputs that are given; then all of its
calls are quantised. What the accelerator cannot do runs with torch as it is, and the log says why.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx
from torch._guards import CompileContext

from transept.host.front.backend_options import Options
from transept.host.front.lifted import TracedGraph
from transept.host.front.piece import Piece, calibrating, log
from transept.host.runtime.program import Program

__all__ = ["backend", "calibrating", "programs"]

#: Every piece that some graph of dynamo can still call.
_pieces: weakref.WeakValueDictionary[tuple, Piece] = weakref.WeakValueDictionary()


def backend(
    module: fx.GraphModule,
    inputs: Sequence[Any],
    *,
    options: dict[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """What ``torch.compile`` calls with each graph and its example inputs.

    options: ``device`` (cpu by default), ``config`` and ``key_filter`` as ``transept.compile`` has
    them, ``calibration`` (a number of calls, 1 by default, or a list of inputs of the whole model),
    and options of the device.

    Raises
    ------
    ValueError
        If an option is unknown, or its value is wrong.
    """
    if mode is not None:
        raise ValueError(f"backend transept has no modes, got {mode!r}")
    chosen = Options.of({} if options is None else options)
    compile_id = CompileContext.current_compile_id()
    name = f"graph {compile_id}"
    if _asks_for_gradients(module):
        log.warning("%s runs with torch: it is to be differentiated; see torch.no_grad", name)
        return module.forward
    code = None if compile_id is None else compile_id.frame_id
    return _Calls(name, code, TracedGraph(module, inputs), chosen).run


#: Called by ``torch._dynamo.reset``.
backend.reset = _pieces.clear  # type: ignore[attr-defined]


def programs(model: torch.nn.Module | None = None) -> list[Program]:
    """The programs of a model's pieces in the order of their first calls, compiled or not by
    itself; without a model, those of all."""
    found = [p for p in _pieces.values() if p.program is not None]
    if model is not None:
        own = {id(weight) for weight in (*model.parameters(), *model.buffers())}
        found = [p for p in found if own & set(map(id, p.weights))]
    return [p.program for p in found if p.program is not None]


class _Calls:
    """Calls of one graph of dynamo, on whatever weights.

    code: the number of the code that it was traced from.
    """

    def __init__(self, name: str, code: int | None, graph: TracedGraph, options: Options) -> None:
        self._name, self._code, self._graph, self._options = name, code, graph, options
        self._own: dict[tuple, Piece] = {}

    def run(self, *inputs: Any) -> Any:
        """The graph's results."""
        weights, arguments = self._graph.split(inputs)
        return self._piece(weights, arguments).run(self._graph, inputs, arguments)

    def _piece(self, weights: Sequence[torch.Tensor], arguments: tuple[Any, ...]) -> Piece:
        """The piece of these weights, for arguments of any size."""
        kinds = tuple(map(_kind, arguments))
        key = self._options, self._code, self._graph.structure, tuple(map(id, weights)), kinds
        piece = _pieces.get(key)
        if piece is None or not piece.current:
            piece = Piece(self._name, self._options, weights)
            _pieces[key] = piece
        self._own[key] = piece
        return piece


def _kind(argument: object) -> object:
    if isinstance(argument, torch.Tensor):
        return argument.dtype, argument.ndim
    return type(argument)


def _asks_for_gradients(module: fx.GraphModule) -> bool:
    """Whether a result of the graph is to be differentiated."""
    (output,) = module.graph.find_nodes(op="output")
    values = [node.meta.get("example_value") for node in output.all_input_nodes]
    return any(getattr(x, "requires_grad", False) for x in values)
