"""The key filters of an accelerator behind one set of ports."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring

from transept.golden import filters
from transept.golden.config import Config
from transept.rtl.attention.filters import FILTERS
from transept.rtl.attention.filters.ports import filter_members, looking_members
from transept.rtl.hls.blocks import chosen

__all__ = ["FilterBank"]

_LOOKING = [rule.kind for rule in filters.FILTERS.values() if rule.looks]


class FilterBank(wiring.Component):
    """The filters that the configuration names; the request's ``kind`` says which one answers.

    Other kinds get the first one. A request is taken when the answer before it is complete. Answers
    pass a register, for the walk behind them is long: one every other cycle.

    Members
    -------
    request, select : see ``filter_members``
    query, observe : if any filter looks at the data
    """

    request: stream.Interface
    select: stream.Interface
    query: stream.Interface
    observe: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(filter_members(cfg) | (looking_members(cfg) if cfg.observes else {}))

    @staticmethod
    def needs_query(cfg: Config, kind: Value) -> Value:
        """Whether filter ``kind`` wants the query rows of its block."""
        return Cat(kind == value for value in _LOOKING if value in cfg.key_filters).any()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parts = {
            kind: chosen(self._cfg, FILTERS[kind])(self._cfg) for kind in self._cfg.key_filters
        }
        owner = Signal.like(self.request.payload.kind)
        busy = Signal()
        for kind, part in parts.items():
            m.submodules[kind.name.lower()] = part
            m.d.comb += part.request.payload.eq(self.request.payload)
            for name in ("query", "observe") if kind in _LOOKING else ():
                source, sink = getattr(self, name), getattr(part, name)
                m.d.comb += [sink.valid.eq(source.valid), sink.payload.eq(source.payload)]

        known = Cat(self.request.payload.kind == kind for kind in parts).any()
        wanted = Mux(known, self.request.payload.kind, next(iter(parts)))
        answer = Signal(self.select.payload.shape())
        offered, taken = Signal(), Signal()
        m.d.comb += taken.eq(offered & ~self.select.valid)
        for kind, part in parts.items():
            with m.If(~busy & (wanted == kind)):
                m.d.comb += [
                    part.request.valid.eq(self.request.valid),
                    self.request.ready.eq(part.request.ready),
                ]
            with m.If(busy & (owner == kind)):
                m.d.comb += [
                    offered.eq(part.select.valid),
                    answer.eq(part.select.payload),
                    part.select.ready.eq(~self.select.valid),
                ]
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [busy.eq(1), owner.eq(wanted)]
        with m.If(self.select.ready):
            m.d.sync += self.select.valid.eq(0)
        with m.If(taken):
            m.d.sync += [self.select.valid.eq(1), self.select.payload.eq(answer)]
            with m.If(answer.last):
                m.d.sync += busy.eq(0)
        return m
