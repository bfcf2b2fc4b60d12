"""The AXI4-Lite slave, generated from ``golden.registers``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amaranth import Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import registers
from transept.golden.config import Config
from transept.golden.registers import Access, Field, Register
from transept.rtl.interfaces import axi_lite

__all__ = ["RegisterFile", "register_layout"]

OKAY, SLVERR = 0, 2


def register_layout(register: Register) -> data.FlexibleLayout:
    """The named fields of a register as a 32-bit layout."""
    return data.FlexibleLayout(32, {f.name: data.Field(f.width, f.low) for f in register.fields})


def _is_number(register: Register) -> bool:
    return len(register.fields) == 1 and register.fields[0].width == 32


class RegisterFile(wiring.Component):
    """All registers of ``golden.registers.table``.

    Reads answer three cycles after the address, writes two cycles after the later of address and
    data; one of each at a time. An unknown address, a write to a read-only register, and one to a
    ``locked`` register while ``lock`` is high answer SLVERR and do nothing. Bits without a field
    are not stored.

    Members
    -------
    bus : In(axi_lite(12))
    lock : In(1)
    one member for each register that is not constant, named in lower case:
        read only: In(32 bits, or its layout); pairs X_LO, X_HI are one In(64) named x; an array
        named x is In(32), the element that ``x_index`` Out(index) names in the same cycle
        read and write: Out(32 bits, or its layout); a pulse field is high for one cycle
        write 1 to clear: In(its layout) whose ones set bits, and ``<name>_pending`` Out(any bit)

    Raises
    ------
    ValueError
        If an array of registers is not aligned to its size.
    """

    bus: Any

    def __init__(self, cfg: Config) -> None:
        self._table = registers.table(cfg)
        for entry in self._table:
            size = 4 * entry.count
            if size & (size - 1) or entry.offset % size:
                raise ValueError(
                    f"{entry.name} at {entry.offset:#x} must be {entry.count} registers at a "
                    "multiple of their size, a power of two"
                )
        members: dict[str, wiring.Member] = {
            "bus": In(axi_lite(registers.ADDRESS_BITS)),
            "lock": In(1),
        }
        for entry in self._table:
            members |= dict(_members(entry))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        write = self._write_channel(m)
        values = {}
        upper = Signal(32)
        for entry in self._table:
            hit = write["en"] & (write["addr"] == entry.offset >> 2)
            values[entry.name] = self._register(m, entry, hit, write, upper)
        self._read_channel(m, values, upper)
        return m

    def _write_channel(self, m: Module) -> dict[str, Value]:
        """Collect address and data in either order, then act on them in one cycle (``en``)."""
        bus = self.bus
        have_addr, have_data = Signal(), Signal()
        addr, word, strobe = Signal(registers.ADDRESS_BITS - 2), Signal(32), Signal(4)
        act, en = Signal(), Signal()
        locked = [entry.offset >> 2 for entry in self._table if entry.locked]
        open_ = [entry.offset >> 2 for entry in self._table if entry.writable and not entry.locked]
        # told with the address; a lock that is new finds the answer to the write before under way
        is_open, is_locked, lock = Signal(), Signal(), Signal()
        m.d.sync += lock.eq(self.lock)
        allowed = is_open | (is_locked & ~lock)
        m.d.comb += [
            bus.awready.eq(~have_addr),
            bus.wready.eq(~have_data),
            act.eq(have_addr & have_data & ~bus.bvalid),
            en.eq(act & allowed),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [
                have_addr.eq(1),
                addr.eq(bus.awaddr[2:]),
                is_open.eq(bus.awaddr[2:].matches(*open_)),
                is_locked.eq(bus.awaddr[2:].matches(*locked)),
            ]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [have_data.eq(1), word.eq(bus.wdata), strobe.eq(bus.wstrb)]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(act):
            m.d.sync += [
                have_addr.eq(0),
                have_data.eq(0),
                bus.bvalid.eq(1),
                bus.bresp.eq(Mux(allowed, OKAY, SLVERR)),
            ]
        return {"en": en, "addr": addr, "word": word, "strobe": strobe}

    def _register(
        self, m: Module, entry: Register, hit: Value, write: dict[str, Value], upper: Value
    ) -> Value:
        """Drive the members of one register; the value that a read of it returns."""
        name = entry.name.lower()
        if entry.constant is not None:
            return Const(entry.constant, 32)
        if name.endswith("_hi"):
            return upper
        if name.endswith("_lo"):
            return getattr(self, name.removesuffix("_lo"))[:32]
        port = Value.cast(getattr(self, name))
        if entry.access is Access.RO:
            return port
        if entry.access is Access.W1C:
            return self._pending(m, entry, hit, write)
        kept = Signal(32)
        for field in entry.fields:
            for first, last in _bytes(field):
                bits = port[first:last]
                if field.pulse:
                    m.d.sync += bits.eq(0)
                else:
                    m.d.comb += kept[first:last].eq(bits)
                with m.If(hit & write["strobe"][first // 8]):
                    m.d.sync += bits.eq(write["word"][first:last])
        return kept

    def _pending(self, m: Module, entry: Register, hit: Value, write: dict[str, Value]) -> Value:
        """A register whose bits are set by its port and cleared by writing 1."""
        name = entry.name.lower()
        port, pending = Value.cast(getattr(self, name)), Signal(32)
        for field in entry.fields:
            for first, last in _bytes(field):
                cleared = write["word"][first:last] & (hit & write["strobe"][first // 8]).replicate(
                    last - first
                )
                bits = pending[first:last]
                m.d.sync += bits.eq((bits & ~cleared) | port[first:last])
        m.d.comb += getattr(self, f"{name}_pending").eq(pending.any())
        return pending

    def _read_channel(self, m: Module, values: dict[str, Value], upper: Signal) -> None:
        """Latch the address, select, answer: a cycle each."""
        bus = self.bus
        addr = Signal(registers.ADDRESS_BITS - 2)
        pending, selected = Signal(), Signal()
        known, word = Signal(), Signal(32)
        m.d.comb += bus.arready.eq(~pending & ~selected & ~bus.rvalid)
        for entry in self._table:
            if entry.count > 1:
                m.d.comb += getattr(self, f"{entry.name.lower()}_index").eq(addr)
        m.d.sync += [pending.eq(bus.arvalid & bus.arready), selected.eq(pending)]
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += addr.eq(bus.araddr[2:])
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        words = {entry.offset >> 2: values[entry.name] for entry in self._table}
        pairs = {
            entry.offset >> 2: getattr(self, entry.name.removesuffix("_LO").lower())[32:]
            for entry in self._table
            if entry.name.endswith("_LO")
        }
        with m.If(pending):
            m.d.sync += [
                known.eq(addr.matches(*(_pattern(entry) for entry in self._table))),
                word.eq(_lookup(words, addr)),
            ]
            with m.If(addr.matches(*pairs)):
                m.d.sync += upper.eq(_lookup(pairs, addr))
        with m.If(selected):
            m.d.sync += [
                bus.rvalid.eq(1),
                bus.rdata.eq(Mux(known, word, 0)),
                bus.rresp.eq(Mux(known, OKAY, SLVERR)),
            ]


def _bytes(field: Field) -> Iterator[tuple[int, int]]:
    """The bits of a field, cut where bytes end: (first, last + 1) of each piece."""
    first, end = field.low, field.low + field.width
    while first < end:
        last = min(end, (first // 8 + 1) * 8)
        yield first, last
        first = last


def _lookup(words: dict[int, Value], addr: Value) -> Value:
    """``words[addr]`` as a tree of multiplexers; any of them for an address that is not there."""
    if len(words) == 1:
        return next(iter(words.values()))
    halves: tuple[dict[int, Value], dict[int, Value]] = ({}, {})
    top = len(addr) - 1
    for at, word in words.items():
        halves[at >> top & 1][at] = word
    if not all(halves):
        return _lookup(halves[0] or halves[1], addr[:top])
    return Mux(addr[top], _lookup(halves[1], addr[:top]), _lookup(halves[0], addr[:top]))


def _pattern(entry: Register) -> str:
    """The word addresses of a register or an array, as a pattern of their bits."""
    free = entry.count.bit_length() - 1
    bits = f"{entry.offset >> 2:0{registers.ADDRESS_BITS - 2}b}"
    return bits[: len(bits) - free] + "-" * free


def _members(entry: Register) -> Iterator[tuple[str, wiring.Member]]:
    name = entry.name.lower()
    shape = 32 if _is_number(entry) else register_layout(entry)
    if entry.count > 1:
        yield f"{name}_index", Out(range(entry.count))
    if entry.constant is not None or name.endswith("_hi"):
        return
    if name.endswith("_lo"):
        yield name.removesuffix("_lo"), In(64)
    elif entry.access is Access.RO:
        yield name, In(shape)
    elif entry.access is Access.RW:
        init = {f.name: f.extract(entry.reset) for f in entry.fields}
        yield name, Out(shape, init=entry.reset if shape == 32 else init)
    else:
        yield name, In(shape)
        yield f"{name}_pending", Out(1)
