"""Registers without back-pressure: the glue of the fixed-latency pipelines."""

from __future__ import annotations

from amaranth import Module, Signal, Value
from amaranth.hdl import ValueLike

__all__ = ["delay"]


def delay(m: Module, value: ValueLike, cycles: int, *, reset_less: bool = False) -> Value:
    """``value`` as it was ``cycles`` cycles ago, the same shape.

    ``reset_less`` is for data that a flag accompanies: it maps to shift-register LUTs.
    """
    value = Value.cast(value)
    for _ in range(cycles):
        later = Signal.like(value, name="later", reset_less=reset_less)
        m.d.sync += later.eq(value)
        value = later
    return value
