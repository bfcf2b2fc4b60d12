"""Registers without back-pressure: the glue of the fixed-latency pipelines."""

from __future__ import annotations

from amaranth import EnableInserter, Module, Signal, Value
from amaranth.hdl import Elaboratable, ValueLike

__all__ = ["delay", "resting"]


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


def resting(
    m: Module,
    pipeline: Elaboratable,
    latency: int,
    entering: ValueLike,
    *,
    unless: ValueLike = 0,
) -> Elaboratable:
    """``pipeline`` with its registers held while nothing is under way: idle logic takes no power.

    It moves in the cycles in which something is ``entering``, for ``latency`` cycles after them and
    in the cycles of ``unless``.
    """
    left, moving = Signal(range(latency + 1), name="cycles_left"), Signal(name="moving")
    with m.If(entering):
        m.d.sync += [left.eq(latency), moving.eq(latency > 0)]
    with m.Elif(moving):
        m.d.sync += [left.eq(left - 1), moving.eq(left != 1)]
    return EnableInserter(Value.cast(entering) | moving | unless)(pipeline)
