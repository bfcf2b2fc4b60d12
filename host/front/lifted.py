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

WEIGHT, SIZE, ARGUMENT, UNUSED = "weight", "size", "argument", "unused"


class _Input(NamedTuple):
    """An input of a graph. name: of a weight, its path in the model; of an argument, its number in
    the order in which the graph uses them; of the others, what dynamo calls them."""

    role: str
    name: str | int


class TracedGraph:
    """One graph of dynamo, and what each of its inputs is.

    module: the graph; weights: paths of those that it takes, sorted; kinds: class names of the
    model's parts, by path; structure: equal for graphs that differ in sizes alone.
    """

    def __init__(self, module: fx.GraphModule, inputs: Sequence[Any]) -> None:
        self.module = module
        places = module.graph.find_nodes(op="placeholder")
        roles = {node: _role(node, x) for node, x in zip(places, inputs, strict=True)}
        weights = [node for node in places if roles[node] == WEIGHT]
        paths = _Paths([_source(node) for node in weights])
        names: dict[fx.Node, str | int] = {node: paths.path(_source(node)) for node in weights}
        if len(set(names.values())) < len(weights):
            names = {node: node.name for node in weights}
        self.weights = sorted(map(str, names.values()))
        # inputs are in another order once sizes vary, and an argument may be named or not
        used = [node for node in _used(module.graph) if roles.get(node) == ARGUMENT]
        names |= {node: number for number, node in enumerate(used)}
        roles |= {node: UNUSED for node in places if roles[node] == ARGUMENT and node not in names}
        self._inputs = [_Input(roles[node], names.get(node, node.name)) for node in places]
        self._count = len(used)
        self._floats = {number for number, node in enumerate(used) if _is_float(node)}
        self.kinds = _name_parts(module.graph, paths)
        self.structure = *self.weights, *_structure(module.graph, roles, names)
        self._sizes: dict[tuple, dict[_Input, Any]] = {}

    def split(self, inputs: Sequence[Any]) -> tuple[list[torch.Tensor], tuple[Any, ...]]:
        """Weights in the order of their paths, and what else the graph is called with; sizes are
        kept for these shapes."""
        given = dict(zip(self._inputs, inputs, strict=True))
        values = [given[_Input(ARGUMENT, number)] for number in range(self._count)]
        arguments = tuple(x.item() if i in self._floats else x for i, x in enumerate(values))
        sizes = {place: value for place, value in given.items() if place.role == SIZE}
        self._sizes[_shapes(arguments)] = sizes
        return [given[_Input(WEIGHT, path)] for path in self.weights], arguments

    def run(self, weights: Sequence[torch.Tensor], arguments: tuple[Any, ...]) -> Any:
        """The graph's results for arguments of shapes that were split before."""
        given: dict[_Input, Any] = dict(self._sizes[_shapes(arguments)])
        for i, x in enumerate(arguments):
            given[_Input(ARGUMENT, i)] = _Float(x) if i in self._floats else x
        for path, weight in zip(self.weights, weights, strict=True):
            given[_Input(WEIGHT, path)] = weight
        with preserve_node_meta():
            return _Interpreter(self.module).run(*map(given.get, self._inputs))


class _Float(float):
    """A number that dynamo gives as a tensor, of which the graph takes the item."""

    def item(self) -> float:
        """Itself."""
        return float(self)


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


def _is_float(node: fx.Node) -> bool:
    lifted = getattr(node.meta.get("grapharg"), "pass_arg_as_tensor", False)
    return lifted and all(user.target == "item" for user in node.users)


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


def _used(graph: fx.Graph) -> list[fx.Node]:
    """Nodes that others compute with, in the order in which they do."""
    computing = (node for node in graph.nodes if not _is_size(node))
    return list(dict.fromkeys(used for node in computing for used in node.all_input_nodes))


def _structure(
    graph: fx.Graph, roles: dict[fx.Node, str], inputs: dict[fx.Node, str | int]
) -> tuple[object, ...]:
    """Operators and how they are connected; every size counts as the same."""
    names: dict[fx.Node, object] = dict(inputs)
    found: list[object] = []

    def told(operand: Any) -> Any:
        if isinstance(operand, fx.Node):
            return names.get(operand, SIZE)
        return SIZE if type(operand) is int else repr(operand)

    for node in graph.nodes:
        if node not in roles and not _is_size(node):
            names[node] = f"%{len(found)}"
            operands = map_aggregate((node.args, node.kwargs), told)
            found.append((node.op, str(node.target), repr(operands)))
    return tuple(found)


def _is_size(node: fx.Node) -> bool:
    return isinstance(node.meta.get("example_value"), int | torch.SymInt)
