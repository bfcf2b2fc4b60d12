"""The ports of a component in Amaranth's simulator, as ``pins.Pins`` has them under cocotb."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator
from pins import from_bits, to_bits
from scratchpads import Scratchpads, run_engine

from transept.golden.isa import Instruction

__all__ = ["SimPins", "simulate_engine"]


class SimPins:
    """As ``Pins``; ``seen`` has the values of the stream that is listened to."""

    def __init__(self, ctx: Any, component: wiring.Component, listen: str = "") -> None:
        self._ctx, self._listen, self.seen = ctx, listen, list[Any]()
        self._shapes, self._ports = {}, {}
        for path, member, value in component.signature.flatten(component):
            if not isinstance(value, Const):
                name = "__".join(map(str, path))
                self._shapes[name], self._ports[name] = member.shape, Value.cast(value)
        self._bits: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    async def tick(self) -> None:
        _, _, *found = await self._ctx.tick().sample(*self._ports.values())
        self._bits = dict(zip(self._ports, found, strict=True))
        if self._listen and self.raw(f"{self._listen}__valid"):
            self.seen.append(self.get(f"{self._listen}__payload"))

    def set(self, name: str, value: Any) -> None:
        self._ctx.set(self._ports[name], to_bits(self._shapes[name], value))

    def raw(self, name: str) -> int:
        return int(self._bits[name])

    def get(self, name: str) -> Any:
        return from_bits(self._shapes[name], self.raw(name))

    def moves(self, name: str) -> bool:
        en = f"{name}__en" if f"{name}__en" in self else f"{name}__valid"
        return bool(self.raw(en) and self.raw(f"{name}__ready"))


def simulate_engine(
    engine: wiring.Component,
    pads: Scratchpads,
    program: list[Instruction],
    *,
    before: Any = None,
    listen: str = "",
) -> list[Any]:
    """Run a program on an engine with memories; what it told by the stream ``listen``. ``before``:
    what is done with its pins first."""
    told = []

    async def bench(ctx: Any) -> None:
        pins = SimPins(ctx, engine, listen)
        if before:
            await before(pins)
        await pins.tick()
        pads.step(pins)  # type: ignore[arg-type]
        await run_engine(pins, pads, program, limit=3000)  # type: ignore[arg-type]
        told.append(pins.seen)

    sim = Simulator(engine)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    (seen,) = told
    return seen
