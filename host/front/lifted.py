"""What dynamo traced, as a module that torch can export: its lifted weights are parameters again.

Dynamo gives parameters and buffers to a graph as inputs, and the sizes of tensors that it let vary
as integers. Several graphs of one code, traced for other sizes, are one module here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import fx
from torch._dynamo.source import TensorPropertySource
from torch.fx.node import map_aggregate
from torch.fx.traceback import preserve_node_meta

from transept.host.front.export import Arguments, attribute
from transept.host.front.fused import encoder_layer

__all__ = ["LiftedModule", "TracedGraph", "lift"]

WEIGHT, SIZE, ARGUMENT = "weight", "size", "argument"


class _Input(NamedTuple):
    """An input of a graph. name: of a weight, its path in the model; of the others, what they were
    in the code, such as ``L['x']``."""

    role: str
    name: str


class TracedGraph:
    """One graph of dynamo, and what each of its inputs is.

    module: the graph; weights: paths of those that it takes; kinds: class names of the model's
    parts, by path; structure: equal for graphs that differ in sizes alone.
    """

    def __init__(self, module: fx.GraphModule, inputs: Sequence[Any]) -> None:
        self.module = module
        places = module.graph.find_nodes(op="placeholder")
        roles = [_role(node, x) for node, x in zip(places, inputs, strict=True)]
        weights = [node for node, role in zip(places, roles, strict=True) if role == WEIGHT]
        paths = _Paths([_source(node) for node in weights])
        names = {node: _source(node) for node in places}
        names |= {node: paths.path(names[node]) for node in weights}
        if len(set(names.values())) < len(names):
            names = {node: node.name for node in places}
        self._inputs = [
            _Input(role, names[node]) for node, role in zip(places, roles, strict=True)
        ]
        # inputs are in another order once sizes vary, their names are not
        self.weights = sorted(name for role, name in self._inputs if role == WEIGHT)
        self._arguments = sorted(name for role, name in self._inputs if role == ARGUMENT)
        self.kinds = _name_parts(module.graph, paths)
        named = dict(zip(places, self._inputs, strict=True))
        self.structure = *self.weights, *self._arguments, *_structure(module.graph, named)
        self._sizes: dict[tuple, dict[_Input, Any]] = {}

    def split(self, inputs: Sequence[Any]) -> tuple[list[torch.Tensor], tuple[Any, ...]]:
        """Weights, and what else the graph is called with, both in the order of their names; sizes
        are kept for these shapes."""
        given = dict(zip(self._inputs, inputs, strict=True))
        arguments = tuple(given[_Input(ARGUMENT, name)] for name in self._arguments)
        sizes = {place: value for place, value in given.items() if place.role == SIZE}
        self._sizes[_shapes(arguments)] = sizes
        return [given[_Input(WEIGHT, name)] for name in self.weights], arguments

    def run(self, weights: Sequence[torch.Tensor], arguments: tuple[Any, ...]) -> Any:
        """The graph's results for arguments of shapes that were split before."""
        given = dict(self._sizes[_shapes(arguments)])
        for role, names, values in (
            (WEIGHT, self.weights, weights),
            (ARGUMENT, self._arguments, arguments),
        ):
            given |= {_Input(role, n): value for n, value in zip(names, values, strict=True)}
        with preserve_node_meta():
            return _Interpreter(self.module).run(*(given[place] for place in self._inputs))


def _shapes(arguments: tuple[Any, ...]) -> tuple:
    return Arguments(arguments, {}).key


class _Interpreter(fx.Interpreter):
    """Spells out what is fused, and leaves gradients off: they are when a model is exported."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is torch._C._set_grad_enabled:
            return None
        if target is torch._transformer_encoder_layer_fwd:
            target = encoder_layer
        return super().call_function(target, args, kwargs)


def lift(graphs: list[TracedGraph], weights: Sequence[torch.Tensor]) -> LiftedModule:
    """Graphs of one structure as a module; graphs may be added to the list later.

    Its parameters have the paths that they have in the model, and the classes of its parts the
    names that they have there.
    """
    kinds = dict(graphs[0].kinds)
    places = [path.rpartition(".")[::2] for path in graphs[0].weights]
    for (part, name), weight in zip(places, weights, strict=True):
        if name == "weight" and weight.ndim == 2:
            kinds.setdefault(part, "Linear")  # one whose module was not called
    kind = type(kinds.get("", "Graph"), (LiftedModule,), {})
    module: LiftedModule = kind(graphs)
    for (part, name), weight in zip(places, weights, strict=True):
        parent = _part(module, part, kinds)
        if isinstance(weight, torch.nn.Parameter):
            parent.register_parameter(name, weight)
        else:
            parent.register_buffer(name, weight)
    return module


class LiftedModule(torch.nn.Module):
    """Graphs that share their weights; called with a graph's number and its arguments."""

    def __init__(self, graphs: list[TracedGraph]) -> None:
        super().__init__()
        # no list: torch.export would put a copy in its place
        self._graph = graphs.__getitem__

    def forward(self, number: int, *arguments: Any) -> Any:
        """The results of one of the graphs."""
        weights = [attribute(self, path) for path in self._graph(0).weights]
        return self._graph(number).run(weights, arguments)


def _part(root: torch.nn.Module, path: str, kinds: dict[str, str]) -> torch.nn.Module:
    """The part of a module at a path, made if it is not there."""
    so_far = ""
    for name in path.split(".") if path else ():
        so_far = f"{so_far}.{name}".lstrip(".")
        if name not in root._modules:
            kind = type(kinds.get(so_far, "Module"), (torch.nn.Module,), {})
            root.add_module(name, kind())
        root = root.get_submodule(name)
    return root


# --- what dynamo says ----------------------------------------------------------------------------
def _role(node: fx.Node, value: object) -> str:
    if isinstance(value, torch.nn.Parameter) or re.search(r"\._buffers\['[^']*'\]$", _source(node)):
        return WEIGHT
    is_size = isinstance(getattr(node, "_dynamo_source", None), TensorPropertySource)
    return SIZE if is_size else ARGUMENT


def _source(node: fx.Node) -> str:
    """The expression that an input was in the code, such as ``L['self']._modules['a']``."""
    source = getattr(node, "_dynamo_source", None)
    return node.name if source is None else str(source.name)


class _Paths:
    """Places in the model of what dynamo names by expressions: ``a.weight`` for
    ``L['self']._modules['a']._parameters['weight']``, if all weights belong to one module."""

    def __init__(self, weights: list[str]) -> None:
        roots = {_dotted(source).partition(".")[::2] for source in weights}
        owners = {root if rest else None for root, rest in roots}
        self._owner = owners.pop() if len(owners) == 1 else None

    def path(self, source: str) -> str:
        """The dotted path; of the module itself, an empty one."""
        root, _, rest = _dotted(source).partition(".")
        if root == self._owner:
            return rest
        return ".".join(filter(None, (re.sub(r"\W+", "_", root).strip("_"), rest)))


def _dotted(source: str) -> str:
    return re.sub(r"\._(?:modules|parameters|buffers)\['([^']*)'\]", r".\1", source)


def _name_parts(graph: fx.Graph, paths: _Paths) -> dict[str, str]:
    """Class names of the parts that nodes belong to, by path; the nodes are given these paths."""
    kinds: dict[str, str] = {}
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if stack:
            found = {key: (paths.path(path), kind) for key, (path, kind) in stack.items()}
            node.meta["nn_module_stack"] = found
            kinds |= {path: getattr(kind, "__name__", str(kind)) for path, kind in found.values()}
    return kinds


def _structure(graph: fx.Graph, inputs: dict[fx.Node, _Input]) -> tuple[object, ...]:
    """Operators and how they are connected; every size counts as the same."""
    names = {node: name for node, (role, name) in inputs.items() if role != SIZE}
    found: list[object] = []

    def told(operand: object) -> object:
        if isinstance(operand, fx.Node):
            return names.get(operand, SIZE)
        return SIZE if type(operand) is int else repr(operand)

    for node in graph.nodes:
        if node not in inputs and not _is_size(node):
            names[node] = f"%{len(found)}"
            operands = map_aggregate((node.args, node.kwargs), told)
            found.append((node.op, str(node.target), repr(operands)))
    return tuple(found)


def _is_size(node: fx.Node) -> bool:
    return isinstance(node.meta.get("example_value"), int | torch.SymInt)
