"""Walk over the kept key tiles of every row of a SOFTMAX instruction."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import isa
from transept.golden.config import ROWSTAT_BITS, Config
from transept.rtl.arith.fixed import index_bits
from transept.rtl.attention.selection import selection_read
from transept.rtl.interfaces import instruction_layout, rowstat_read

__all__ = ["KeptTiles", "score_tag"]


def score_tag(cfg: Config) -> data.StructLayout:
    """What goes with a word of scores: its address, the maximum of its row, the sum of the row so
    far and where it goes, and whether the word is the row's last."""
    return data.StructLayout(
        {
            "addr": index_bits(cfg.act_words),
            "maximum": signed(16),
            "found": ROWSTAT_BITS,
            "entry": index_bits(cfg.memories.rowstat_entries),
            "last": 1,
        }
    )


class KeptTiles(wiring.Component):
    """One tag for each kept key tile, tiles of a row in ascending order, rows in order.

    One tag a cycle; two cycles between rows, three if their sums go on, which a reader that reads
    ahead hides.

    Members
    -------
    i : In(stream of 256 bits), SOFTMAX; accepted when the walk before has ended
    o : Out(stream of score_tag)
    rowstat : Out(rowstat_read)
    selection : Out(selection_read)
    """

    i: stream.Interface
    o: stream.Interface
    rowstat: wiring.PureInterface
    selection: wiring.PureInterface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "i": In(stream.Signature(8 * isa.INSTRUCTION_BYTES)),
                "o": Out(stream.Signature(score_tag(cfg))),
                "rowstat": Out(rowstat_read(cfg)),
                "selection": Out(selection_read(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        fields = data.View(instruction_layout(isa.Opcode.SOFTMAX), self.i.payload)
        rows_left, row_in_block = Signal.like(fields.rows), Signal(range(cfg.tile))
        addr, stride = Signal(index_bits(cfg.act_words)), Signal.like(fields.stride)
        entry, sum_entry = Signal.like(self.rowstat.addr), Signal.like(self.rowstat.addr)
        block, keep = Signal.like(self.selection.addr), Signal()

        remaining, maximum = Signal(cfg.key_tiles), Signal(signed(16))
        total = Signal(ROWSTAT_BITS)
        # the lowest bit that remains, a register: it takes long to find, and is long to number
        lowest, ahead = Signal(cfg.key_tiles), Signal(cfg.key_tiles)
        after = remaining & ~lowest
        found = Signal(
            data.StructLayout({"tile": index_bits(cfg.key_tiles), "tag": self.o.payload.shape()})
        )
        found_valid, advance_found, advance = Signal(), Signal(), Signal()
        m.d.comb += [
            self.rowstat.addr.eq(entry),
            self.selection.addr.eq(block),
            advance.eq(~self.o.valid | self.o.ready),
            advance_found.eq(~found_valid | advance),
        ]
        with m.If(advance):
            m.d.sync += [
                self.o.valid.eq(found_valid),
                self.o.payload.eq(found.tag),
                self.o.payload.addr.eq(found.tag.addr + found.tile),
            ]
        with m.If(advance_found):
            m.d.sync += found_valid.eq(0)

        with m.FSM() as fsm:
            with m.State("Idle"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    rows_left.eq(fields.rows),
                    row_in_block.eq(0),
                    addr.eq(fields.addr),
                    stride.eq(fields.stride),
                    entry.eq(fields.rowstat),
                    sum_entry.eq(fields.out_rowstat),
                    keep.eq(fields.keep),
                    block.eq(fields.select),
                ]
                with m.If(self.i.valid):
                    m.next = "Look up"
            with m.State("Look up"):
                m.d.comb += self.rowstat.en.eq(1)
                m.d.sync += total.eq(0)
                m.next = "Begin row"
                with m.If(keep):
                    m.next = "Look up sum"
            with m.State("Look up sum"):
                m.d.comb += [self.rowstat.en.eq(1), self.rowstat.addr.eq(sum_entry)]
                m.d.sync += maximum.eq(self.rowstat.data)
                m.next = "Begin row"
            with m.State("Begin row"):
                m.d.sync += [remaining.eq(ahead), lowest.eq(ahead & -ahead)]
                with m.If(keep):
                    m.d.sync += total.eq(self.rowstat.data)
                with m.Else():
                    m.d.sync += maximum.eq(self.rowstat.data)
                m.next = "Walk"
            with m.State("Walk"), m.If(advance_found):
                last = after == 0
                m.d.sync += [
                    found_valid.eq(1),
                    found.tile.eq(_position(lowest)),
                    found.tag.addr.eq(addr),
                    found.tag.maximum.eq(maximum),
                    found.tag.found.eq(total),
                    found.tag.entry.eq(sum_entry),
                    found.tag.last.eq(last),
                    remaining.eq(ahead),
                    lowest.eq(ahead & -ahead),
                ]
                with m.If(last):
                    m.d.sync += [
                        rows_left.eq(rows_left - 1),
                        row_in_block.eq(row_in_block + 1),
                        addr.eq(addr + stride),
                        entry.eq(entry + 1),
                        sum_entry.eq(sum_entry + 1),
                    ]
                    with m.If(row_in_block == cfg.tile - 1):
                        m.d.sync += block.eq(block + 1)
                    m.next = "Look up"
                    with m.If(rows_left == 0):
                        m.next = "Idle"
        begins = fsm.ongoing("Begin row")
        m.d.comb += ahead.eq(Mux(begins, self.selection.bitmap, after))
        return m


def _position(one_hot: Signal) -> Cat:
    """Index of the only bit that is set."""
    bits = index_bits(len(one_hot))
    return Cat(
        Cat(one_hot[i] for i in range(len(one_hot)) if i >> bit & 1).any() for bit in range(bits)
    )
