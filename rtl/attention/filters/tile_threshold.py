"""The tile-threshold filter: key tiles whose estimated scores are large enough."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.hdl import signed
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import connect, flipped

from transept.golden.config import Config
from transept.rtl.attention.estimate import TileEstimator
from transept.rtl.attention.filters.ports import (
    filter_members,
    keep_all,
    keep_none,
    log2,
    looking_members,
)

__all__ = ["TileThresholdFilter"]


class TileThresholdFilter(wiring.Component):
    """Tiles whose estimate reaches the threshold, and the last one if it is partial.

    Golden rule: ``golden.filters.TileThreshold``. Kept tiles are queued, so estimating never waits
    for the one who asked.

    Members
    -------
    request, select, query, observe : see ``filter_members``
    """

    request: stream.Interface
    select: stream.Interface
    query: stream.Interface
    observe: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(filter_members(cfg) | looking_members(cfg))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.estimator = estimator = TileEstimator(cfg)
        answer, request = self.select.payload, self.request.payload
        m.submodules.kept = kept = SyncFIFO(width=len(answer.tile), depth=cfg.key_tiles)
        threshold, partial = Signal(signed(len(request.parameter))), Signal()
        busy, complete = Signal(), Signal()

        connect(m, flipped(self.observe), estimator.observe)
        connect(m, flipped(self.query), estimator.query)
        keep = (estimator.estimate >= threshold) | (estimator.last & partial)
        m.d.comb += [
            self.request.ready.eq(~busy),
            estimator.start.eq(self.request.valid & ~busy),
            estimator.rows.eq(request.rows),
            estimator.last_tile.eq(request.keys >> log2(cfg.tile)),
            estimator.region.eq(request.region),
            estimator.d_tiles.eq(request.d_tiles),
            kept.w_en.eq(estimator.valid & keep),
            kept.w_data.eq(estimator.tile),
        ]
        # a kept tile may be the last one as long as no other is known
        m.d.comb += [
            self.select.valid.eq(complete | (kept.level > 1)),
            answer.tile.eq(kept.r_data),
            *keep_all(cfg, answer),
            answer.last.eq(kept.level <= 1),
            kept.r_en.eq(self.select.valid & self.select.ready),
        ]
        with m.If(~kept.r_rdy):
            m.d.comb += [answer.tile.eq(0), *keep_none(cfg, answer)]

        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [
                busy.eq(1),
                threshold.eq(request.parameter),
                partial.eq(~request.keys[: log2(cfg.tile)].all()),
            ]
        with m.If(estimator.valid & estimator.last):
            m.d.sync += complete.eq(1)
        with m.If(self.select.valid & self.select.ready & answer.last):
            m.d.sync += [busy.eq(0), complete.eq(0)]
        return m
