"""The ports of an Amaranth component under cocotb, by name and in values of their own shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from amaranth.hdl import Const, Shape
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

from transept.sim.streams import reset

__all__ = ["Pins", "from_bits", "to_bits"]

PERIOD_NS = 10


def to_bits(shape: Any, value: Any) -> int:
    """An integer, a sequence or a mapping as the bits of its shape."""
    if not isinstance(value, Mapping | Iterable):
        return int(value) & (1 << Shape.cast(shape).width) - 1
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    parts = ((shape[key], item) for key, item in items)
    return sum(to_bits(field.shape, item) << field.offset for field, item in parts)


def from_bits(shape: Any, bits: int) -> Any:
    """Bits as an integer, a list (arrays) or a dictionary (structures)."""
    plain = Shape.cast(shape)
    if isinstance(shape, data.Layout):
        found = {key: from_bits(field.shape, bits >> field.offset) for key, field in shape}
        return list(found.values()) if isinstance(shape, data.ArrayLayout) else found
    value = bits & (1 << plain.width) - 1
    return value - (1 << plain.width) if plain.signed and value >> plain.width - 1 else value


class Pins:
    """Sets inputs and samples outputs cycle by cycle.

    ``tick`` goes to the end of the cycle: what is read there are the values of the cycle, what is
    set there are the inputs of the next one. ``settle`` goes to the middle of a cycle, where
    outputs have followed the inputs, and inputs may still change.
    """

    def __init__(self, dut: Any, component: wiring.Component) -> None:
        self.dut = dut
        self.cycle = 0
        self._shapes, self._inputs = {}, []
        for path, member, value in component.signature.flatten(component):
            if isinstance(value, Const):
                continue
            name = "__".join(map(str, path))
            self._shapes[name] = member.shape
            if member.flow is In:
                self._inputs.append(name)
        self._handles = {name: getattr(dut, name) for name in self._shapes}

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    async def start(self) -> None:
        """Clock and reset, with all inputs 0."""
        for name in self._inputs:
            self._handles[name].value = 0
        Clock(self.dut.clk, PERIOD_NS, unit="ns").start()
        await reset(self.dut)

    async def tick(self, cycles: int = 1) -> None:
        """To the end of this cycle."""
        for _ in range(cycles):
            await RisingEdge(self.dut.clk)
            self.cycle += 1

    async def settle(self) -> None:
        """To the middle of this cycle."""
        await FallingEdge(self.dut.clk)

    def set(self, name: str, value: Any) -> None:
        """Set an input: an integer, or what its layout takes."""
        self._handles[name].value = to_bits(self._shapes[name], value)

    def put(self, prefix: str, **values: Any) -> None:
        """Set several ports ``prefix__name``."""
        for name, value in values.items():
            self.set(f"{prefix}__{name}", value)

    def raw(self, name: str) -> int:
        """The bits of a port."""
        return int(self._handles[name].value)

    def get(self, name: str) -> Any:
        """The value of a port: an integer, a list or a dictionary."""
        return from_bits(self._shapes[name], self.raw(name))

    def moves(self, name: str) -> bool:
        """In this cycle an item of a stream, or a request ``en & ready``, is accepted."""
        en = f"{name}__en"
        first = en if en in self._shapes else f"{name}__valid"
        return bool(self.raw(first) and self.raw(f"{name}__ready"))
