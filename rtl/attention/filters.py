"""Key filters: which key tiles, and which keys of them, a block of query rows computes.

A filter is a component with the members of ``filter_members``:

observe : every K word as it is written to the stationary scratchpad; never refused
request : one block of query rows; taken when the filter is free
query : the query rows of the block just requested, d tile by d tile, every row of a d tile after
    the other; never refused, and sent only to filters whose ``needs_query`` is true
select : the answer, key tiles in ascending order with a mask, at least one; ``last`` ends it

To add a filter: a value of ``golden.isa.Filter``, its rule in ``golden.numerics.filters``, a
component with these members, and a row in ``FILTERS``. Nothing else in the accelerator changes.
"""

from __future__ import annotations

from typing import ClassVar

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden import isa
from transept.golden.config import Config
from transept.rtl.attention.estimate import TileEstimator
from transept.rtl.gemm.descriptors import observation_layout
from transept.rtl.interfaces import stat_word

__all__ = [
    "FILTERS",
    "CausalFilter",
    "DenseFilter",
    "FilterBank",
    "TileThresholdFilter",
    "filter_members",
    "request_layout",
    "select_layout",
]


def log2(value: int) -> int:
    """Exponent of a power of two."""
    return value.bit_length() - 1


def request_layout(cfg: Config) -> data.StructLayout:
    """One block of query rows.

    rows: of the block, minus one; position: of its first row in the sequence; keys: of the
    sequence, minus one; region: summary index of the first key (K address over ``tile``).
    """
    return data.StructLayout(
        {
            "kind": 4,  # isa.Filter
            "rows": log2(cfg.tile),
            "position": 16,
            "keys": 12,
            "region": 16,
            "d_tiles": 4,
            "threshold": signed(24),
        }
    )


def select_layout(cfg: Config) -> data.StructLayout:
    """One kept key tile; bit ``row * tile + key`` of ``mask`` keeps that score."""
    return data.StructLayout(
        {
            "tile": max(1, (cfg.key_tiles - 1).bit_length()),
            "mask": data.ArrayLayout(cfg.tile, cfg.tile),
            "last": 1,
        }
    )


def filter_members(cfg: Config) -> dict[str, wiring.Member]:
    """Ports of every filter."""
    return {
        "observe": In(stream.Signature(observation_layout(cfg), always_ready=True)),
        "request": In(stream.Signature(request_layout(cfg))),
        "query": In(stream.Signature(stat_word(cfg), always_ready=True)),
        "select": Out(stream.Signature(select_layout(cfg))),
    }


def valid_keys(cfg: Config, keys: Value, tile: Value) -> Value:
    """Which of the ``tile`` keys of key tile ``tile`` exist, of ``keys + 1`` in the sequence."""
    partial = tile == (keys >> log2(cfg.tile))
    last_key = keys[: log2(cfg.tile)]
    return Cat(~partial | (last_key >= key) for key in range(cfg.tile))


class DenseFilter(wiring.Component):
    """Every key tile, one a cycle; keys beyond the sequence are masked.

    Golden function: ``filters.select_tiles`` with DENSE.
    """

    needs_query: ClassVar[bool] = False

    observe: stream.Interface
    request: stream.Interface
    query: stream.Interface
    select: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(filter_members(cfg))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        keys = Signal(12)
        tile = Signal(self.select.payload.tile.shape())
        busy = Signal()

        m.d.comb += [
            self.request.ready.eq(~busy),
            self.select.valid.eq(busy),
            self.select.payload.tile.eq(tile),
            self.select.payload.last.eq(tile == (keys >> log2(cfg.tile))),
        ]
        m.d.comb += [row.eq(valid_keys(cfg, keys, tile)) for row in self.select.payload.mask]
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [busy.eq(1), tile.eq(0), keys.eq(self.request.payload.keys)]
        with m.Elif(self.select.valid & self.select.ready):
            m.d.sync += [busy.eq(~self.select.payload.last), tile.eq(tile + 1)]
        return m


class CausalFilter(wiring.Component):
    """Keys up to the query's own position, one tile a cycle; tiles beyond the block are left out.

    Golden function: ``filters.select_tiles`` with CAUSAL.
    """

    needs_query: ClassVar[bool] = False

    observe: stream.Interface
    request: stream.Interface
    query: stream.Interface
    select: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(filter_members(cfg))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        keys = Signal(12)
        tile = Signal(self.select.payload.tile.shape())
        # position of the first query relative to the first key of the tile
        ahead = Signal(signed(18))
        busy = Signal()

        in_reach = ahead < 1  # the next tile starts after the block's last query
        m.d.comb += [
            self.request.ready.eq(~busy),
            self.select.valid.eq(busy),
            self.select.payload.tile.eq(tile),
            self.select.payload.last.eq(in_reach | (tile == (keys >> log2(cfg.tile)))),
        ]
        # key j of row r is kept if j - r <= ahead: one comparison for each diagonal
        diagonal = {d: Signal(name=f"diagonal_{d}") for d in range(1 - cfg.tile, cfg.tile)}
        m.d.comb += [kept.eq(ahead >= d) for d, kept in diagonal.items()]
        exists = Signal(cfg.tile)
        m.d.comb += exists.eq(valid_keys(cfg, keys, tile))
        for r in range(cfg.tile):
            past = Cat(diagonal[j - r] for j in range(cfg.tile))
            m.d.comb += self.select.payload.mask[r].eq(past & exists)

        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [
                busy.eq(1),
                tile.eq(0),
                keys.eq(self.request.payload.keys),
                ahead.eq(self.request.payload.position),
            ]
        with m.Elif(self.select.valid & self.select.ready):
            m.d.sync += [
                busy.eq(~self.select.payload.last),
                tile.eq(tile + 1),
                ahead.eq(ahead - cfg.tile),
            ]
        return m


class TileThresholdFilter(wiring.Component):
    """Tiles whose estimate reaches the threshold, tile 0 alone if none does.

    Golden function: ``filters.select_tiles`` with TILE_THRESHOLD. Kept tiles are queued, so
    estimating never waits for the one who asked.
    """

    needs_query: ClassVar[bool] = True

    observe: stream.Interface
    request: stream.Interface
    query: stream.Interface
    select: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(filter_members(cfg))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.estimator = estimator = TileEstimator(cfg)
        tile = self.select.payload.tile
        m.submodules.kept = kept = SyncFIFO(width=len(tile), depth=cfg.key_tiles)
        request = self.request.payload
        keys, threshold = Signal(12), Signal(signed(24))
        busy, complete = Signal(), Signal()

        connect(m, flipped(self.observe), estimator.observe)
        connect(m, flipped(self.query), estimator.query)
        m.d.comb += [
            self.request.ready.eq(~busy),
            estimator.start.eq(self.request.valid & ~busy),
            estimator.rows.eq(request.rows),
            estimator.last_tile.eq(request.keys >> log2(cfg.tile)),
            estimator.region.eq(request.region),
            estimator.d_tiles.eq(request.d_tiles),
            kept.w_en.eq(estimator.valid & (estimator.estimate >= threshold)),
            kept.w_data.eq(estimator.tile),
        ]
        # a kept tile may be the last one as long as no other is known
        m.d.comb += [
            self.select.valid.eq(complete | (kept.level > 1)),
            self.select.payload.tile.eq(Mux(kept.r_rdy, kept.r_data, 0)),
            self.select.payload.last.eq(kept.level <= 1),
            kept.r_en.eq(self.select.valid & self.select.ready),
        ]
        exists = valid_keys(cfg, keys, self.select.payload.tile)
        m.d.comb += [row.eq(exists) for row in self.select.payload.mask]

        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [busy.eq(1), keys.eq(request.keys), threshold.eq(request.threshold)]
        with m.If(estimator.valid & estimator.last):
            m.d.sync += complete.eq(1)
        with m.If(self.select.valid & self.select.ready & self.select.payload.last):
            m.d.sync += [busy.eq(0), complete.eq(0)]
        return m


#: Every filter of the accelerator.
FILTERS = {
    isa.Filter.DENSE: DenseFilter,
    isa.Filter.CAUSAL: CausalFilter,
    isa.Filter.TILE_THRESHOLD: TileThresholdFilter,
}


class FilterBank(wiring.Component):
    """All filters behind one set of ports; the request's ``kind`` says which one answers.

    Unknown kinds get the dense filter. A request is taken when the answer before it is complete.
    Answers pass a register, for the walk behind them is long.
    """

    observe: stream.Interface
    request: stream.Interface
    query: stream.Interface
    select: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(filter_members(cfg))

    @staticmethod
    def needs_query(kind: Value) -> Value:
        """Whether filter ``kind`` wants the query rows of its block."""
        wanting = [value for value, component in FILTERS.items() if component.needs_query]
        return Cat(kind == value for value in wanting).any()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        filters = {kind: component(self._cfg) for kind, component in FILTERS.items()}
        owner = Signal(4)
        busy = Signal()

        for kind, part in filters.items():
            m.submodules[kind.name.lower()] = part
            m.d.comb += [
                part.observe.valid.eq(self.observe.valid),
                part.observe.payload.eq(self.observe.payload),
                part.query.valid.eq(self.query.valid),
                part.query.payload.eq(self.query.payload),
                part.request.payload.eq(self.request.payload),
            ]

        known = Cat(self.request.payload.kind == kind for kind in filters).any()
        wanted = Mux(known, self.request.payload.kind, isa.Filter.DENSE)
        answer = Signal(self.select.payload.shape())
        offered, taken = Signal(), Signal()
        m.d.comb += taken.eq(offered & (~self.select.valid | self.select.ready))
        for kind, part in filters.items():
            with m.If(~busy & (wanted == kind)):
                m.d.comb += [
                    part.request.valid.eq(self.request.valid),
                    self.request.ready.eq(part.request.ready),
                ]
            with m.If(busy & (owner == kind)):
                m.d.comb += [
                    offered.eq(part.select.valid),
                    answer.eq(part.select.payload),
                    part.select.ready.eq(taken),
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
