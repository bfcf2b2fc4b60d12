"""Accumulators of the GEMM engine: read-modify-write of array sums in two banks of block RAM."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.hdl import signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.numerics.requantise import ACCUMULATOR_BITS
from transept.rtl.gemm.array import sum_bits
from transept.rtl.gemm.descriptors import slot_bits

__all__ = [
    "ACC_READ_LATENCY",
    "REVISIT_CYCLES",
    "Accumulators",
    "accumulator_read",
    "row_tag_layout",
    "scale_write",
]

#: Cycles from an accepted read request to its data.
ACC_READ_LATENCY = 2
#: Least distance in cycles of two array rows that go to the same accumulator row. The loader
#: starts passes at least this far apart.
REVISIT_CYCLES = 3
MULTIPLIER_BITS = 17
EXPONENT_BITS = 5


def row_tag_layout(cfg: Config) -> data.StructLayout:
    """Where the sums of one array row go.

    ``slot``: accumulator slot, bit 0 is the bank; ``row``: row of the slot; ``first``: overwrite,
    else add; ``last``: the last row of the last pass of a group.
    """
    return data.StructLayout(
        {"slot": slot_bits(cfg), "row": range(cfg.geometry.max_rows), "first": 1, "last": 1}
    )


def accumulator_read(cfg: Config) -> wiring.Signature:
    """Read port as seen by the epilogue: accepted when ``en & ready``, and ACC_READ_LATENCY cycles
    later, for one cycle, ``data`` (int27[tile]), ``multiplier`` and ``exponent`` of that row."""
    return wiring.Signature(
        {
            "en": Out(1),
            "slot": Out(slot_bits(cfg)),
            "row": Out(range(cfg.geometry.max_rows)),
            "ready": In(1),
            "data": In(data.ArrayLayout(signed(ACCUMULATOR_BITS), cfg.tile)),
            "multiplier": In(MULTIPLIER_BITS),
            "exponent": In(EXPONENT_BITS),
        }
    )


def scale_write(cfg: Config) -> wiring.Signature:
    """Write port of the row scales, never refused; seen by reads from the next cycle on."""
    return wiring.Signature(
        {
            "en": Out(1),
            "slot": Out(slot_bits(cfg)),
            "row": Out(range(cfg.geometry.max_rows)),
            "multiplier": Out(MULTIPLIER_BITS),
            "exponent": Out(EXPONENT_BITS),
        }
    )


def _row_addr(place: data.View | wiring.PureInterface) -> Value:
    """Address of a row in its bank."""
    return Cat(place.row, place.slot[1:])


class Accumulators(wiring.Component):
    """``acc[slot][row][n] = (0 if first else acc[slot][row][n]) + sums[n]``, one row a cycle.

    ``latency`` is that of the array: the tag of a row is given in the cycle in which the row enters
    the array, its sums arrive ``latency`` (at least 2) cycles later. Rows with the same slot and
    row must be REVISIT_CYCLES apart.

    Members
    -------
    tag : In(row_tag_layout), tag_valid : In(1), together with ``row_valid`` of the array
    sums : In(signed(sum_bits))[tile], from the array
    group_done : Out(1)
        One pulse for each tag with ``last``, in order; a read in the next cycle sees the group.
    read : In(accumulator_read)
        Refused only in cycles in which the array itself reads the same bank (rows without
        ``first``).
    scale_write : In(scale_write)
    """

    tag: data.View
    tag_valid: Signal
    sums: list[Signal]
    group_done: Signal
    read: wiring.PureInterface
    scale_write: wiring.PureInterface

    def __init__(self, cfg: Config, *, latency: int) -> None:
        if latency < 2:
            raise ValueError(f"latency={latency} of the array must be at least 2")
        self._cfg, self._latency = cfg, latency
        super().__init__(
            {
                "tag": In(row_tag_layout(cfg)),
                "tag_valid": In(1),
                "sums": In(signed(sum_bits(cfg))).array(cfg.tile),
                "group_done": Out(1),
                "read": In(accumulator_read(cfg)),
                "scale_write": In(scale_write(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tags = self._delayed_tags(m)
        totals = Signal(data.ArrayLayout(signed(ACCUMULATOR_BITS), self._cfg.tile), reset_less=True)
        fetched = [self._bank(m, bank, tags, totals) for bank in range(2)]
        self._add(m, *tags[self._latency], fetched, totals)
        self._answer(m, fetched)

        valid, tag = tags[self._latency + 1]
        m.d.comb += self.group_done.eq(valid & tag.last)
        return m

    def _delayed_tags(self, m: Module) -> list[tuple[Value, data.View]]:
        """(valid, tag), delayed by the index."""
        tags = [(self.tag_valid, self.tag)]
        for cycle in range(1, self._latency + 2):
            valid = Signal(name=f"valid_{cycle}")
            tag = Signal(row_tag_layout(self._cfg), name=f"tag_{cycle}", reset_less=True)
            m.d.sync += [valid.eq(tags[-1][0]), tag.eq(tags[-1][1])]
            tags.append((valid, tag))
        return tags

    def _bank(
        self, m: Module, bank: int, tags: list[tuple[Value, data.View]], totals: data.View
    ) -> data.View:
        """One bank of accumulators; returns its read data, one cycle after the request."""
        m.submodules[f"bank_{bank}"] = ram = memory.Memory(
            shape=totals.shape(),
            depth=self._cfg.geometry.acc_slots * self._cfg.geometry.max_rows,
            init=[],
        )
        put, get = ram.write_port(), ram.read_port()
        valid, tag = tags[self._latency - 1]
        own = valid & ~tag.first & (tag.slot[0] == bank)
        asked = self.read.slot[0] == bank
        m.d.comb += [
            get.en.eq(own | (self.read.en & asked)),
            get.addr.eq(Mux(own, _row_addr(tag), _row_addr(self.read))),
        ]
        with m.If(asked):
            m.d.comb += self.read.ready.eq(~own)

        valid, tag = tags[self._latency + 1]
        m.d.comb += [
            put.en.eq(valid & (tag.slot[0] == bank)),
            put.addr.eq(_row_addr(tag)),
            put.data.eq(totals),
        ]
        return get.data

    def _add(
        self, m: Module, valid: Value, tag: data.View, fetched: list[data.View], totals: data.View
    ) -> None:
        """Sums of the array and what its bank held before."""
        with m.If(valid):
            for n, fresh in enumerate(self.sums):
                held = Mux(tag.slot[0], fetched[1][n], fetched[0][n])
                m.d.sync += totals[n].eq(Mux(tag.first, 0, held) + fresh)

    def _answer(self, m: Module, fetched: list[data.View]) -> None:
        """Accumulators and scale of the row that was asked for."""
        scale = data.StructLayout({"multiplier": MULTIPLIER_BITS, "exponent": EXPONENT_BITS})
        m.submodules.scales = scales = memory.Memory(
            shape=scale,
            depth=2 * self._cfg.geometry.acc_slots * self._cfg.geometry.max_rows,
            init=[],
        )
        put, get = scales.write_port(), scales.read_port()
        accepted = self.read.en & self.read.ready
        write = self.scale_write
        m.d.comb += [
            put.en.eq(write.en),
            put.addr.eq(Cat(write.row, write.slot)),
            put.data.multiplier.eq(write.multiplier),
            put.data.exponent.eq(write.exponent),
            get.en.eq(accepted),
            get.addr.eq(Cat(self.read.row, self.read.slot)),
        ]
        answering, bank = Signal(), Signal()
        m.d.sync += [answering.eq(accepted), bank.eq(self.read.slot[0])]
        with m.If(answering):
            m.d.sync += [
                self.read.data.eq(Mux(bank, fetched[1].as_value(), fetched[0].as_value())),
                self.read.multiplier.eq(get.data.multiplier),
                self.read.exponent.eq(get.data.exponent),
            ]
