"""Loads stationary tiles into the shadow weights of the array while the pass before streams."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, Value
from amaranth.hdl import signed
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.numerics.softmax import CONTEXT_KEYS
from transept.rtl.gemm.array import load_lead
from transept.rtl.gemm.descriptors import slot_bits, tile_layout
from transept.rtl.gemm.transposer import Transposer
from transept.rtl.interfaces import STAT_READ_LATENCY, stat_read, stat_word

__all__ = ["StationaryLoader", "column_sums_layout"]


def column_sums_layout(cfg: Config) -> data.ArrayLayout:
    """Sum of each column over the stationary tiles of one group, up to CONTEXT_KEYS rows."""
    return data.ArrayLayout(signed(8 + (CONTEXT_KEYS - 1).bit_length()), cfg.tile)


def _delayed(m: Module, value: Value, cycles: int, name: str) -> Value:
    """``value`` of so many cycles ago; zero at first."""
    for cycle in range(cycles):
        later = Signal(len(value), name=f"{name}_{cycle + 1}")
        m.d.sync += later.eq(value)
        value = later
    return value


def _group_layout(cfg: Config) -> data.StructLayout:
    """What the column sums need to know of a tile; see ``tile_layout``."""
    facts = dict.fromkeys(("begins", "ends", "first", "finishes", "sums"), 1)
    return data.StructLayout({"slot": slot_bits(cfg), **facts})


def _command_layout(cfg: Config) -> data.StructLayout:
    """What happens to one word of a tile on its way to the array."""
    return data.StructLayout(
        {
            "go": 1,
            "ends": 1,  # the last word of its tile
            "adds": 1,  # counts in the column sums of its group
            "begins": 1,  # the first word of such a group ...
            "opens": 1,  # ... whose sums begin at 0
            "closes": 1,  # the last word of such a group ...
            "finishes": 1,  # ... whose sums are complete
            "slot": slot_bits(cfg),
        }
    )


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
    sums_slot : In(slot), sums_wanted : In(1)
        While wanted, that slot stays the same until its sums are taken
    sums : Out(stream of column_sums_layout)
        One item for each group that is finished and whose tiles have ``sums``, when it is wanted:
        ``sums[n] = sum over its tiles and over k of weight[k][n]``. It is there soon after the
        last row of the group's last tile has been written to the array. The loader stalls before a
        group that opens a slot whose sums are not taken, and ``acc_slots`` finished groups ahead.
        Only with attention.
    """

    tiles: stream.Interface
    read: wiring.PureInterface
    tile_ready: Signal
    tile_taken: Signal
    weight_en: Signal
    weight_index: Signal
    weight_word: data.View
    sums_slot: Signal
    sums_wanted: Signal
    sums: stream.Interface

    def __init__(self, cfg: Config, *, entry_delay: int) -> None:
        self._cfg, self._delay = cfg, entry_delay
        self._group, self._command = _group_layout(cfg), _command_layout(cfg)
        super().__init__(
            {
                "tiles": In(stream.Signature(tile_layout(cfg))),
                "read": Out(stat_read(cfg)),
                "tile_ready": Out(1),
                "tile_taken": In(1),
                "weight_en": Out(1),
                "weight_index": Out(range(cfg.tile)),
                "weight_word": Out(stat_word(cfg)),
                "sums_slot": In(slot_bits(cfg)),
                "sums_wanted": In(1),
                "sums": Out(stream.Signature(column_sums_layout(cfg))),
            }
        )

    @property
    def _slots(self) -> int:
        """Tiles between the start of their reading and their last word in the array: one is read,
        one is written, the rest covers the time between."""
        waiting = STAT_READ_LATENCY + 3 + self._delay
        return 1 << (1 - (-waiting // self._cfg.tile)).bit_length()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.transposer = transposer = Transposer(self._cfg, slots=self._slots)
        m.submodules.groups = groups = fifo.SyncFIFO(width=self._group.size, depth=self._slots)
        command, taken = Signal(self._command), Signal(1 << slot_bits(self._cfg))
        arrived = self._fetch(m, transposer, groups, finished=command.ends)
        planned = self._schedule(m, self._group(groups.r_data), arrived, taken)
        m.d.comb += [
            command.eq(_delayed(m, planned.as_value(), self._delay, "command")),
            groups.r_en.eq(planned.ends),
        ]
        self._write(m, transposer, command)
        if self._cfg.blocks.attention:
            self._offer(m, taken, *self._sum(m, command))
        return m

    def _fetch(
        self, m: Module, transposer: Transposer, groups: fifo.SyncFIFO, finished: Value
    ) -> Value:
        """Read tiles into the transposer; one pulse for each that has arrived."""
        tile = self.tiles.payload
        reading, transposed = Signal(), Signal()
        addr, stride = Signal(16), Signal(16)
        index = Signal(range(self._cfg.tile))
        in_flight, group = Signal(range(self._slots + 1)), self._group(groups.w_data)

        accepted = self.read.en & self.read.ready
        last = accepted & (index == self._cfg.tile - 1)
        load = self.tiles.valid & self.tiles.ready
        m.d.comb += [
            self.read.en.eq(reading),
            self.read.addr.eq(addr),
            self.tiles.ready.eq((~reading | last) & (in_flight != self._slots)),
            transposer.i.valid.eq(_delayed(m, accepted, STAT_READ_LATENCY, "accepted")),
            *(
                transposer.i.payload.word[n].eq(_symmetric(self.read.data[n]))
                for n in range(self._cfg.tile)
            ),
            transposer.i.payload.transposed.eq(
                _delayed(m, transposed, STAT_READ_LATENCY, "transposed")
            ),
        ]
        m.d.sync += [
            in_flight.eq(in_flight + load - finished),
            # a cycle later, long before the words of the tile
            groups.w_en.eq(load),
            *(group[name].eq(tile[name]) for name, _ in self._group),
        ]
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
        return _delayed(m, last, STAT_READ_LATENCY + 1, "arrived")  # at the transposer's output

    def _schedule(self, m: Module, tile: data.View, arrived: Value, taken: Signal) -> data.View:
        """Decide, ``entry_delay`` cycles ahead, when the words of a tile go to the array.

        taken: slots whose sums are taken in this cycle.
        """
        index = Signal(range(self._cfg.tile))
        complete = Signal(range(self._slots + 1))
        unused = Signal()  # the tile last begun has not been taken
        claimed = Signal.like(taken)  # slots with sums that are not taken
        ahead = Signal(range(self._cfg.geometry.acc_slots + 1))  # groups whose sums are not out
        word = Signal(self._command)

        begins = tile.sums & tile.begins
        opens = begins & tile.first
        # far ahead of the epilogue the array would read the bank that the epilogue reads
        full = begins & tile.finishes & (ahead == self._cfg.geometry.acc_slots)
        blocked = full | (opens & claimed.bit_select(tile.slot, 1))
        begin = (index == 0) & (complete != 0) & ~unused & ~blocked
        m.d.comb += [
            word.go.eq((index != 0) | begin),
            word.ends.eq(index == self._cfg.tile - 1),
            word.adds.eq(word.go & tile.sums),
            word.begins.eq(begin & begins),
            word.opens.eq(begin & opens),
            word.closes.eq(word.ends & tile.ends & tile.sums),
            word.finishes.eq(tile.finishes),
            word.slot.eq(tile.slot),
        ]
        m.d.sync += [
            complete.eq(complete + arrived - begin),
            claimed.eq((claimed & ~taken) | (word.opens << tile.slot)),
            ahead.eq(ahead + (word.begins & tile.finishes) - (self.sums.valid & self.sums.ready)),
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

    def _sum(self, m: Module, command: data.View) -> tuple[memory.ReadPort, Value, Signal]:
        """Column sums of the words that have just been written, one entry for each slot.

        Results: a read port of the entries, whether it is in use here, and the slots whose sums are
        complete from this cycle on.
        """
        shape, slots = column_sums_layout(self._cfg), 1 << slot_bits(self._cfg)
        m.submodules.entries = entries = memory.Memory(shape=shape, depth=slots, init=[])
        write, read = entries.write_port(), entries.read_port(domain="comb")
        total, last_slot = Signal(shape, reset_less=True), Signal.like(command.slot)
        finished = Signal(slots)
        written = self._command(_delayed(m, command.as_value(), 1, "written"))
        closed = self._command(_delayed(m, written.as_value(), 1, "closed"))
        # sums that go on at once need not come back from their entry, on the way to which they are
        returns = written.begins & ~written.opens & (written.slot != last_slot)
        with m.If(written.begins):
            m.d.sync += last_slot.eq(written.slot)
        with m.If(written.adds):
            for n in range(self._cfg.tile):
                before = Mux(written.opens, 0, Mux(returns, read.data[n], total[n]))
                m.d.sync += total[n].eq(before + self.weight_word[n])
        m.d.comb += [
            write.en.eq(closed.closes),
            write.addr.eq(closed.slot),
            write.data.eq(total),
            read.addr.eq(Mux(returns, written.slot, self.sums_slot)),
        ]
        m.d.sync += finished.eq((closed.closes & closed.finishes) << closed.slot)
        return read, returns, finished

    def _offer(
        self, m: Module, taken: Signal, read: memory.ReadPort, busy: Value, finished: Signal
    ) -> None:
        """Fetch the sums that are wanted as soon as they are complete."""
        complete = Signal.like(finished)
        there = complete.bit_select(self.sums_slot, 1)
        fetch = self.sums_wanted & there & ~busy & ~self.sums.valid
        m.d.comb += taken.eq(fetch << self.sums_slot)
        m.d.sync += complete.eq((complete & ~taken) | finished)
        with m.If(self.sums.ready):
            m.d.sync += self.sums.valid.eq(0)
        with m.If(fetch):
            m.d.sync += [self.sums.valid.eq(1), self.sums.payload.eq(read.data)]
