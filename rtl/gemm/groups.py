"""Groups, the unit between instructions and passes, and the walk that turns one into passes."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.rtl.gemm.descriptors import job_layout, pass_layout, tile_layout
from transept.rtl.interfaces import operand

__all__ = ["GroupWalker", "group_layout"]

#: Key tiles that the walk skips in one cycle if the filter kept none of them.
SKIP = 4


def group_layout(cfg: Config) -> data.StructLayout:
    """One accumulator slot's worth of passes.

    Pass i streams the rows at ``row.addr + i`` against the tile at ``tile.addr + i * tile_step``,
    for i from 0 to ``passes``, or, if ``sparse``, for the set bits i of ``bitmap``. ``tile.first``
    opens a slot (else the group goes on where the same group of the instruction before left it).
    If it ``tile.finishes``, ``job`` is handed to the epilogue. ``row.observe``: the rows go to the
    key filter; no tile, no job. ``job.retire`` ends the instruction, whether it has a job or not.
    Slots are assigned here.
    """
    return data.StructLayout(
        {
            "row": pass_layout(cfg),
            "tile": tile_layout(cfg),
            "tile_step": operand(Opcode.MATMUL, "b_k"),
            "job": job_layout(cfg),
            "passes": operand(Opcode.MATMUL, "k_tiles"),  # minus one
            "sparse": 1,
            "bitmap": cfg.key_tiles,
        }
    )


class GroupWalker(wiring.Component):
    """Expands groups into tiles, passes and jobs, one pass a cycle.

    Accumulator slots are named in rotation; the row streamer waits for them. The three outputs of
    a pass leave in the same cycle, so no consumer sees a descriptor whose counterpart is held back.

    Members
    -------
    groups : In(stream of group_layout)
    tiles, passes, jobs : Out(streams)
    retires : Out(stream of 1), for each instruction, at its last pass: 1 if it ends with a job
    """

    groups: stream.Interface
    tiles: stream.Interface
    passes: stream.Interface
    jobs: stream.Interface
    retires: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._position = data.StructLayout(
            {
                "row": operand(Opcode.MATMUL, "a_addr"),
                "tile": operand(Opcode.MATMUL, "b_addr"),
                "kept": cfg.key_tiles,
                "left": operand(Opcode.MATMUL, "k_tiles"),
            }
        )
        super().__init__(
            {
                "groups": In(stream.Signature(group_layout(cfg))),
                "tiles": Out(stream.Signature(tile_layout(cfg))),
                "passes": Out(stream.Signature(pass_layout(cfg))),
                "jobs": Out(stream.Signature(job_layout(cfg))),
                "retires": Out(stream.Signature(1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        group = self.groups.payload
        move, walked = Signal(), Signal()
        emit, final = self._walk(m, move, walked)
        first = ~walked & ~group.row.observe
        slot = self._slot(m, first, emit & move, final)

        # A pass moves only if everything that it hands over is taken; the consumers are queues,
        # whose ready does not depend on valid.
        needed = {
            self.tiles: emit & ~group.row.observe,
            self.passes: emit,
            self.jobs: emit & first & group.tile.finishes,
            self.retires: emit & final & group.job.retire,
        }
        taken = Cat(port.ready | ~need for port, need in needed.items()).all()
        m.d.comb += [
            move.eq(self.groups.valid & taken),
            self.groups.ready.eq(move & final),
            self.retires.payload.eq(group.tile.finishes),
            self.jobs.payload.eq(group.job),
            self.jobs.payload.slot.eq(slot),
            self.passes.payload.slot.eq(slot),
            self.tiles.payload.slot.eq(slot),
        ]
        m.d.comb += [port.valid.eq(move & need) for port, need in needed.items()]
        return m

    def _walk(self, m: Module, move: Signal, walked: Signal) -> tuple[Value, Value]:
        """Step through the passes of the group; results: this step is a pass, it is the last.

        ``walked`` is high once the group has had a pass.
        """
        group = self.groups.payload
        started = Signal()
        now, following = Signal(self._position), Signal(self._position)
        sparse, final = group.sparse, Signal()
        m.d.comb += [
            now.row.eq(Mux(started, following.row, group.row.addr)),
            now.tile.eq(Mux(started, following.tile, group.tile.addr)),
            now.kept.eq(Mux(started, following.kept, group.bitmap)),
            now.left.eq(Mux(started, following.left, group.passes)),
            final.eq(Mux(sparse, ~now.kept[1:].any(), now.left == 0)),
        ]
        emit = ~sparse | now.kept[0] | final
        skip = sparse & ~now.kept[:SKIP].any() & ~final
        with m.If(move):
            m.d.sync += [
                started.eq(~final),
                walked.eq((walked | emit) & ~final),
                following.left.eq(now.left - 1),
                following.row.eq(now.row + Mux(skip, SKIP, 1)),
                following.tile.eq(now.tile + Mux(skip, group.tile_step * SKIP, group.tile_step)),
                following.kept.eq(Mux(skip, now.kept >> SKIP, now.kept >> 1)),
            ]
        tile, passing = self.tiles.payload, self.passes.payload
        first = group.tile.first & ~walked
        m.d.comb += [
            tile.eq(group.tile),
            tile.addr.eq(now.tile),
            tile.begins.eq(~walked),
            tile.ends.eq(final),
            tile.first.eq(first),
            passing.eq(group.row),
            passing.addr.eq(now.row),
            passing.first.eq(first),
            passing.last.eq(group.tile.finishes & final),
            passing.retire.eq(group.job.retire & final & ~group.tile.finishes),
        ]
        return emit, final

    def _slot(self, m: Module, first: Value, emitted: Value, final: Value) -> Value:
        """The slot of the group at hand.

        Groups that open one take the slots in rotation; those that go on take the slots of the
        instruction that opened them, in the same order.
        """
        group, last_slot = self.groups.payload, 2 * self._cfg.geometry.acc_slots - 1
        following, current, opened = (Signal(range(last_slot + 1)) for _ in range(3))
        starts = Signal(init=1)  # the group at hand is the first one of its instruction
        opens = first & group.tile.first

        def after(slot: Value) -> Value:
            return Mux(slot == last_slot, 0, slot + 1)

        goes_on = Mux(starts, opened, after(current))
        slot = Mux(first, Mux(opens, following, goes_on), current)
        with m.If(emitted & first):
            m.d.sync += current.eq(slot)
            with m.If(opens):
                m.d.sync += following.eq(after(following))
                with m.If(starts):
                    m.d.sync += opened.eq(following)
        with m.If(emitted & final & ~group.row.observe):
            m.d.sync += starts.eq(group.job.retire)
        return slot
