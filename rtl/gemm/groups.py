"""Groups, the unit between instructions and passes, and the walk that turns one into passes."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.rtl.gemm.descriptors import job_layout, pass_layout, slot_bits, tile_layout
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
    """Expands groups into tiles, passes and jobs: a pass is found in one cycle and leaves in the
    next one in which all consumers have room, so that neither waits for the other.

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
        place = {
            "row": operand(Opcode.MATMUL, "a_addr"),
            "tile": operand(Opcode.MATMUL, "b_addr"),
        }
        self._position = data.StructLayout(
            {**place, "kept": cfg.key_tiles, "left": operand(Opcode.MATMUL, "k_tiles")}
        )
        # a pass: where it is, and whether it is the first and the last one of its group
        self._found = data.StructLayout({**place, "slot": slot_bits(cfg), "begins": 1, "ends": 1})
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
        found, waiting = Signal(self._found), Signal()
        taken = self._hand_over(m, found, waiting)
        self._walk(m, found, waiting)
        with m.If(taken):
            m.d.sync += waiting.eq(0)
        return m

    def _hand_over(self, m: Module, found: data.View, waiting: Signal) -> Signal:
        """Offer the pass that was found to all that need it, at once or not at all; whether they
        take it. The consumers are queues: their room stays until something is offered."""
        group, tile, passing = self.groups.payload, self.tiles.payload, self.passes.payload
        first = group.tile.first & found.begins
        needed = {
            self.tiles: ~group.row.observe,
            self.passes: Const(1),
            self.jobs: found.begins & ~group.row.observe & group.tile.finishes,
            self.retires: found.ends & group.job.retire,
        }
        taken, room = Signal(), Signal()
        m.d.sync += room.eq(Cat(port.ready for port in needed).all() & ~taken)
        m.d.comb += [
            taken.eq(waiting & room),
            self.groups.ready.eq(taken & found.ends),
            *(port.valid.eq(taken & need) for port, need in needed.items()),
            tile.eq(group.tile),
            tile.addr.eq(found.tile),
            tile.slot.eq(found.slot),
            tile.begins.eq(found.begins),
            tile.ends.eq(found.ends),
            tile.first.eq(first),
            passing.eq(group.row),
            passing.addr.eq(found.row),
            passing.slot.eq(found.slot),
            passing.first.eq(first),
            passing.last.eq(group.tile.finishes & found.ends),
            passing.retire.eq(group.job.retire & found.ends & ~group.tile.finishes),
            self.jobs.payload.eq(group.job),
            self.jobs.payload.slot.eq(found.slot),
            self.retires.payload.eq(group.tile.finishes),
        ]
        return taken

    def _walk(self, m: Module, found: data.View, waiting: Signal) -> None:
        """Step to the next pass of the group while none is waiting."""
        group = self.groups.payload
        move, started, walked = Signal(), Signal(), Signal()  # walked: the group has had a pass
        now, following = Signal(self._position), Signal(self._position)
        final, none_left = Signal(), Signal()  # none_left: ``following.left`` is 0
        m.d.comb += [
            move.eq(self.groups.valid & ~waiting),
            now.row.eq(Mux(started, following.row, group.row.addr)),
            now.tile.eq(Mux(started, following.tile, group.tile.addr)),
            now.kept.eq(Mux(started, following.kept, group.bitmap)),
            now.left.eq(Mux(started, following.left, group.passes)),
            # of either before it is chosen, for the comparison is long
            final.eq(
                Mux(
                    started,
                    Mux(group.sparse, ~following.kept[1:].any(), none_left),
                    Mux(group.sparse, ~group.bitmap[1:].any(), group.passes == 0),
                )
            ),
        ]
        emit = ~group.sparse | now.kept[0] | final
        skip = group.sparse & ~now.kept[:SKIP].any()
        slot = self._slot(m, ~walked & ~group.row.observe, move & emit, final)
        with m.If(move):
            m.d.sync += [
                waiting.eq(emit),
                found.row.eq(now.row),
                found.tile.eq(now.tile),
                found.slot.eq(slot),
                found.begins.eq(~walked),
                found.ends.eq(final),
                started.eq(~final),
                walked.eq((walked | emit) & ~final),
                following.left.eq(now.left - 1),
                none_left.eq(now.left == 1),
                following.row.eq(now.row + Mux(skip, SKIP, 1)),
                following.tile.eq(now.tile + Mux(skip, group.tile_step * SKIP, group.tile_step)),
                following.kept.eq(Mux(skip, now.kept >> SKIP, now.kept >> 1)),
            ]

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
