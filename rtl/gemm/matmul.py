"""MATMUL as groups: one for each n tile, with a pass for each k tile."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import isa
from transept.golden.config import Config
from transept.rtl.gemm.descriptors import Statistic
from transept.rtl.gemm.groups import group_layout
from transept.rtl.interfaces import instruction_layout

__all__ = ["PARAMETER_WORDS", "MatmulExpander"]

#: STAT words of the channel parameters of one n tile.
PARAMETER_WORDS = 8


class MatmulExpander(wiring.Component):
    """Expands MATMUL instructions, one group a cycle after one cycle of preparation.

    Members
    -------
    instr : In(stream of instructions), taken with its last group
    groups : Out(stream of group_layout)
    """

    instr: stream.Interface
    groups: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "instr": In(stream.Signature(8 * isa.INSTRUCTION_BYTES)),
                "groups": Out(stream.Signature(group_layout(cfg))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        op = data.View(instruction_layout(isa.Opcode.MATMUL), self.instr.payload)
        prepared, last = Signal(), Signal()
        n, tile_addr = Signal.like(op.n_tiles), Signal.like(op.b_addr)
        out_addr, param = Signal.like(op.out_addr), Signal.like(op.param)

        m.d.comb += [
            last.eq(n == op.n_tiles - 1),
            self.groups.valid.eq(self.instr.valid & prepared),
            self.instr.ready.eq(self.groups.valid & self.groups.ready & last),
        ]
        with m.If(self.instr.valid & ~prepared):
            m.d.sync += [
                prepared.eq(1),
                n.eq(0),
                tile_addr.eq(op.b_addr),
                out_addr.eq(op.out_addr),
                param.eq(op.param),
            ]
        with m.Elif(self.groups.valid & self.groups.ready):
            m.d.sync += [
                prepared.eq(~last),
                n.eq(n + 1),
                tile_addr.eq(tile_addr + op.b_n),
                out_addr.eq(out_addr + 1),
                param.eq(param + PARAMETER_WORDS),
            ]

        group, halves = self.groups.payload, op.halves & int(self._cfg.blocks.halves)
        m.d.comb += [
            group.passes.eq(op.k_tiles - 1),
            group.tile_step.eq(op.b_k),
            group.tile.addr.eq(tile_addr),
            group.tile.row_stride.eq(op.b_row),
            group.tile.transposed.eq(op.b_transposed),
            group.tile.first.eq(~op.accumulate),
            group.tile.finishes.eq(op.finish),
            group.row.addr.eq(op.a_addr),
            group.row.stride.eq(op.a_stride),
            group.row.rows.eq(Mux(halves, Cat(Const(1, 1), op.rows), op.rows)),
            group.row.mode.eq(op.a_mode),
            group.row.halves.eq(halves),
            group.row.row_scale.eq(op.row_scale),
            group.row.rowstat.eq(op.a_rowstat),
            group.job.rows.eq(op.rows),
            group.job.halves.eq(halves),
            group.job.out_addr.eq(out_addr),
            group.job.out_stride.eq(op.out_stride),
            group.job.out_mode.eq(op.out_mode),
            group.job.param.eq(param),
            group.job.pre.eq(op.pre),
            group.job.row_shift.eq(op.row_shift),
            group.job.out_shift.eq(op.out_shift),
            group.job.activation.eq(op.activation),
            group.job.statistic.eq(Mux(op.stats, Statistic.MAGNITUDE, Statistic.NONE)),
            group.job.keep.eq(op.stats_keep | (n != 0)),
            group.job.rowstat.eq(op.out_rowstat),
            group.job.observe.eq(op.observe),
            group.job.phase.eq(op.phase),
            group.job.summary.eq(op.summary + n),
            group.job.tally.eq(op.tally),
            group.job.retire.eq(last),
        ]
        return m
