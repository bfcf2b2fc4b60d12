"""One bank of a scratchpad: consecutive words in memories whose depths are powers of two."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Bank", "Span", "any_of", "read_word", "select"]


def any_of(flags: list[Value]) -> Value:
    """The OR of one-bit flags; 0 of none."""
    return reduce(or_, flags, Const(0))


def select(values: list[Value], index: Value) -> Value:
    """``values[index]`` as a binary tree; an index past the end gives any value."""
    level = list(values)
    for bit in index:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [Mux(bit, pair[-1], pair[0]) for pair in pairs]
    return level[0]


@dataclass(frozen=True)
class Span:
    """Words ``first`` to ``first + words - 1`` of a scratchpad."""

    first: int
    words: int

    def holds(self, addr: Value) -> Value:
        """1 if the address lies in the span, looked up on the high bits that matter."""
        bounds = self.first | self.words
        low = (bounds & -bounds).bit_length() - 1
        if low >= len(addr):
            return Const(1)
        return addr[low:].matches(*range(self.first >> low, (self.first + self.words) >> low))

    def pages(self) -> list[Span]:
        """Consecutive parts whose sizes are powers of two, the largest first."""
        pages, first = [], self.first
        for bit in reversed(range(self.words.bit_length())):
            if self.words >> bit & 1:
                pages.append(Span(first, 1 << bit))
                first += 1 << bit
        return pages


class Bank(wiring.Component):
    """The words of a span: one read and one write a cycle.

    Each page of the span is a memory that takes the low bits of the scratchpad's address, because
    as many consecutive words run over every value of them once. A word of 2**k bytes then fills
    its block RAMs, whatever their depth. A read returns the old word if it is written in the same
    cycle.

    Attributes
    ----------
    span : Span

    Members
    -------
    read_en, read_addr : In
        Read a word; the enable is 0 for words of other banks.
    pages : Out(one word of ``shape`` for each page)
        One cycle later, for one cycle, the word is that of its page; the others are stale.
    write_en, write_addr, write_data : In
        Write a word; the enable is 0 for words of other banks.
    """

    def __init__(self, shape: ShapeLike, span: Span, *, addr_bits: int) -> None:
        self._shape, self.span = shape, span
        super().__init__(
            {
                "read_en": In(1),
                "read_addr": In(addr_bits),
                "pages": Out(data.ArrayLayout(shape, len(span.pages()))),
                "write_en": In(1),
                "write_addr": In(addr_bits),
                "write_data": In(shape),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for number, page in enumerate(self.span.pages()):
            words = memory.Memory(shape=self._shape, depth=page.words, init=[])
            m.submodules[f"page{number}"] = words
            read, write = words.read_port(), words.write_port()
            m.d.comb += [
                read.en.eq(self.read_en & page.holds(self.read_addr)),
                read.addr.eq(self.read_addr),
                self.pages[number].eq(read.data),
                write.en.eq(self.write_en & page.holds(self.write_addr)),
                write.addr.eq(self.write_addr),
                write.data.eq(self.write_data),
            ]
        return m


def read_word(
    m: Module,
    port: wiring.PureInterface,
    shape: ShapeLike,
    banks: list[Bank],
    addressed: list[tuple[Value, Value]] | None = None,
) -> None:
    """The second cycle of a read port over ``banks``: the word of the page that was asked is
    registered. One multiplexer over all pages is smaller than one in each bank and one behind.

    addressed: for each bank, whether it is asked and at which address, if not as ``port`` says.
    """
    asked = addressed or [(Const(1), port.addr)] * len(banks)
    pages = [page for bank in banks for page in bank.span.pages()]
    words = [Value.cast(word) for bank in banks for word in bank.pages]
    hits = [
        mine & page.holds(addr)
        for bank, (mine, addr) in zip(banks, asked, strict=True)
        for page in bank.span.pages()
    ]
    index, arriving = Signal(range(len(pages))), Signal()
    word = Signal(shape, reset_less=True)
    m.d.sync += arriving.eq(port.en & port.ready)
    with m.If(port.en):
        bits = range(len(index))
        m.d.sync += index.eq(
            Cat(any_of([hit for n, hit in enumerate(hits) if n >> bit & 1]) for bit in bits)
        )
    with m.If(arriving):
        m.d.sync += word.eq(select(words, index))
    m.d.comb += port.data.eq(word)
