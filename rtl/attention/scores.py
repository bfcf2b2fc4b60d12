"""SCORES as groups: for each block of query rows, the key tiles that the filter selects."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import isa
from transept.golden.config import Config
from transept.rtl.attention.bank import FilterBank
from transept.rtl.attention.filters.ports import request_layout, select_layout
from transept.rtl.attention.selection import selection_write
from transept.rtl.gemm.descriptors import Statistic
from transept.rtl.gemm.groups import group_layout
from transept.rtl.interfaces import instruction_layout, operand

__all__ = ["ScoresExpander"]


class ScoresExpander(wiring.Component):
    """Expands SCORES instructions: asks the filter for each block of ``tile`` query rows, sends the
    rows if it wants them, and turns each selected key tile into a group.

    One group a cycle as the filter answers; a cycle for every key tile that it leaves out. The kept
    tiles of a block are written to the selection memory with its last group.

    Members
    -------
    instr : In(stream of instructions), taken with its last group
    request : Out(stream of request_layout), select : In(stream of select_layout), of the filter
    selection : Out(selection_write)
    groups : Out(stream of group_layout)
    waiting : Out(1), the filter has not answered
    """

    instr: stream.Interface
    request: stream.Interface
    select: stream.Interface
    selection: wiring.PureInterface
    groups: stream.Interface
    waiting: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        # where a block starts; rows counts down to its own, minus one
        names = {"rows": "rows", "queries": "q_addr", "scores": "s_addr", "entry": "select"}
        self._block = data.StructLayout(
            {
                **{name: operand(isa.Opcode.SCORES, source) for name, source in names.items()},
                "position": request_layout(cfg)["position"].shape,
                "rowstat": operand(isa.Opcode.SCORES, "rowstat"),
            }
        )
        super().__init__(
            {
                "instr": In(stream.Signature(8 * isa.INSTRUCTION_BYTES)),
                "request": Out(stream.Signature(request_layout(cfg))),
                "select": In(stream.Signature(select_layout(cfg))),
                "selection": Out(selection_write(cfg)),
                "groups": Out(stream.Signature(group_layout(cfg))),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tile = self._cfg.tile
        tile_log2 = tile.bit_length() - 1
        op = data.View(instruction_layout(isa.Opcode.SCORES), self.instr.payload)
        block = Signal(self._block)
        block_rows = Mux(block.rows < tile, block.rows[:tile_log2], tile - 1)
        asking, showing, answering, done = (Signal() for _ in range(4))

        with m.FSM() as fsm:
            with m.State("Prepare"), m.If(self.instr.valid):
                m.d.sync += [
                    block.rows.eq(op.rows),
                    block.position.eq(op.position),
                    block.queries.eq(op.q_addr),
                    block.scores.eq(op.s_addr),
                    block.rowstat.eq(op.rowstat),
                    block.entry.eq(op.select),
                ]
                m.next = "Ask"
            with m.State("Ask"), m.If(self.request.ready):
                m.next = "Answer"
                with m.If(FilterBank.needs_query(self._cfg, op.filter)):
                    m.next = "Show"
            with m.State("Show"), m.If(self.groups.ready):
                m.next = "Answer"
            with m.State("Answer"), m.If(done):
                m.d.sync += [
                    block.rows.eq(block.rows - tile),
                    block.position.eq(block.position + tile),
                    block.queries.eq(block.queries + (op.q_stride << tile_log2)),
                    block.scores.eq(block.scores + (op.s_stride << tile_log2)),
                    block.rowstat.eq(block.rowstat + tile),
                    block.entry.eq(block.entry + 1),
                ]
                m.d.comb += self.instr.ready.eq(block.rows < tile)
                m.next = "Ask"
                with m.If(self.instr.ready):
                    m.next = "Prepare"

        m.d.comb += [
            asking.eq(fsm.ongoing("Ask")),
            showing.eq(fsm.ongoing("Show")),
            answering.eq(fsm.ongoing("Answer")),
            self.waiting.eq(asking | (answering & ~self.select.valid)),
            self.request.valid.eq(asking),
            self.request.payload.kind.eq(op.filter),
            self.request.payload.rows.eq(block_rows),
            self.request.payload.position.eq(block.position),
            self.request.payload.key_base.eq(op.key_base),
            self.request.payload.keys.eq(op.keys),
            self.request.payload.region.eq(op.k_addr >> tile_log2),
            self.request.payload.d_tiles.eq(op.d_tiles),
            self.request.payload.parameter.eq(op.parameter),
        ]
        tile_addr, scores, first = self._walk_tiles(m, op, block, asking, answering, done)
        self._describe(m, op, block, block_rows)
        group = self.groups.payload
        m.d.comb += [
            group.row.observe.eq(showing),
            group.tile.addr.eq(tile_addr),
            group.job.out_addr.eq(scores),
            group.job.keep.eq(op.stats_keep | ~first),
            group.job.retire.eq(~showing & self.select.payload.last & (block.rows < tile)),
        ]
        with m.If(showing):
            m.d.comb += self.groups.valid.eq(1)
        return m

    def _walk_tiles(
        self,
        m: Module,
        op: data.View,
        block: data.View,
        asking: Signal,
        answering: Signal,
        done: Signal,
    ) -> tuple[Signal, Signal, Signal]:
        """Step to each selected tile, offer its group, and record it.

        Results: addresses of K and S of the tile, and whether it is the first one of the block.
        """
        chosen = self.select.payload
        tile, first = Signal.like(chosen.tile), Signal()
        tile_addr, scores = Signal.like(op.k_addr), Signal.like(op.s_addr)
        kept, recorded = Signal(self._cfg.key_tiles), Signal(self._cfg.key_tiles)
        there, reached, taken, left = Signal(), Signal(), Signal(), Signal()

        m.d.comb += [
            there.eq(tile == chosen.tile),
            taken.eq(reached & self.groups.ready),
            recorded.eq(kept | (1 << tile)),
            done.eq(taken & chosen.last),
            self.select.ready.eq(taken),
            self.selection.en.eq(done),
            self.selection.addr.eq(block.entry),
            self.selection.bitmap.eq(recorded),
        ]
        with m.If(reached):
            m.d.comb += self.groups.valid.eq(1)
        # each a cycle late, for many bits follow from it; no answer follows the one before at once
        m.d.sync += [
            reached.eq(answering & self.select.valid & there & ~taken),
            left.eq(taken),
        ]
        with m.If(left):
            m.d.sync += kept.eq(recorded)
        with m.If(asking):
            m.d.sync += [
                tile.eq(0),
                first.eq(1),
                tile_addr.eq(op.k_addr),
                scores.eq(block.scores),
                kept.eq(0),
            ]
        with m.Elif(left | (answering & self.select.valid & ~there)):
            m.d.sync += [
                tile.eq(tile + 1),
                tile_addr.eq(tile_addr + (op.d_tiles << (self._cfg.tile.bit_length() - 1))),
                scores.eq(scores + 1),
                first.eq(first & ~left),
            ]
        return tile_addr, scores, first

    def _describe(self, m: Module, op: data.View, block: data.View, block_rows: Value) -> None:
        """What all groups of a block have in common."""
        group, chosen = self.groups.payload, self.select.payload
        tile = self._cfg.tile
        tile_log2 = tile.bit_length() - 1
        m.d.comb += [
            # cut, for a sign extension is written as bits of the payload that depend on each other
            group.passes.eq((op.d_tiles - 1)[: len(op.d_tiles)]),
            group.tile_step.eq(1),
            group.tile.row_stride.eq(op.d_tiles),
            group.tile.transposed.eq(1),
            group.tile.first.eq(1),
            group.tile.finishes.eq(1),
            group.row.addr.eq(block.queries),
            group.row.stride.eq(op.q_stride),
            group.row.rows.eq(block_rows),
            group.row.mode.eq(isa.AMode.RAW),
            group.row.row_scale.eq(isa.RowScale.ONE),
            group.job.rows.eq(block_rows),
            group.job.out_stride.eq(op.s_stride),
            group.job.out_mode.eq(isa.OutMode.ACT16),
            group.job.immediate.eq(1),
            group.job.multiplier.eq(op.multiplier),
            group.job.channel_shift.eq(op.channel_shift),
            group.job.row_shift.eq(op.row_shift),
            group.job.masked.eq(1),
            group.job.band.upper.eq(chosen.upper),
            group.job.band.lower.eq(chosen.lower),
            # of the last tile, keys beyond the last one do not exist
            group.job.band.last.eq(
                Mux(chosen.tile == op.keys >> tile_log2, op.keys[:tile_log2], tile - 1)
            ),
            group.job.tally.eq(op.tally),
            group.job.statistic.eq(Statistic.MAXIMUM),
            group.job.rowstat.eq(block.rowstat),
        ]
