"""Load and store engine with their AXI masters on one AXI4 port."""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from transept.golden.config import Config
from transept.rtl.interfaces import axi4
from transept.rtl.memory.load import LoadEngine
from transept.rtl.memory.reader import ReadMaster
from transept.rtl.memory.store import StoreEngine
from transept.rtl.memory.writer import WriteMaster

__all__ = ["TransferSystem"]

INSIDE = ("request", "beats", "done")


class TransferSystem(wiring.Component):
    """Members: ``load_`` and ``store_`` with every open port of the engines, and ``m_axi``."""

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._engines = {"load": LoadEngine(cfg), "store": StoreEngine(cfg)}
        super().__init__(
            {"m_axi": Out(axi4(cfg))}
            | {
                f"{prefix}_{name}": member
                for prefix, engine in self._engines.items()
                for name, member in engine.signature.members.items()
                if name not in INSIDE
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.load = load = self._engines["load"]
        m.submodules.store = store = self._engines["store"]
        m.submodules.reader = reader = ReadMaster(self._cfg)
        m.submodules.writer = writer = WriteMaster(self._cfg)
        connect(m, load.request, reader.load_request)
        connect(m, reader.load_data, load.beats)
        connect(m, store.request, writer.request)
        connect(m, store.beats, writer.data)
        m.d.comb += store.done.eq(writer.done)
        for part in (reader.axi, writer.axi):
            for name, member in part.signature.members.items():
                self._join(m, member, getattr(self.m_axi, name), getattr(part, name))
        for prefix, engine in self._engines.items():
            for name, member in engine.signature.members.items():
                if name not in INSIDE:
                    self._join(m, member, getattr(self, f"{prefix}_{name}"), getattr(engine, name))
        return m

    @staticmethod
    def _join(m: Module, member: wiring.Member, outer: object, inner: object) -> None:
        if member.is_signature:
            connect(m, flipped(outer), inner)
        else:
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
