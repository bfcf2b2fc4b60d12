"""Loads stationary tiles into the shadow weights of the array while the pass before streams."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.hdl import signed
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.gemm.array import load_lead
from transept.rtl.gemm.descriptors import tile_layout
from transept.rtl.gemm.transposer import Transposer
from transept.rtl.interfaces import STAT_READ_LATENCY, stat_read, stat_word

__all__ = ["StationaryLoader", "column_sums_layout"]


def column_sums_layout(cfg: Config) -> data.ArrayLayout:
    """Sum of each column over the stationary tiles of one group (up to ``max_keys`` rows)."""
    return data.ArrayLayout(signed(8 + (cfg.geometry.max_keys - 1).bit_length()), cfg.tile)


def _delayed(m: Module, value: Value, cycles: int, name: str) -> Value:
    """``value`` of so many cycles ago; zero at first."""
    for cycle in range(cycles):
        later = Signal(len(value), name=f"{name}_{cycle + 1}")
        m.d.sync += later.eq(value)
        value = later
    return value


#: What happens to one word of a tile on its way to the array.
_COMMAND = data.StructLayout(
    {
        "go": 1,
        "ends": 1,  # the last word of its tile
        "adds": 1,  # counts in the column sums
        "opens": 1,  # the first word of a group with column sums
        "closes": 1,  # the last word of such a group
    }
)
_GROUP = data.StructLayout({"first": 1, "last": 1, "sums": 1})


def _symmetric(byte: Value) -> Value:
    """-128 as -127. Rows beyond the last key are arbitrary bytes, and V's must cancel against its
    column sums, but the array is exact for +-127 only."""
    return byte | (byte == -128)


class StationaryLoader(wiring.Component):
    """Reads tiles from the stationary scratchpad and writes them into the array, in order.

    Several tiles are read ahead; one tile every ``tile`` cycles is sustained, whatever the number
    of rows of a pass. ``entry_delay`` is the number of cycles from ``tile_taken`` to the entry of
    the first row of the pass (with ``row_swap``) into the array; it must be the same for
    every pass. All handshakes happen that much ahead, so the depth of the streamer's
    pipeline costs no time.

    Members
    -------
    tiles : In(stream of tile_layout), one for each pass
    read : Out(stat_read); requests may be refused for any number of cycles
    tile_ready : Out(1)
        A pass may be started now: its tile will be in place when its first row arrives. Stays high
        until ``tile_taken``.
    tile_taken : In(1)
        A pass starts in this cycle; only while ``tile_ready``. The next tile is ready
        ``load_lead + 2`` cycles later at the earliest.
    weight_en, weight_index, weight_word : Out, to the ports of SystolicArray of the same name
    sums : Out(stream of column_sums_layout)
        One item for each group whose tiles have ``sums``, in order:
        ``sums[n] = sum over its tiles and over k of weight[k][n]``. It is offered soon after the
        last row of the group's last tile has been written to the array. A consumer that takes none
        stalls the loader only after ``acc_slots`` such groups.
    """

    tiles: stream.Interface
    read: wiring.PureInterface
    tile_ready: Signal
    tile_taken: Signal
    weight_en: Signal
    weight_index: Signal
    weight_word: data.View
    sums: stream.Interface

    def __init__(self, cfg: Config, *, entry_delay: int) -> None:
        self._cfg, self._delay = cfg, entry_delay
        super().__init__(
            {
                "tiles": In(stream.Signature(tile_layout(cfg))),
                "read": Out(stat_read(cfg)),
                "tile_ready": Out(1),
                "tile_taken": In(1),
                "weight_en": Out(1),
                "weight_index": Out(range(cfg.tile)),
                "weight_word": Out(stat_word(cfg)),
                "sums": Out(stream.Signature(column_sums_layout(cfg))),
            }
        )

    @property
    def _slots(self) -> int:
        """Tiles between the start of their reading and their last word in the array: one is read,
        one is written, the rest covers the time between."""
        waiting = STAT_READ_LATENCY + 2 + self._delay
        return 1 << (1 - (-waiting // self._cfg.tile)).bit_length()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.transposer = transposer = Transposer(self._cfg, slots=self._slots)
        m.submodules.groups = groups = fifo.SyncFIFO(width=_GROUP.size, depth=self._slots)
        command = Signal(_COMMAND)
        arrived = self._fetch(m, transposer, groups, finished=command.ends)
        planned = self._schedule(m, _GROUP(groups.r_data), arrived)
        m.d.comb += [
            command.eq(_delayed(m, planned.as_value(), self._delay, "command")),
            groups.r_en.eq(planned.ends),
        ]
        self._write(m, transposer, command)
        self._sum(m, command)
        return m

    def _fetch(
        self, m: Module, transposer: Transposer, groups: fifo.SyncFIFO, finished: Value
    ) -> Value:
        """Read tiles into the transposer; one pulse for each that has arrived."""
        tile = self.tiles.payload
        reading, transposed = Signal(), Signal()
        addr, stride = Signal(16), Signal(16)
        index = Signal(range(self._cfg.tile))
        in_flight = Signal(range(self._slots + 1))

        accepted = self.read.en & self.read.ready
        last = accepted & (index == self._cfg.tile - 1)
        load = self.tiles.valid & self.tiles.ready
        m.d.comb += [
            self.read.en.eq(reading),
            self.read.addr.eq(addr),
            self.tiles.ready.eq((~reading | last) & (in_flight != self._slots)),
            groups.w_en.eq(load),
            groups.w_data.eq(Cat(tile.first, tile.last, tile.sums)),
            transposer.i.valid.eq(_delayed(m, accepted, STAT_READ_LATENCY, "accepted")),
            *(
                transposer.i.payload.word[n].eq(_symmetric(self.read.data[n]))
                for n in range(self._cfg.tile)
            ),
            transposer.i.payload.transposed.eq(
                _delayed(m, transposed, STAT_READ_LATENCY, "transposed")
            ),
        ]
        m.d.sync += in_flight.eq(in_flight + load - finished)
        with m.If(accepted):
            m.d.sync += [addr.eq(addr + stride), index.eq(index + 1)]
        with m.If(last):
            m.d.sync += reading.eq(0)
        with m.If(load):
            m.d.sync += [
                reading.eq(1),
                addr.eq(tile.addr),
                stride.eq(tile.row_stride),
                transposed.eq(tile.transposed),
            ]
        return _delayed(m, last, STAT_READ_LATENCY, "arrived")

    def _schedule(self, m: Module, tile: data.View, arrived: Value) -> data.View:
        """Decide, ``entry_delay`` cycles ahead, when the words of a tile go to the array."""
        index = Signal(range(self._cfg.tile))
        complete = Signal(range(self._slots + 1))
        unused = Signal()  # the tile last begun has not been taken
        unclaimed = Signal(
            range(self._cfg.geometry.acc_slots + 1)
        )  # groups whose sums are not taken
        word = Signal(_COMMAND)

        opens = tile.first & tile.sums
        full = opens & (unclaimed == self._cfg.geometry.acc_slots)
        begin = (index == 0) & (complete != 0) & ~unused & ~full
        m.d.comb += [
            word.go.eq((index != 0) | begin),
            word.ends.eq(index == self._cfg.tile - 1),
            word.adds.eq(word.go & tile.sums),
            word.opens.eq(begin & opens),
            word.closes.eq(word.ends & tile.last & tile.sums),
        ]
        m.d.sync += [
            complete.eq(complete + arrived - begin),
            unclaimed.eq(unclaimed + word.opens - (self.sums.valid & self.sums.ready)),
        ]
        with m.If(word.go):
            m.d.sync += index.eq(index + 1)
        with m.If(self.tile_taken):
            m.d.sync += [unused.eq(0), self.tile_ready.eq(0)]
        with m.If(begin):
            m.d.sync += unused.eq(1)
        # the remaining words follow without a gap, each ahead of the wavefront
        with m.If(index == load_lead(self._cfg)):
            m.d.sync += self.tile_ready.eq(1)
        return word

    def _write(self, m: Module, transposer: Transposer, command: data.View) -> None:
        """Pass the words on to the array."""
        index = Signal(range(self._cfg.tile))
        m.d.comb += transposer.o.ready.eq(command.go)
        m.d.sync += self.weight_en.eq(command.go)
        with m.If(command.go):
            m.d.sync += [
                index.eq(index + 1),
                self.weight_index.eq(index),
                self.weight_word.eq(transposer.o.payload),
            ]

    def _sum(self, m: Module, command: data.View) -> None:
        """Column sums of the words that have just been written."""
        shape = column_sums_layout(self._cfg)
        m.submodules.waiting = waiting = fifo.SyncFIFO(
            width=shape.size, depth=self._cfg.geometry.acc_slots
        )
        total = Signal(shape, reset_less=True)
        written = _COMMAND(_delayed(m, command.as_value(), 1, "written"))
        with m.If(written.adds):
            for n in range(self._cfg.tile):
                before = Mux(written.opens, 0, total[n])
                m.d.sync += total[n].eq(before + self.weight_word[n])
        m.d.comb += [
            waiting.w_en.eq(_delayed(m, written.closes, 1, "closed")),
            waiting.w_data.eq(total),
            self.sums.valid.eq(waiting.r_rdy),
            self.sums.payload.eq(waiting.r_data),
            waiting.r_en.eq(self.sums.ready),
        ]
