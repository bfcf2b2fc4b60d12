"""The sequencer of the GEMM engine: instructions in; tiles, passes and jobs out."""

from __future__ import annotations

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden import isa
from transept.golden.config import Config
from transept.rtl.attention.context import ContextExpander
from transept.rtl.attention.filters.ports import request_layout, select_layout
from transept.rtl.attention.scores import ScoresExpander
from transept.rtl.attention.selection import SelectionMemory, selection_read
from transept.rtl.gemm.descriptors import job_layout, pass_layout, tile_layout
from transept.rtl.gemm.groups import GroupWalker
from transept.rtl.gemm.matmul import MatmulExpander
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.skid import Skid, Slot

__all__ = ["Sequencer"]

#: Passes expanded ahead of the array, and instructions expanded ahead of their retirement.
PASSES_AHEAD = 8
INSTRUCTIONS_AHEAD = 16


class Sequencer(wiring.Component):
    """Expands instructions ahead of the array, a pass every other cycle.

    An instruction of one pass takes three cycles, so that passes as short as ``tile`` cycles never
    wait for their descriptors.

    Members
    -------
    instr : In(stream of instructions)
    tiles, passes, jobs : Out(streams of descriptors)
    request, select : the streams of the key filter, if there is attention
    selection : In(selection_read), the softmax engine's view of the kept key tiles, likewise
    job_retired, pass_retired : In(1), the last job (pass) of an instruction is complete
    retire : Out(1), one pulse for each instruction, in order
    busy : Out(1), some instruction is not retired
    no_answer : Out(1), expansion waits for the filter
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        attention = {
            "request": Out(stream.Signature(request_layout(cfg))),
            "select": In(stream.Signature(select_layout(cfg))),
            "selection": In(selection_read(cfg)),
        }
        super().__init__(
            (attention if cfg.blocks.attention else {})
            | {
                "instr": In(stream.Signature(8 * isa.INSTRUCTION_BYTES)),
                "tiles": Out(stream.Signature(tile_layout(cfg))),
                "passes": Out(stream.Signature(pass_layout(cfg))),
                "jobs": Out(stream.Signature(job_layout(cfg))),
                "job_retired": In(1),
                "pass_retired": In(1),
                "retire": Out(1),
                "busy": Out(1),
                "no_answer": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.walker = walker = GroupWalker(cfg)
        m.submodules.matmul = matmul = MatmulExpander(cfg)
        expanders: dict[isa.Opcode, wiring.Component] = {isa.Opcode.MATMUL: matmul}
        if cfg.blocks.attention:
            expanders |= self._attention(m)
        m.submodules.groups = groups = Slot(walker.groups.payload.shape())
        connect(m, groups.o, walker.groups)
        held = self._route(m, groups.i, expanders)

        depths = {"tiles": PASSES_AHEAD, "passes": PASSES_AHEAD, "jobs": 2 * cfg.geometry.acc_slots}
        for name, depth in depths.items():
            source, sink = getattr(walker, name), getattr(self, name)
            m.submodules[name] = queue = Queue(sink.payload.shape(), depth)
            connect(m, source, queue.i)
            out = queue.o
            if name == "passes":  # when the streamer takes one depends on what it is
                m.submodules.head = head = Skid(sink.payload.shape())
                connect(m, out, head.i)
                out = head.o
            connect(m, out, flipped(sink))
        m.d.comb += self.busy.eq(held | groups.o.valid | self._retire(m, walker))
        return m

    def _attention(self, m: Module) -> dict[isa.Opcode, wiring.Component]:
        """Scores and context, and between them the memory of kept key tiles."""
        m.submodules.selections = selections = SelectionMemory(self._cfg)
        m.submodules.scores = scores = ScoresExpander(self._cfg)
        m.submodules.context = context = ContextExpander(self._cfg)
        connect(m, scores.request, flipped(self.request))
        connect(m, flipped(self.select), scores.select)
        connect(m, scores.selection, selections.write)
        connect(m, context.selection, selections.context)
        connect(m, flipped(self.selection), selections.softmax)
        m.d.comb += self.no_answer.eq(scores.waiting)
        return {isa.Opcode.SCORES: scores, isa.Opcode.CONTEXT: context}

    def _route(
        self, m: Module, groups: stream.Interface, expanders: dict[isa.Opcode, wiring.Component]
    ) -> Value:
        """Hold one instruction, whose groups go to the walker; whether there is one."""
        held, expanded = Signal(len(expanders)), Signal()  # held: by the expander of its opcode
        instruction = Signal.like(self.instr.payload)
        opcode = self.instr.payload[: isa.HEADER[0].width]

        m.d.comb += self.instr.ready.eq(~held.any())
        with m.If(self.instr.ready):
            wanted = Cat(self.instr.valid & (opcode == value) for value in expanders)
            m.d.sync += [held.eq(wanted), instruction.eq(self.instr.payload)]
        with m.Elif(expanded):
            m.d.sync += held.eq(0)
        for part in expanders.values():
            # who has no instruction has no group
            m.d.comb += [part.instr.payload.eq(instruction), part.groups.ready.eq(groups.ready)]
        for mine, part in zip(held, expanders.values(), strict=True):
            m.d.comb += part.instr.valid.eq(mine)
            with m.If(mine):
                m.d.comb += [
                    expanded.eq(part.instr.ready),
                    groups.valid.eq(part.groups.valid),
                    groups.payload.eq(part.groups.payload),
                ]
        return held.any()

    def _retire(self, m: Module, walker: GroupWalker) -> Value:
        """Put the ends of jobs and of passes into the order of instructions.

        The pass of a later instruction may end before the job of an earlier one, so ends are
        counted until it is their turn. The result is high while an expanded instruction is not
        retired.
        """
        m.submodules.order = order = Queue(1, INSTRUCTIONS_AHEAD)
        connect(m, walker.retires, order.i)
        ends = []
        for name, ended in (("passes", self.pass_retired), ("jobs", self.job_retired)):
            count = Signal(range(INSTRUCTIONS_AHEAD + 1), name=f"retired_{name}")
            some = Signal(name=f"some_{name}")  # count != 0, a register: much follows from it
            turn = order.o.valid & (order.o.payload == len(ends)) & some
            with m.If(ended & ~turn):
                m.d.sync += [count.eq(count + 1), some.eq(1)]
            with m.Elif(turn & ~ended):
                m.d.sync += [count.eq(count - 1), some.eq(count != 1)]
            ends.append(turn)
        m.d.comb += [self.retire.eq(ends[0] | ends[1]), order.o.ready.eq(self.retire)]
        return order.o.valid
