"""The causal filter: keys up to the query's own position."""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import stream, wiring

from transept.golden.config import Config
from transept.rtl.attention.filters.ports import KeyWalk, clamp_diagonal, filter_members

__all__ = ["CausalFilter"]


class CausalFilter(wiring.Component):
    """Tiles that begin at or before the block's last row, one a cycle.

    Golden rule: ``golden.filters.Causal``.

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
        ahead = walk.ahead()
        m.d.comb += [
            self.select.valid.eq(walk.busy),
            answer.tile.eq(walk.tile),
            answer.upper.eq(clamp_diagonal(self._cfg, ahead)),
            answer.lower.eq(-self._cfg.tile),
            # the next tile begins after the block's last row
            answer.last.eq(walk.final | (ahead < 1)),
        ]
        walk.step(self.select.ready, answer.last)
        return m
