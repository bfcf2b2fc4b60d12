"""The window filter: keys near the query."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring

from transept.golden.config import Config
from transept.golden.filters.window import REACH_BITS
from transept.rtl.attention.filters.ports import KeyWalk, clamp_diagonal, filter_members

__all__ = ["WindowFilter"]


class WindowFilter(wiring.Component):
    """Tiles that touch the window of any row of the block; a cycle for each, and for each before.

    Golden rule: ``golden.filters.Window``.

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
        cfg = self._cfg
        walk, answer = KeyWalk(m, cfg, self.request), self.select.payload
        parameter = self.request.payload.parameter
        before, after = parameter[:REACH_BITS], parameter[REACH_BITS:]
        upper, lower = walk.ahead(after), walk.ahead(-before)
        early, skip = Signal(), Signal()
        m.d.comb += [
            early.eq(lower >= cfg.tile),  # the tile ends before the first row's window
            skip.eq(early & ~walk.final),
            self.select.valid.eq(walk.busy & ~skip),
            # an early tile that is the last one: no tile is kept
            answer.tile.eq(Mux(early, 0, walk.tile)),
            answer.upper.eq(Mux(early, -cfg.tile, clamp_diagonal(cfg, upper))),
            answer.lower.eq(clamp_diagonal(cfg, lower)),
            # the next tile begins after the last row's window
            answer.last.eq(walk.final | (upper < 1)),
        ]
        walk.step(skip | self.select.ready, ~skip & answer.last)
        return m
