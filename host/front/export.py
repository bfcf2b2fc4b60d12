"""A torch module as a graph of operators, with the value of every node on an example."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_leaves

from transept.host.front.convolution import convolutions_to_linears
from transept.host.front.errors import ExportError

__all__ = [
    "Arguments",
    "Values",
    "attribute",
    "constant",
    "export",
    "float_tensor",
    "is_constant",
    "run",
]

#: The value of every node of one run.
Values = dict[fx.Node, Any]


@dataclass(frozen=True)
class Arguments:
    """What a model is called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, example: object) -> Arguments:
        """A tensor, a tuple of positional arguments, or a dictionary of named ones.

        Raises
        ------
        ExportError
            If it is something else, or holds no tensor.
        """
        if isinstance(example, Arguments):
            return example
        if isinstance(example, torch.Tensor):
            arguments = cls((example,), {})
        elif isinstance(example, Mapping):
            arguments = cls((), dict(example))
        elif isinstance(example, tuple | list):
            arguments = cls(tuple(example), {})
        else:
            raise ExportError(
                "inputs are a tensor, a tuple of arguments or a dictionary of named ones, "
                f"not {type(example).__name__}"
            )
        if not any(isinstance(leaf, torch.Tensor) for leaf in arguments.leaves()):
            raise ExportError("inputs hold no tensor")
        return arguments

    def leaves(self) -> list[Any]:
        """Every tensor and number, in the order of the graph's inputs."""
        return tree_leaves((self.args, self.kwargs))


def export(model: torch.nn.Module, example: Arguments, dynamic: Any = None) -> fx.GraphModule:
    """The graph of ``model`` in evaluation mode; the caller's model stays in the mode it is in.

    dynamic: ``dynamic_shapes`` of ``torch.export.export``. Convolutions become linear layers on the
    patches that they see.

    Raises
    ------
    ExportError
        If it is no module, or torch cannot export it for these inputs.
    """
    if not isinstance(model, torch.nn.Module):
        raise ExportError(f"the model is a {type(model).__name__}, not a torch.nn.Module")
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with _plain_attention(), torch.no_grad():
            exported = torch.export.export(
                model, example.args, example.kwargs, dynamic_shapes=dynamic
            )
    except Exception as error:
        name = type(model).__name__
        raise ExportError(f"torch cannot export {name}: {_first_line(error)}") from error
    finally:
        for module in training:
            module.training = True
    module = exported.module()
    convolutions_to_linears(module)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """nn.TransformerEncoderLayer spelled out, not as one operator of its own."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class _Interpreter(fx.Interpreter):
    """Keeps every value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)


def run(module: fx.GraphModule, inputs: Arguments) -> Values:
    """Every node's value for these inputs."""
    interpreter = _Interpreter(module)
    with torch.no_grad():
        interpreter.run(*inputs.leaves(), enable_io_processing=False)
    return interpreter.env


def is_constant(node: object) -> bool:
    """Whether it is a parameter, a buffer or absent, and not computed."""
    return node is None or (isinstance(node, fx.Node) and node.op == "get_attr")


def constant(module: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    """The tensor of a parameter or buffer, as float32."""
    return attribute(module, str(node.target)).detach().float()


def attribute(module: fx.GraphModule, path: str) -> torch.Tensor:
    """The tensor behind a dotted path."""
    value: object = module
    for part in path.split("."):
        value = getattr(value, part)
    assert isinstance(value, torch.Tensor)
    return value


def float_tensor(value: object) -> bool:
    """Whether it is a tensor of real numbers."""
    return isinstance(value, torch.Tensor) and value.is_floating_point()
