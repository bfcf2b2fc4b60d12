"""A torch module as a graph of operators, with the value of every node on an example."""

from __future__ import annotations

import contextlib
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only

from transept.host.front.convolution import convolutions_to_linears
from transept.host.front.errors import ExportError
from transept.host.front.nodes import mark_fixed

__all__ = ["Arguments", "Values", "attribute", "export", "float_tensor", "run"]

#: What export places before a cast; it would be one more reader of a value.
_CHECK = torch.ops.aten._assert_tensor_metadata.default

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

    @property
    def told(self) -> str:
        """All of them in words."""
        named = [f"{name} = {_told(tree_leaves(value))}" for name, value in self.kwargs.items()]
        return ", ".join([*([_told(tree_leaves(self.args))] if self.args else []), *named])

    @property
    def key(self) -> tuple:
        """Equal for arguments that one export serves: shapes and types of tensors, other values."""
        leaves, structure = tree_flatten((self.args, self.kwargs))
        return tuple(_kind(leaf) for leaf in leaves), str(structure)

    def like(self, example: Arguments) -> Arguments:
        """The same, named ones in the order of ``example``.

        Raises
        ------
        ExportError
            Unless the arguments are those of ``example``, of any size.
        """
        if self.kwargs.keys() == example.kwargs.keys():
            ordered = Arguments(self.args, {name: self.kwargs[name] for name in example.kwargs})
        else:
            ordered = self
        ordered._check_like(example)
        return ordered

    def _check_like(self, example: Arguments) -> None:
        leaves, structure = tree_flatten((self.args, self.kwargs))
        wanted, wanted_structure = tree_flatten((example.args, example.kwargs))
        if structure != wanted_structure:
            raise ExportError(f"the model takes {example.told} as in its example, got {self.told}")
        for index, (leaf, want) in enumerate(zip(leaves, wanted, strict=True)):
            if isinstance(want, torch.Tensor) and (
                not isinstance(leaf, torch.Tensor)
                or (leaf.dtype, leaf.ndim) != (want.dtype, want.ndim)
            ):
                raise ExportError(
                    f"input {index} is {_told([leaf])}, the example was {_told([want])}"
                )


def _kind(leaf: object) -> object:
    return (leaf.shape, leaf.dtype) if isinstance(leaf, torch.Tensor) else repr(leaf)


def _told(leaves: list[Any]) -> str:
    """Arguments in words."""
    return ", ".join(
        f"{str(leaf.dtype).removeprefix('torch.')}{list(leaf.shape)}"
        if isinstance(leaf, torch.Tensor)
        else repr(leaf)
        for leaf in leaves
    )


def export(model: torch.nn.Module, example: Arguments) -> fx.GraphModule:
    """The graph of ``model`` for the shapes of ``example``, in evaluation mode; the caller's model
    stays in the mode it is in. Nothing is written in place: every node is one value. Convolutions
    become linear layers on the patches that they see.

    Raises
    ------
    ExportError
        If it is no module, torch cannot export it for these inputs, or it writes to its inputs or
        buffers.
    """
    if not isinstance(model, torch.nn.Module):
        raise ExportError(f"the model is a {type(model).__name__}, not a torch.nn.Module")
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with _plain_attention(), _quiet(), torch.no_grad():
            args, kwargs = _unmarked(example)
            exported = torch.export.export(model, args, kwargs)
            if not all(_is_pure(node.target) for node in exported.graph.nodes):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    # what is written in place becomes a value of its own
                    exported = exported.run_decompositions({})
    except Exception as error:
        name = type(model).__name__
        raise ExportError(f"torch cannot export {name}: {_first_line(error)}") from error
    finally:
        for module in training:
            module.training = True
    _check_writes(model, exported)
    module = exported.module()
    for node in module.graph.find_nodes(op="call_function", target=_CHECK):
        module.graph.erase_node(node)
    convolutions_to_linears(module)
    module.graph.eliminate_dead_code()
    mark_fixed(module.graph)
    module.recompile()
    return module


def _unmarked(example: Arguments) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same tensors without dimensions that are marked as dynamic: sizes become numbers."""
    return tree_map_only(torch.Tensor, torch.Tensor.detach, (example.args, example.kwargs))


def _check_writes(model: torch.nn.Module, exported: torch.export.ExportedProgram) -> None:
    """ExportError if results are not all that a run leaves behind."""
    signature = exported.graph_signature
    written = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if written:
        raise ExportError(f"{type(model).__name__} writes to {', '.join(written)}")


def _is_pure(target: object) -> bool:
    """Whether a node surely writes to nothing: inputs and outputs, items, and most operators."""
    if isinstance(target, torch._ops.OpOverload):
        return not target._schema.is_mutable
    return isinstance(target, str) or target is operator.getitem


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """nn.TransformerEncoderLayer spelled out, not as one operator of its own."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch logs of an operator that fails: the error says it."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


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


def attribute(module: torch.nn.Module, path: str) -> torch.Tensor:
    """The tensor behind a dotted path."""
    value: object = module
    for part in path.split("."):
        value = getattr(value, part)
    assert isinstance(value, torch.Tensor)
    return value


def float_tensor(value: object) -> bool:
    """Whether it is a tensor of real numbers."""
    return isinstance(value, torch.Tensor) and value.is_floating_point()
