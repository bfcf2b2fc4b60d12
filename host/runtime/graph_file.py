"""Graphs and configurations in the manifest of a program file.

Fields of operators and parameters are those of their dataclasses, written by type: a new operator
needs nothing here. What is read goes through the same dataclasses, whose checks run.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

from transept.golden import filters
from transept.golden.config import Config
from transept.golden.graph import Dim, Graph, GraphError, Operator, State, Value
from transept.golden.numerics.four_bit import FourBitWeights
from transept.golden.numerics.norm import NormParameters
from transept.golden.numerics.requantise import ActivationTable, ChannelParameters
from transept.golden.ops import OPERATORS
from transept.host.runtime.arrays import ArrayReader, ArrayWriter
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.manifest import Node

__all__ = ["read_config", "read_graph", "write_config", "write_graph"]

#: Most dimensions, values and operators of a graph, elements of a value, and rows.
MOST_DIMS, MOST_VALUES, WIDEST, LONGEST = 64, 1 << 16, 1 << 20, 1 << 24
#: Largest number of a configuration, and largest on-chip memory in elements.
MOST_OF_ANYTHING, LARGEST_MEMORY = 1 << 20, 1 << 24
MOST_PARTS = 64
#: Numbers of operators; their own checks know closer limits.
WORD = 1 << 32

Write = Callable[[Any, str, ArrayWriter], Any]
Read = Callable[[Node, ArrayReader], Any]


# --- configurations
def write_config(config: Config) -> dict[str, Any]:
    """The fields of a configuration that a program depends on, and its digest."""
    return {"fields": config.program_fields, "digest": config.digest}


def read_config(node: Node) -> Config:
    """The inverse of ``write_config``.

    Raises
    ------
    ProgramError
        If a value is outside its limits, or the digest is that of another one.
    """
    parts = node.fields("fields", "digest")
    try:
        config = _read_section(parts["fields"], Config)
    except ValueError as error:
        if isinstance(error, ProgramError):
            raise
        raise ProgramError(f"{parts['fields'].where}: {error}") from None
    memories = {"act_banks": config.act_words, "stat_words": config.memories.stat_words}
    for name, words in memories.items():
        if words * config.tile > LARGEST_MEMORY:
            raise ProgramError(
                f"{parts['fields'].where}.memories.{name} has {words * config.tile} elements, "
                f"at most {LARGEST_MEMORY} are allowed"
            )
    if parts["digest"].integer(0, WORD - 1) != config.digest:
        raise parts["digest"].refuse(f"{config.digest}, the digest of {config.name} here")
    return config


def _read_section(node: Node, kind: type) -> Any:
    """A dataclass of numbers, names, and dataclasses of the same sort."""
    hints = typing.get_type_hints(kind)
    hints = {field.name: hints[field.name] for field in dataclasses.fields(kind) if _stored(field)}
    parts = node.fields(*hints)
    return kind(**{name: _read_fact(parts[name], hint) for name, hint in hints.items()})


def _stored(field: dataclasses.Field) -> bool:
    """Whether a field is in the file: one with a default says nothing of what programs do."""
    return field.default is dataclasses.MISSING


def _read_fact(node: Node, hint: Any) -> Any:
    if hint is int:
        return node.integer(0, MOST_OF_ANYTHING)
    if hint is bool:
        return node.flag()
    if hint is str:
        return node.text()
    if dataclasses.is_dataclass(hint):
        return _read_section(node, hint)  # type: ignore[arg-type]
    (element, _) = typing.get_args(hint)  # a tuple of any length
    return tuple(_read_fact(part, element) for part in node.items(MOST_PARTS))


# --- graphs
def write_graph(graph: Graph, arrays: ArrayWriter, place: str) -> dict[str, Any]:
    """A graph; its arrays get names that begin with ``place``."""
    return {
        "dims": [dataclasses.asdict(dim) for dim in graph.dims],
        "values": [
            {
                "name": value.name,
                "dim": value.dim,
                "width": value.width,
                "bits": value.bits,
                "scale": None
                if value.scale is None
                else arrays.add(f"{place}.{value.name}.scale", value.scale),
            }
            for value in graph.values.values()
        ],
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "states": [dataclasses.asdict(state) for state in graph.states],
        "operators": [_write_operator(op, arrays, place) for op in graph.ops],
    }


def read_graph(node: Node, arrays: ArrayReader) -> Graph:
    """The inverse of ``write_graph``.

    Raises
    ------
    ProgramError
        If a field is not what it must be, or the parts do not make a graph.
    """
    parts = node.fields("dims", "values", "inputs", "outputs", "states", "operators")
    try:
        values = [_read_value(entry, arrays) for entry in parts["values"].items(MOST_VALUES)]
        graph = Graph(
            tuple(_read_dim(entry) for entry in parts["dims"].items(MOST_DIMS, 1)),
            {value.name: value for value in values},
            tuple(entry.text() for entry in parts["inputs"].items(MOST_VALUES, 1)),
            tuple(entry.text() for entry in parts["outputs"].items(MOST_VALUES, 1)),
            tuple(_read_operator(e, arrays) for e in parts["operators"].items(MOST_VALUES, 1)),
            tuple(_read_state(entry) for entry in parts["states"].items(MOST_VALUES)),
        )
    except GraphError as error:
        raise ProgramError(f"{node.where}: {error}") from None
    if len(values) > len(graph.values):
        raise ProgramError(f"{parts['values'].where} names a value twice")
    if len({dim.name for dim in graph.dims}) < len(graph.dims):
        raise ProgramError(f"{parts['dims'].where} names a dimension twice")
    return graph


def _read_dim(node: Node) -> Dim:
    parts = node.fields("name", "limit")
    return Dim(parts["name"].text(), parts["limit"].integer(1, LONGEST))


def _read_value(node: Node, arrays: ArrayReader) -> Value:
    parts = node.fields("name", "dim", "width", "bits", "scale")
    scale = parts["scale"].optional()
    return Value(
        parts["name"].text(),
        parts["dim"].text(),
        parts["width"].integer(1, WIDEST),
        parts["bits"].integer(1, 64),
        None if scale is None else arrays.take(scale, np.float64),
    )


def _read_state(node: Node) -> State:
    parts = node.fields("input", "output")
    return State(parts["input"].text(), parts["output"].text())


# --- operators
def _write_operator(op: Operator, arrays: ArrayWriter, place: str) -> dict[str, Any]:
    written = _write_fields(op, f"{place}.{op.name}", arrays)
    return {"operator": type(op).__name__.lower(), **written}


def _read_operator(node: Node, arrays: ArrayReader) -> Operator:
    kind = OPERATORS[node["operator"].choice(OPERATORS)]
    return _read_fields(node, kind, arrays, "operator")


def _write_fields(source: Any, place: str, arrays: ArrayWriter) -> dict[str, Any]:
    return {
        field.name: _KINDS[str(field.type)][0](
            getattr(source, field.name), f"{place}.{field.name}", arrays
        )
        for field in dataclasses.fields(source)
    }


def _read_fields(node: Node, kind: type, arrays: ArrayReader, *others: str) -> Any:
    described = dataclasses.fields(kind)
    parts = node.fields(*others, *(field.name for field in described))
    return kind(**{f.name: _KINDS[str(f.type)][1](parts[f.name], arrays) for f in described})


def _plain(value: Any, place: str, arrays: ArrayWriter) -> Any:
    return value


def _number(value: Any, place: str, arrays: ArrayWriter) -> int:
    return int(value)


def _array(value: Any, place: str, arrays: ArrayWriter) -> str:
    return arrays.add(place, value)


def _write_filter(rule: filters.KeyFilter, place: str, arrays: ArrayWriter) -> dict[str, Any]:
    return {"kind": rule.kind.name.lower(), "parameter": rule.parameter}


def _read_filter(node: Node, arrays: ArrayReader) -> filters.KeyFilter:
    parts = node.fields("kind", "parameter")
    rule = filters.FILTERS[parts["kind"].choice(filters.FILTERS)]
    parameter = parts["parameter"].integer(0, WORD - 1)
    try:
        return rule.decode(parameter)
    except ValueError as error:
        raise ProgramError(f"{node.where}: {error}") from None


def _record(kind: type) -> tuple[Write, Read]:
    """How a dataclass of parameters is written and read."""
    return (
        lambda value, place, arrays: _write_fields(value, place, arrays),
        lambda node, arrays: _read_fields(node, kind, arrays),
    )


def _or_null(write: Write, read: Read) -> tuple[Write, Read]:
    def write_it(value: Any, place: str, arrays: ArrayWriter) -> Any:
        return None if value is None else write(value, place, arrays)

    def read_it(node: Node, arrays: ArrayReader) -> Any:
        return None if node.optional() is None else read(node, arrays)

    return write_it, read_it


_TEXT: tuple[Write, Read] = (_plain, lambda node, arrays: node.text())
_TABLE = _record(ActivationTable)
_CONSTANTS: tuple[Write, Read] = (_array, lambda node, arrays: arrays.take(node))

#: How a field of each type is written and read.
_KINDS: dict[str, tuple[Write, Read]] = {
    "str": _TEXT,
    "str | None": _or_null(*_TEXT),
    "int": (_number, lambda node, arrays: node.integer(-WORD, WORD)),
    "bool": (lambda value, place, arrays: bool(value), lambda node, arrays: node.flag()),
    "np.ndarray": _CONSTANTS,
    "Array": _CONSTANTS,
    "KeyFilter": (_write_filter, _read_filter),
    "ChannelParameters": _record(ChannelParameters),
    "NormParameters": _record(NormParameters),
    "ActivationTable | None": _or_null(*_TABLE),
    "FourBitWeights | None": _or_null(*_record(FourBitWeights)),
}
