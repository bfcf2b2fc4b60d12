"""Dependency tokens between engines."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.isa import TOKEN_LIMIT, Engine

__all__ = ["TokenCounters", "masks_layout"]


def masks_layout() -> data.ArrayLayout:
    """For each engine, a set of engines (bit numbers of ``isa.Engine``)."""
    return data.ArrayLayout(len(Engine), len(Engine))


class TokenCounters(wiring.Component):
    """Counts the tokens on the way from each of ``engines`` to each other.

    Given in one cycle, a token can be taken in the next one; giving and taking may coincide.

    Members
    -------
    give : In(masks), ``give[f]``: engines that get a token from f
    take : In(masks), ``take[t]``: engines of which t takes a token; only what is ``there``
    there : Out(masks), ``there[t]``: engines that have a token for t
    clear : In(1), forget all tokens
    overflow : Out(bit for each giving engine), high for one cycle, the next; the token is lost
    """

    def __init__(self, engines: Sequence[Engine] = tuple(Engine)) -> None:
        self._engines = engines
        masks = masks_layout()
        super().__init__(
            {
                "give": In(masks),
                "take": In(masks),
                "there": Out(masks),
                "clear": In(1),
                "overflow": Out(len(Engine)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counts = {
            (giver, taker): Signal(
                range(TOKEN_LIMIT + 1), name=f"{giver.name}_{taker.name}".lower()
            )
            for giver in self._engines
            for taker in self._engines
        }
        for (giver, taker), count in counts.items():
            m.d.comb += self.there[taker][giver].eq(count != 0)
        m.d.sync += self.overflow.eq(0)
        with m.If(Cat(self.give, self.take, self.clear).any()):
            for (giver, taker), count in counts.items():
                self._move(m, giver, taker, count)
        return m

    def _move(self, m: Module, giver: Engine, taker: Engine, count: Signal) -> None:
        give, take = self.give[giver][taker], self.take[taker][giver]
        step = Cat(1, take.replicate(len(count) - 1))  # one more, or one less
        with m.If(self.clear):
            m.d.sync += count.eq(0)
        with m.Elif(give & ~take & (count == TOKEN_LIMIT)):
            m.d.sync += self.overflow[giver].eq(1)
        with m.Elif(give ^ take):
            m.d.sync += count.eq(count + step)
