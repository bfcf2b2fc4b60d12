"""A flat netlist of one module, as Yosys writes it (``write_json``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Cell", "Netlist", "read_netlist"]


@dataclass(frozen=True)
class Cell:
    """One primitive.

    kind: of the part's library; parameters: as text; pins: the nets of each port, lowest bit first,
    None for a constant; outputs: ports that drive; scope: names of the modules that it was in;
    source: ``file:line`` of what it was made from, empty if the mapping lost it.
    """

    name: str
    kind: str
    parameters: Mapping[str, str]
    pins: Mapping[str, tuple[int | None, ...]]
    outputs: frozenset[str]
    scope: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Netlist:
    """Cells, and the nets that enter and leave by the ports of the module."""

    cells: tuple[Cell, ...]
    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: Mapping[str, tuple[int | None, ...]]


def read_netlist(design: Mapping[str, Any], top: str) -> Netlist:
    """The module ``top`` of a JSON netlist.

    Raises
    ------
    ValueError
        If there is no such module.
    """
    modules = design["modules"]
    if top not in modules:
        raise ValueError(f"no module {top!r} in the netlist, there is {', '.join(modules)}")
    module = modules[top]
    ports: dict[str, dict[str, tuple[int | None, ...]]] = {"input": {}, "output": {}}
    for name, port in module["ports"].items():
        ports[port["direction"]][name] = _nets(port["bits"])
    cells = (
        _cell(name, found)
        for name, found in module["cells"].items()
        if not found["type"].startswith("$")
    )
    return Netlist(tuple(cells), ports["input"], ports["output"])


def _nets(bits: list[Any]) -> tuple[int | None, ...]:
    return tuple(bit if isinstance(bit, int) else None for bit in bits)


def _cell(name: str, found: Mapping[str, Any]) -> Cell:
    attributes = found["attributes"]
    directions = found["port_directions"]
    return Cell(
        name=name,
        kind=found["type"],
        parameters=found["parameters"],
        pins={port: _nets(bits) for port, bits in found["connections"].items()},
        outputs=frozenset(port for port in found["connections"] if directions[port] == "output"),
        scope=_scope(name, found["hide_name"], attributes),
        source=_source(attributes.get("src", "")),
    )


def _scope(name: str, hidden: int, attributes: Mapping[str, str]) -> tuple[str, ...]:
    """Modules from outside to inside: ``flatten -scopename`` notes them, or public names have them.

    A cell that a memory became has the name of the memory.
    """
    if "scopename" in attributes:
        return tuple(attributes["scopename"].split())
    return () if hidden else tuple(name.split(".")[:-1])


def _source(text: str) -> str:
    """The first place in the RTL or in Amaranth: files of the synthesiser and of Python, which say
    little of where a cell came from, have absolute paths."""
    return next((place for place in text.split("|") if not place.startswith("/")), "")
