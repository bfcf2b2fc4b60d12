"""Registers on every channel of an AXI4 bus."""

from __future__ import annotations

from typing import Any

from amaranth import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.interfaces import axi4
from transept.rtl.memory.skid import Skid

__all__ = ["AxiSlice"]

_CHANNELS = ("aw", "w", "b", "ar", "r")
_HANDSHAKE = ("valid", "ready")


class AxiSlice(wiring.Component):
    """No path runs from one side to the other; a beat a cycle, one cycle later.

    Members
    -------
    i : In(axi4), the side of the master
    o : Out(axi4)
    """

    i: Any
    o: Any

    def __init__(self, cfg: Config) -> None:
        self._signature = axi4(cfg)
        super().__init__({"i": In(self._signature), "o": Out(self._signature)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for channel in _CHANNELS:
            forward = self._signature.members[f"{channel}valid"].flow is Out
            source, sink = (self.i, self.o) if forward else (self.o, self.i)
            shapes = {
                name: member.shape
                for name, member in self._signature.members.items()
                if self._is_of(name, channel)
            }
            m.submodules[channel] = skid = Skid(data.StructLayout(shapes))
            m.d.comb += [
                skid.i.valid.eq(getattr(source, f"{channel}valid")),
                getattr(source, f"{channel}ready").eq(skid.i.ready),
                getattr(sink, f"{channel}valid").eq(skid.o.valid),
                skid.o.ready.eq(getattr(sink, f"{channel}ready")),
            ]
            for name in shapes:
                m.d.comb += [
                    skid.i.payload[name].eq(getattr(source, name)),
                    getattr(sink, name).eq(skid.o.payload[name]),
                ]
        return m

    @staticmethod
    def _is_of(name: str, channel: str) -> bool:
        """Whether a member is of the payload of a channel."""
        return name.startswith(channel) and name.removeprefix(channel) not in _HANDSHAKE
