"""The dense filter: every key."""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import stream, wiring

from transept.golden.config import Config
from transept.rtl.attention.filters.ports import KeyWalk, filter_members, keep_all

__all__ = ["DenseFilter"]


class DenseFilter(wiring.Component):
    """Every key tile, one a cycle. Golden rule: ``golden.filters.Dense``.

    Members
    -------
    request, select : see ``filter_members``
    """

    request: stream.Interface
    select: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(filter_members(cfg))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        walk, answer = KeyWalk(m, self._cfg, self.request), self.select.payload
        m.d.comb += [
            self.select.valid.eq(walk.busy),
            answer.tile.eq(walk.tile),
            *keep_all(self._cfg, answer),
            answer.last.eq(walk.final),
        ]
        walk.step(self.select.ready, answer.last)
        return m
