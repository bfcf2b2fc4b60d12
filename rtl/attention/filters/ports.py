"""What every key filter is asked, and what it answers."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, Value
from amaranth.hdl import ValueLike, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.rtl.arith.fixed import index_bits
from transept.rtl.gemm.descriptors import band_layout
from transept.rtl.interfaces import observation_layout, operand, stat_word

__all__ = [
    "KeyWalk",
    "clamp_diagonal",
    "filter_members",
    "keep_all",
    "keep_none",
    "log2",
    "looking_members",
    "request_layout",
    "select_layout",
]

_POSITION_BITS = operand(Opcode.SCORES, "position").width + 1
#: Shape of the distance from a key to a query; no position that a program can name wraps around.
_AHEAD = signed(_POSITION_BITS + 1)


def log2(value: int) -> int:
    """Exponent of a power of two."""
    return value.bit_length() - 1


def request_layout(cfg: Config) -> data.StructLayout:
    """One block of query rows.

    rows: of the block, minus one; position: of its first row in the sequence; key_base: position of
    the first key; keys: how many, minus one; region: summary of the first key (K address over
    ``tile``).
    """
    return data.StructLayout(
        {
            "kind": operand(Opcode.SCORES, "filter"),  # isa.Filter
            "rows": log2(cfg.tile),
            "position": _POSITION_BITS,
            "key_base": operand(Opcode.SCORES, "key_base"),
            "keys": operand(Opcode.SCORES, "keys"),
            "region": index_bits(cfg.key_summaries),
            "d_tiles": operand(Opcode.SCORES, "d_tiles"),
            "parameter": operand(Opcode.SCORES, "parameter"),
        }
    )


def select_layout(cfg: Config) -> data.StructLayout:
    """One key tile to compute, and the diagonals of its band (see ``band_layout``)."""
    band = band_layout(cfg)
    return data.StructLayout(
        {
            "tile": index_bits(cfg.key_tiles),
            "upper": band["upper"].shape,
            "lower": band["lower"].shape,
            "last": 1,
        }
    )


def filter_members(cfg: Config) -> dict[str, wiring.Member]:
    """Ports of every filter.

    request : In(stream of request_layout), taken when the filter is free
    select : Out(stream of select_layout), the answer, key tiles in ascending order; at least one,
        tile 0 without a kept key if the filter keeps none; ``last`` ends it

    and of those whose golden rule ``looks`` at the data (``looking_members``)

    query : In(always-ready stream of int8[tile]), the rows of the block just requested, d tile by d
        tile, every row of a d tile after the other
    observe : In(always-ready stream of observation_layout), every observed word of K
    """
    return {
        "request": In(stream.Signature(request_layout(cfg))),
        "select": Out(stream.Signature(select_layout(cfg))),
    }


def looking_members(cfg: Config) -> dict[str, wiring.Member]:
    """Further ports of filters that look at the data; see ``filter_members``."""
    return {
        "query": In(stream.Signature(stat_word(cfg), always_ready=True)),
        "observe": In(stream.Signature(observation_layout(cfg), always_ready=True)),
    }


def keep_all(cfg: Config, answer: data.View) -> list:
    """Assign the band that keeps every key."""
    return [answer.upper.eq(cfg.tile - 1), answer.lower.eq(-cfg.tile)]


def keep_none(cfg: Config, answer: data.View) -> list:
    """Assign the band that keeps no key."""
    return [answer.upper.eq(-cfg.tile), answer.lower.eq(-cfg.tile)]


def clamp_diagonal(cfg: Config, distance: Value) -> Value:
    """A diagonal that lies beyond the tile is as good as one at its corner."""
    low = log2(cfg.tile)
    inside = (distance[low:] == 0) | distance[low:].all()
    corner = Mux(distance[-1], -cfg.tile, cfg.tile - 1)
    return Mux(inside, distance[: low + 1].as_signed(), corner)


class KeyWalk:
    """The state of a filter that goes through the key tiles of a request, one a cycle.

    Attributes
    ----------
    busy, tile, final : Signals: a request is answered; the tile at hand; it is the last one
    """

    def __init__(self, m: Module, cfg: Config, request: stream.Interface) -> None:
        self._m, self._cfg = m, cfg
        self.busy, self.tile = Signal(), Signal(index_bits(cfg.key_tiles))
        self.final, self._last = Signal(), Signal.like(self.tile)
        self._request, self._distances = request, list[Signal]()
        asked = request.payload
        m.d.comb += [request.ready.eq(~self.busy), self.final.eq(self.tile == self._last)]
        with m.If(request.valid & request.ready):
            m.d.sync += [
                self.busy.eq(1),
                self.tile.eq(0),
                self._last.eq(asked.keys >> log2(cfg.tile)),
            ]

    def ahead(self, reach: ValueLike = 0) -> Signal:
        """A register: position of the first query relative to the first key of the tile, and
        ``reach`` more, which comes with the request. To be asked for before the first ``step``."""
        asked, distance = self._request.payload, Signal(_AHEAD)
        with self._m.If(self._request.valid & self._request.ready):
            self._m.d.sync += distance.eq(asked.position - asked.key_base + reach)
        self._distances.append(distance)
        return distance

    def step(self, go: Value, ends: Value) -> None:
        """To the next tile; to the next request if this was the last one."""
        with self._m.If(self.busy & go):
            self._m.d.sync += [
                self.busy.eq(~ends),
                self.tile.eq(self.tile + 1),
                *(distance.eq(distance - self._cfg.tile) for distance in self._distances),
            ]
