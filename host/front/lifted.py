"""What dynamo traced, as a module that torch can export: its lifted weights are the module's again.

Dynamo gives parameters and buffers to a graph as inputs, and the sizes of tensors that it let vary
as integers. Several graphs of one code, traced for other sizes, are one module here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch._dynamo.source import TensorProperty, TensorPropertySource
from torch.fx.node import map_aggregate
from torch.fx.traceback import preserve_node_meta

from transept.host.front.export import attribute
from transept.host.front.fused import encoder_layer

__all__ = ["LiftedModule", "TracedGraph", "lift"]

#: An input of a graph: a weight by its path; an argument by its number, in the order in which the
#: graph uses them; a size by the number of the argument that has it, and its dimension. None: it
#: is not used.
_Input = str | int | tuple[int, int] | None


class TracedGraph:
    """One graph of dynamo, and what each of its inputs is.

    module: the graph; weights: paths of those that it takes; kinds: class names of the
    model's parts, by path; structure: equal for graphs that differ in sizes alone.
    """

    def __init__(self, module: fx.GraphModule, inputs: Sequence[Any]) -> None:
        self.module = module
        places = module.graph.find_nodes(op="placeholder")
        lifted = [node for node, x in zip(places, inputs, strict=True) if _is_weight(node, x)]
        paths = _Paths([_source(node) for node in lifted])
        weights = {node: paths.path(_source(node)) for node in lifted}
        if len(set(weights.values())) < len(weights):
            weights = {node: node.name for node in lifted}
        # dynamo orders them otherwise once sizes vary, and by whether they are named
        used = [node for node in _by_use(module.graph) if node not in weights]
        sizes = _sizes(places, used)
        arguments = [node for node in used if node not in sizes]
        numbers = {node: number for number, node in enumerate(arguments)}
        names: dict[fx.Node, _Input] = {**weights, **numbers}
        names |= {node: (numbers[tensor], dim) for node, (tensor, dim) in sizes.items()}
        self._inputs = [names.get(node) for node in places]
        self._floats = [_is_float(node) for node in arguments]
        self.weights = list(weights.values())
        self.kinds = _name_parts(module.graph, paths)
        self.structure = *self.weights, *_structure(module.graph, {**weights, **numbers})

    def split(self, inputs: Sequence[Any]) -> tuple[list[torch.Tensor], tuple[Any, ...]]:
        """Weights, and what else the graph is called with."""
        given = dict(zip(self._inputs, inputs, strict=True))
        arguments = (
            given[number].item() if is_float else given[number]
            for number, is_float in enumerate(self._floats)
        )
        return [given[path] for path in self.weights], tuple(arguments)

    def run(self, weights: Sequence[torch.Tensor], arguments: tuple[Any, ...]) -> Any:
        """The graph's results."""
        given: dict[_Input, Any] = {None: None, **dict(zip(self.weights, weights, strict=True))}
        for number, (x, is_float) in enumerate(zip(arguments, self._floats, strict=True)):
            given[number] = _Float(x) if is_float else x
        for name in self._inputs:
            if isinstance(name, tuple):
                number, dim = name
                given[name] = arguments[number].shape[dim]
        with preserve_node_meta():
            return _Interpreter(self.module).run(*(given[name] for name in self._inputs))


class _Float(float):
    """A number that dynamo gives as a tensor, of which the graph takes the item."""

    def item(self) -> float:
        """Itself."""
        return float(self)


class _Interpreter(fx.Interpreter):
    """Spells out what is fused."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is torch._transformer_encoder_layer_fwd:
            target = encoder_layer
        return super().call_function(target, args, kwargs)


def lift(graphs: list[TracedGraph], weights: Sequence[torch.Tensor]) -> LiftedModule:
    """Graphs of one structure as a module; graphs may be added to the list later.

    Weights have the paths that they have in the model, and the classes of its parts the names that
    they have there.
    """
    kinds = dict(graphs[0].kinds)
    places = [path.rpartition(".")[::2] for path in graphs[0].weights]
    for (part, name), weight in zip(places, weights, strict=True):
        if name == "weight" and weight.ndim == 2:
            kinds.setdefault(part, "Linear")  # one whose module was not called
    kind = type(kinds.get("", "Graph"), (LiftedModule,), {})
    module: LiftedModule = kind(graphs)
    for (part, name), weight in zip(places, weights, strict=True):
        _part(module, part, kinds).register_buffer(name, weight)
    return module


class LiftedModule(torch.nn.Module):
    """Graphs that share their weights; called with a graph's number and its arguments."""

    def __init__(self, graphs: list[TracedGraph]) -> None:
        super().__init__()
        # no list: torch.export would put a copy in its place
        self._graph = graphs.__getitem__

    def forward(self, number: int, *arguments: Any) -> Any:
        """The results of one of the graphs."""
        graph = self._graph(number)
        return graph.run([attribute(self, path) for path in graph.weights], arguments)


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
def _is_weight(node: fx.Node, value: object) -> bool:
    if isinstance(value, torch.nn.Parameter):
        return True
    return re.search(r"\._buffers\['[^']*'\]$", _source(node)) is not None


def _sizes(places: list[fx.Node], used: list[fx.Node]) -> dict[fx.Node, tuple[fx.Node, int]]:
    """Inputs that are the size of one that is used, with that and the dimension."""
    tensors = {_source(node): node for node in used}
    found = {}
    for node in places:
        source = getattr(node, "_dynamo_source", None)
        if isinstance(source, TensorPropertySource) and source.prop is TensorProperty.SIZE:
            tensor = tensors.get(source.base.name)
            if tensor is not None and source.idx is not None:
                found[node] = tensor, source.idx
    return found


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


def _by_use(graph: fx.Graph) -> list[fx.Node]:
    """The inputs that are used, in the order in which nodes compute with them."""
    places = dict.fromkeys(graph.find_nodes(op="placeholder"))
    computing = (node for node in graph.nodes if not _is_size(node))
    used = [operand for node in computing for operand in node.all_input_nodes]
    return [node for node in dict.fromkeys((*used, *places)) if node in places and node.users]


def _structure(graph: fx.Graph, inputs: Mapping[fx.Node, object]) -> tuple[object, ...]:
    """Operators and how they are connected; every size counts as the same."""
    names = dict(inputs)
    found: list[object] = []

    def told(operand: Any) -> Any:
        if isinstance(operand, fx.Node):
            return names.get(operand, "size")
        return "size" if type(operand) is int else repr(operand)

    for node in graph.nodes:
        if node.op != "placeholder" and not _is_size(node):
            names[node] = f"%{len(found)}"
            operands = map_aggregate((node.args, node.kwargs), told)
            found.append((node.op, str(node.target), repr(operands)))
    return tuple(found)


def _is_size(node: fx.Node) -> bool:
    return isinstance(node.meta.get("example_value"), int | torch.SymInt)
