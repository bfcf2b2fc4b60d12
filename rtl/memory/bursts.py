"""Physical ranges as AXI bursts, and the two halves of an AXI4 bus."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.interfaces import axi4
from transept.rtl.memory.windows import request_layout

__all__ = [
    "BURST_BEATS",
    "BurstSplitter",
    "address_channel",
    "axi_read",
    "axi_write",
    "burst_layout",
]

#: Longest burst, which AXI3 ports accept as well.
BURST_BEATS = 16
_COUNT_BITS = BURST_BEATS.bit_length() - 1


def axi_read(cfg: Config) -> wiring.Signature:
    """The read channels (AR, R) of ``axi4``, as seen by the master."""
    return _half(cfg, ("ar", "r"))


def axi_write(cfg: Config) -> wiring.Signature:
    """The write channels (AW, W, B) of ``axi4``, as seen by the master."""
    return _half(cfg, ("aw", "w", "b"))


def _half(cfg: Config, channels: tuple[str, ...]) -> wiring.Signature:
    members = axi4(cfg).members.items()
    return wiring.Signature({name: member for name, member in members if name.startswith(channels)})


def burst_layout() -> data.StructLayout:
    """One burst: ``count`` is beats minus one, ``last`` marks the last burst of a request and
    ``final`` that of a request that was ``last``."""
    return data.StructLayout({"address": 32, "count": _COUNT_BITS, "last": 1, "final": 1})


class BurstSplitter(wiring.Component):
    """Splits a range at multiples of 16 beats, so that no burst crosses 4 KiB. One burst a cycle.

    Members
    -------
    i : In(stream of request_layout), multiples of the beat size
    o : Out(stream of burst_layout)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, cfg: Config) -> None:
        if BURST_BEATS * cfg.axi_bytes > 4096:
            raise ValueError(
                f"axi_data_bits={cfg.memories.axi_data_bits}: a burst would exceed 4 KiB"
            )
        self._beat_log2 = cfg.axi_bytes.bit_length() - 1
        super().__init__(
            {
                "i": In(stream.Signature(request_layout())),
                "o": Out(stream.Signature(burst_layout())),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        block_log2 = self._beat_log2 + _COUNT_BITS
        block, position = Signal(32 - block_log2), Signal(_COUNT_BITS)
        final, valid = Signal(), Signal()
        # of the burst at hand: nothing that leaves waits for a comparison
        count, last = Signal(_COUNT_BITS), Signal()
        rest = Signal(32 - self._beat_log2)  # beats after it, if it is not the last one
        burst = self.o.payload
        m.d.comb += [
            self.o.valid.eq(valid),
            burst.address[self._beat_log2 :].eq(position | block << _COUNT_BITS),
            burst.last.eq(last),
            burst.count.eq(count),
            burst.final.eq(last & final),
            self.i.ready.eq(~valid | (self.o.ready & last)),
        ]

        # what comes begins another request, a register: much follows from it; it is the last one
        begins, ends = Signal(init=1), Signal()
        start = self.i.payload.address[self._beat_log2 : block_log2]
        beats, room = Signal.like(rest), Signal(range(BURST_BEATS + 1))
        m.d.comb += [
            beats.eq(Mux(begins, self.i.payload.bytes[self._beat_log2 :], rest)),
            room.eq(BURST_BEATS - Mux(begins, start, 0)),
            ends.eq(beats <= room),
        ]
        with m.If(~valid | self.o.ready):
            # what comes next is known before the burst at hand is taken
            m.d.sync += [
                begins.eq(ends | (begins & ~self.i.valid)),
                last.eq(ends),
                count.eq(Mux(ends, beats, room) - 1),
                rest.eq(beats - room),
                block.eq(block + 1),
                position.eq(0),
            ]
            with m.If(begins):
                m.d.sync += [
                    valid.eq(self.i.valid),
                    position.eq(self.i.payload.address[self._beat_log2 :]),
                    block.eq(self.i.payload.address[block_log2:]),
                    final.eq(self.i.payload.last),
                ]
        return m


def address_channel(m: Module, cfg: Config, axi: wiring.PureInterface, letter: str) -> None:
    """Drive what never changes: incrementing bursts of full beats, normal memory, ID 0."""
    constants = {
        "size": cfg.axi_bytes.bit_length() - 1,
        "burst": 0b01,
        "cache": 0b0011,
        "prot": 0,
        "id": 0,
    }
    m.d.comb += [getattr(axi, letter + name).eq(value) for name, value in constants.items()]
