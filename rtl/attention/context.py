"""CONTEXT as groups: for each block of query rows and each n tile, the key tiles that were kept."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import isa
from transept.golden.config import Config
from transept.rtl.attention.selection import selection_read
from transept.rtl.gemm.descriptors import Statistic
from transept.rtl.gemm.groups import group_layout
from transept.rtl.gemm.matmul import PARAMETER_WORDS
from transept.rtl.interfaces import instruction_layout

__all__ = ["ContextExpander"]


class ContextExpander(wiring.Component):
    """Expands CONTEXT instructions, one group a cycle after two cycles for each block.

    With ``accumulate`` the groups go on where those of the instruction before were left open.

    Members
    -------
    instr : In(stream of instructions), taken with its last group
    selection : Out(selection_read)
    groups : Out(stream of group_layout)
    """

    instr: stream.Interface
    selection: wiring.PureInterface
    groups: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "instr": In(stream.Signature(8 * isa.INSTRUCTION_BYTES)),
                "selection": Out(selection_read(cfg)),
                "groups": Out(stream.Signature(group_layout(cfg))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        op = data.View(instruction_layout(isa.Opcode.CONTEXT), self.instr.payload)
        tile_log2 = self._cfg.tile.bit_length() - 1
        n, last_n, last_block = Signal.like(op.d_tiles), Signal(), Signal()
        # of the block at hand; rows counts down to its own, minus one
        rows, row_addr = Signal.like(op.rows), Signal.like(op.p_addr)
        out_addr, out_rowstat = Signal.like(op.out_addr), Signal.like(op.out_rowstat)
        sums, entry = Signal.like(op.p_rowstat), Signal.like(op.select)
        tile_addr, out_tile, param = (
            Signal.like(operand) for operand in (op.v_addr, op.out_addr, op.param)
        )

        m.d.comb += [
            last_n.eq(n == op.d_tiles - 1),
            last_block.eq(rows < self._cfg.tile),
            self.selection.addr.eq(entry),
        ]
        with m.FSM():
            with m.State("Prepare"), m.If(self.instr.valid):
                m.d.sync += [
                    rows.eq(op.rows),
                    row_addr.eq(op.p_addr),
                    out_addr.eq(op.out_addr),
                    sums.eq(op.p_rowstat),
                    out_rowstat.eq(op.out_rowstat),
                    entry.eq(op.select),
                ]
                m.next = "Block"
            with m.State("Block"):
                m.d.sync += [
                    n.eq(0),
                    tile_addr.eq(op.v_addr),
                    out_tile.eq(out_addr),
                    param.eq(op.param),
                ]
                m.next = "Groups"
            with m.State("Groups"):
                m.d.comb += self.groups.valid.eq(1)
                with m.If(self.groups.ready):
                    m.d.sync += [
                        n.eq(n + 1),
                        tile_addr.eq(tile_addr + 1),
                        out_tile.eq(out_tile + 1),
                        param.eq(param + PARAMETER_WORDS),
                    ]
                    with m.If(last_n):
                        m.d.sync += [
                            rows.eq(rows - self._cfg.tile),
                            row_addr.eq(row_addr + (op.p_stride << tile_log2)),
                            out_addr.eq(out_addr + (op.out_stride << tile_log2)),
                            sums.eq(sums + self._cfg.tile),
                            out_rowstat.eq(out_rowstat + self._cfg.tile),
                            entry.eq(entry + 1),
                        ]
                        m.d.comb += self.instr.ready.eq(last_block)
                        m.next = "Block"
                        with m.If(last_block):
                            m.next = "Prepare"

        group = self.groups.payload
        block_rows = Mux(last_block, rows[:tile_log2], self._cfg.tile - 1)
        m.d.comb += [
            group.sparse.eq(1),
            group.bitmap.eq(self.selection.bitmap),
            group.tile_step.eq(op.d_tiles << tile_log2),
            group.tile.addr.eq(tile_addr),
            group.tile.row_stride.eq(op.d_tiles),
            group.tile.sums.eq(1),
            group.tile.first.eq(~op.accumulate),
            group.tile.finishes.eq(op.finish),
            group.row.addr.eq(row_addr),
            group.row.stride.eq(op.p_stride),
            group.row.rows.eq(block_rows),
            group.row.mode.eq(isa.AMode.RAW),
            group.row.row_scale.eq(isa.RowScale.RECIPROCAL),
            group.row.rowstat.eq(sums),
            group.job.rows.eq(block_rows),
            group.job.out_addr.eq(out_tile),
            group.job.out_stride.eq(op.out_stride),
            group.job.out_mode.eq(op.out_mode),
            group.job.columns.eq(1),
            group.job.param.eq(param),
            group.job.pre.eq(op.pre),
            group.job.row_shift.eq(op.row_shift),
            group.job.out_shift.eq(op.out_shift),
            group.job.statistic.eq(Mux(op.stats, Statistic.MAGNITUDE, Statistic.NONE)),
            group.job.keep.eq(op.stats_keep | (n != 0)),
            group.job.rowstat.eq(out_rowstat),
            group.job.tally.eq(op.tally),
            group.job.retire.eq(last_n & last_block),
        ]
        return m
