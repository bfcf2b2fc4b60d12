"""What instructions leave for those after them, as far as it decides what is legal."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.golden.numerics.softmax import CONTEXT_KEYS
from transept.rtl.arith.fixed import index_bits
from transept.rtl.interfaces import instruction_layout

__all__ = ["OpenGroups", "RecordedKeys"]

_BITS = 8 * isa.INSTRUCTION_BYTES


class OpenGroups(wiring.Component):
    """Which accumulators are open. Golden model: ``golden.verify.State.groups``.

    Members
    -------
    instr : In(256)
    read : In(1), the instruction counts from the next cycle on
    wrong : Out(1), it finds accumulators open or closed that it needs otherwise, or of another
        shape; or there are more keys in a row than an accumulator holds
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__({"instr": In(_BITS), "read": In(1), "wrong": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        matmul, context = (
            data.View(instruction_layout(opcode), self.instr)
            for opcode in (Opcode.MATMUL, Opcode.CONTEXT)
        )
        is_context = matmul.opcode == Opcode.CONTEXT
        is_product = (matmul.opcode == Opcode.MATMUL) | is_context
        is_open, of_context = Signal(), Signal()
        rows, tiles = Signal.like(matmul.rows), Signal.like(context.d_tiles)
        halves, mine_halves = Signal(), matmul.halves & ~is_context
        keys, total = Signal(range(CONTEXT_KEYS + 1)), Signal(range(2 * CONTEXT_KEYS + 1))
        accumulate, finish, same = Signal(), Signal(), Signal()
        mine_tiles = Mux(is_context, context.d_tiles, 1)
        # of more keys there is another rule
        mine_keys = context.keys[: index_bits(self._cfg.geometry.max_keys)] + 1
        m.d.comb += [
            accumulate.eq(is_product & Mux(is_context, context.accumulate, matmul.accumulate)),
            finish.eq(Mux(is_context, context.finish, matmul.finish)),
            same.eq(
                is_open
                & (of_context == is_context)
                & (rows == matmul.rows)
                & (tiles == mine_tiles)
                & (halves == mine_halves)
            ),
            total.eq(Mux(accumulate, keys, 0) + Mux(is_context, mine_keys, 0)),
            self.wrong.eq(
                Mux(accumulate, ~same, is_open & (is_product | (matmul.opcode == Opcode.SCORES)))
                | (total > CONTEXT_KEYS)
            ),
        ]
        with m.If(self.read & is_product):
            m.d.sync += [
                is_open.eq(~finish),
                of_context.eq(is_context),
                rows.eq(matmul.rows),
                tiles.eq(mine_tiles),
                halves.eq(mine_halves),
                keys.eq(total),
            ]
        return m


class RecordedKeys(wiring.Component):
    """The keys of each selection that SCORES has recorded, as ``golden.verify.State.recorded``.

    Entries are visited one a cycle: SCORES writes them, SOFTMAX and CONTEXT compare. After reset
    all of them are cleared, which takes a cycle each.

    Members
    -------
    instr : In(256), SCORES, SOFTMAX or CONTEXT while ``visiting``
    read : In(1), its entries are visited from the next cycle on
    visiting : In(1)
    last : Out(1), the last entry is visited in this cycle
    cleared : Out(1), the entries may be used
    wrong : Out(1), the entry visited holds other keys, or none
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "instr": In(_BITS),
                "read": In(1),
                "visiting": In(1),
                "last": Out(1),
                "cleared": Out(1),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        op = data.View(instruction_layout(Opcode.SCORES), self.instr)
        key_bits, log2_tile = index_bits(cfg.geometry.max_keys), cfg.tile.bit_length() - 1
        layout = data.StructLayout({"there": 1, "keys": key_bits})
        m.submodules.memory = entries = memory.Memory(
            shape=layout, depth=1 << index_bits(cfg.query_blocks), init=[]
        )
        write, found = entries.write_port(), entries.read_port(domain="comb")
        entry, left = Signal.like(write.addr), Signal(len(op.rows) - log2_tile)
        keys = op.keys[:key_bits]
        m.d.comb += [
            found.addr.eq(entry),
            write.addr.eq(entry),
            write.en.eq(~self.cleared | (self.visiting & (op.opcode == Opcode.SCORES))),
            write.data.there.eq(self.cleared),
            write.data.keys.eq(keys),
            self.last.eq(left == 0),
            self.wrong.eq(
                (op.opcode != Opcode.SCORES) & (~found.data.there | (found.data.keys != keys))
            ),
        ]
        with m.If(self.read):
            m.d.sync += [entry.eq(op.select), left.eq(op.rows >> log2_tile)]
        with m.Elif(self.visiting | ~self.cleared):
            m.d.sync += [entry.eq(entry + 1), left.eq(left - 1)]
        with m.If(entry.all()):
            m.d.sync += self.cleared.eq(1)
        return m
