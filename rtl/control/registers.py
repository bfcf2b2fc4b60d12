"""The AXI4-Lite slave, generated from ``golden.registers``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import registers
from transept.golden.config import Config
from transept.golden.registers import Access, Register
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
    data; one of each at a time. An unknown address, and a write to a read-only register, answer
    SLVERR and do nothing.

    Members
    -------
    bus : In(axi_lite(12))
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
        members: dict[str, wiring.Member] = {"bus": In(axi_lite(registers.ADDRESS_BITS))}
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
        en = Signal()
        m.d.comb += [
            bus.awready.eq(~have_addr),
            bus.wready.eq(~have_data),
            en.eq(have_addr & have_data & ~bus.bvalid),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [have_addr.eq(1), addr.eq(bus.awaddr[2:])]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [have_data.eq(1), word.eq(bus.wdata), strobe.eq(bus.wstrb)]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        known = [addr == entry.offset >> 2 for entry in self._table if entry.writable]
        with m.If(en):
            m.d.sync += [
                have_addr.eq(0),
                have_data.eq(0),
                bus.bvalid.eq(1),
                bus.bresp.eq(Mux(Cat(known).any(), OKAY, SLVERR)),
            ]
        mask = Cat(bit.replicate(8) for bit in strobe)
        return {"en": en, "addr": addr, "word": word, "mask": mask}

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
        masked = write["word"] & write["mask"]
        if entry.access is Access.W1C:
            pending = Signal(32)
            m.d.sync += pending.eq((pending & ~Mux(hit, masked, 0)) | port)
            m.d.comb += getattr(self, f"{name}_pending").eq(pending.any())
            return pending
        pulses = sum(((1 << f.width) - 1) << f.low for f in entry.fields if f.pulse)
        if pulses:
            m.d.sync += port.eq(port & ~pulses)
        with m.If(hit):
            m.d.sync += port.eq((port & ~pulses & ~write["mask"]) | masked)
        return port & ~pulses if pulses else port

    def _read_channel(self, m: Module, values: dict[str, Value], upper: Signal) -> None:
        """Latch the address, select, answer."""
        bus = self.bus
        addr = Signal(registers.ADDRESS_BITS - 2)
        pending = Signal()
        m.d.comb += bus.arready.eq(~pending & ~bus.rvalid)
        for entry in self._table:
            if entry.count > 1:
                m.d.comb += getattr(self, f"{entry.name.lower()}_index").eq(addr)
        m.d.sync += pending.eq(bus.arvalid & bus.arready)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += addr.eq(bus.araddr[2:])
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(pending):
            m.d.sync += [bus.rvalid.eq(1), bus.rdata.eq(0), bus.rresp.eq(SLVERR)]
            with m.Switch(addr):
                for entry in self._table:
                    with m.Case(_pattern(entry)):
                        m.d.sync += [bus.rdata.eq(values[entry.name]), bus.rresp.eq(OKAY)]
                        if entry.name.endswith("_LO"):
                            pair = getattr(self, entry.name.removesuffix("_LO").lower())
                            m.d.sync += upper.eq(pair[32:])


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
