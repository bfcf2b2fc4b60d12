"""The legality checker: names what is illegal, whatever the verifier let through."""

from __future__ import annotations

import itertools

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.isa import Engine, Opcode
from transept.golden.registers import UNIT_BITS, Unit
from transept.golden.rules import ENCODING, GROUPS, SELECTION
from transept.rtl.arith.fixed import select
from transept.rtl.control.order import OpenGroups, RecordedKeys
from transept.rtl.control.walk import Walk, condition, factor_value
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.skid import Slot

__all__ = ["LegalityChecker", "illegal_layout"]

RULE_BITS = 8
INDEX_BITS = 32 - (isa.INSTRUCTION_BYTES.bit_length() - 1)
#: Of the factors, as a DSP slice has them, and of a sum of products of the longest operands.
A_BITS, B_BITS, SUM_BITS = 25, 18, 36
_OPCODE = isa.HEADER[0].width
#: Instructions that wait for their check; dispatch goes on meanwhile.
_AHEAD = 32
#: Opcodes that write or read selections.
_SELECTING = (Opcode.SCORES, Opcode.SOFTMAX, Opcode.CONTEXT)


def illegal_layout() -> data.StructLayout:
    """The number and the engine of an illegal instruction, and the rule that it breaks."""
    return data.StructLayout(
        {"valid": 1, "engine": UNIT_BITS, "rule": RULE_BITS, "index": INDEX_BITS}
    )


def _mark_layout() -> data.StructLayout:
    """What travels beside a product: of its rule and of its instruction."""
    flags = ("begins", "ends", "least", "counts", "encoding", "groups", "selection", "last")
    return data.StructLayout({**dict.fromkeys(flags, 1), "engine": UNIT_BITS})


def _senseless(cfg: Config, instr: Value) -> Value:
    """Whether the opcode is unknown or not built, or bits are set that no field has; tokens of
    engines that there are not, and any token of END, are among them."""
    opcode, low = instr[:_OPCODE], _OPCODE
    built = [fmt for fmt in isa.FORMATS.values() if cfg.has(fmt.opcode)]
    used = {fmt.opcode: fmt.used for fmt in built} | {Opcode.END: _OPCODE}
    wrong = [~opcode.matches(*used)]
    for mask in isa.HEADER[1:]:
        wrong.append(instr[low + len(Engine) : low + mask.width].any())
        low += mask.width
    for first, last in itertools.pairwise(sorted({*used.values(), len(instr)})):
        shorter = [number for number, end in used.items() if end <= first]
        wrong.append(instr[first:last].any() & opcode.matches(*shorter))
    return Cat(wrong).any()


class LegalityChecker(wiring.Component):
    """Walks ``golden.rules`` for one instruction after the other, a product a cycle.

    An instruction may go to its engine before it is checked: the first rule that is broken ends the
    run. As ``golden.verify`` does, this remembers open accumulators and recorded selections from
    one instruction to the next, and from one program to the next, until reset.

    Members
    -------
    i : In(stream of 256 bits), every instruction, END too; 32 wait here
    idle : Out(1), there is a verdict on all of them
    illegal : Out(illegal_layout), valid for one cycle
    clear : In(1), a program starts: count from 0
    """

    i: stream.Interface
    illegal: data.View

    def __init__(self, cfg: Config) -> None:
        self._cfg, self._walk = cfg, Walk(cfg)
        super().__init__(
            {
                "i": In(stream.Signature(8 * isa.INSTRUCTION_BYTES)),
                "idle": Out(1),
                "illegal": Out(illegal_layout()),
                "clear": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ahead = ahead = Queue(self.i.payload.shape(), _AHEAD)
        m.submodules.head = head = Slot(self.i.payload.shape())
        m.submodules.groups = groups = OpenGroups(self._cfg)
        connect(m, flipped(self.i), ahead.i)
        connect(m, ahead.o, head.i)
        instr, mark, step = head.o.payload, Signal(_mark_layout()), Signal(self._walk.layout)
        read, valid, ready = self._read(m, head.o, mark, step)
        # of the head, which waits for a cycle before its first step is at hand
        conditions, senseless = Signal(len(self._walk.when)), Signal()
        m.d.sync += [
            conditions.eq(Cat(condition(instr, when) for when in self._walk.when)),
            senseless.eq(_senseless(self._cfg, instr)),
        ]
        m.d.comb += [
            groups.instr.eq(instr),
            groups.read.eq(read),
            mark.begins.eq(step.begins),
            mark.ends.eq(valid & step.ends),
            mark.least.eq(step.least),
            mark.counts.eq(select(list(conditions), step.when)),
            mark.encoding.eq((valid | read) & senseless),
            mark.groups.eq(read & groups.wrong),
            mark.last.eq(head.o.ready),
            mark.engine.eq(self._engine(instr)),
        ]
        marks = [mark]
        for _ in range(4):
            marks.append(Signal.like(mark, name=f"mark_{len(marks)}"))
            m.d.sync += marks[-1].eq(marks[-2])
        self._judge(m, self._sum(m, instr, step, marks[2].begins), marks[3])
        waiting = (ahead.o.valid, head.o.valid, ~ready)
        pending = Cat(*waiting, *(late.last for late in marks[1:])).any()
        m.d.comb += self.idle.eq(~pending)
        return m

    def _read(
        self, m: Module, head: stream.Interface, mark: data.View, step: data.View
    ) -> tuple[Signal, Signal, Signal]:
        """Go through the steps of an opcode, then through its selections.

        Results: the last step is at hand, a step is at hand, nothing is.
        """
        steps, opcode = self._walk.steps, head.payload[:_OPCODE]
        place, valid, read, visiting = Signal(range(len(steps))), Signal(), Signal(), Signal()
        ready, row = Signal(), self._step(m, place)
        keys = self._selections(m, head.payload, mark, read, visiting)
        m.d.sync += [step.eq(row), valid.eq(0)]
        with m.FSM():
            with m.State("Clear"), m.If(keys.cleared if keys else 1):
                m.next = "Ready"
            with m.State("Ready"):
                m.d.comb += ready.eq(1)
                with m.If(head.valid), m.Switch(opcode):
                    for number, first in self._walk.starts.items():
                        with m.Case(number):
                            m.d.sync += place.eq(first)
                            m.next = "Look up"
                    with m.Default():
                        m.next = "Last step"
            with m.State("Look up"):
                m.d.sync += place.eq(place + 1)
                m.next = "Walk"
            with m.State("Walk"):
                m.d.sync += [place.eq(place + 1), valid.eq(1)]
                with m.If(row.final):
                    m.next = "Last step"
            with m.State("Last step"):
                m.d.comb += [read.eq(1), head.ready.eq(1)]
                m.next = "Ready"
                if keys:
                    with m.If(opcode.matches(*_SELECTING)):
                        m.d.comb += head.ready.eq(0)
                        m.next = "Selections"
            if keys:
                with m.State("Selections"):
                    m.d.comb += [visiting.eq(1), head.ready.eq(keys.last)]
                    with m.If(keys.last):
                        m.next = "Ready"
        return read, valid, ready

    def _step(self, m: Module, place: Value) -> data.View:
        """The step at a place of the table, a cycle later."""
        walk = self._walk
        m.submodules.table = table = memory.Memory(
            shape=walk.layout,
            depth=len(walk.steps),
            init=[walk.row(step) for step in walk.steps],
            attrs={"ram_style": "block"},
        )
        port = table.read_port()
        m.d.comb += port.addr.eq(place)
        return port.data

    def _selections(
        self, m: Module, instr: Value, mark: data.View, read: Signal, visiting: Signal
    ) -> RecordedKeys | None:
        """The memory of recorded selections, if there can be any."""
        if not self._cfg.blocks.attention:
            return None
        m.submodules.keys = keys = RecordedKeys(self._cfg)
        m.d.comb += [
            keys.instr.eq(instr),
            keys.read.eq(read),
            keys.visiting.eq(visiting),
            mark.selection.eq(visiting & keys.wrong),
        ]
        return keys

    def _sum(self, m: Module, instr: Value, step: data.View, begins: Value) -> Signal:
        """The sum of products, three cycles after its last step. ``begins``: with the second."""
        a, b = Signal(signed(A_BITS)), Signal(signed(B_BITS))
        product, total = Signal(signed(A_BITS + B_BITS)), Signal(signed(SUM_BITS))
        begin, late = Signal.like(step.begin), Signal.like(step.begin)
        first, second = (
            select([Value.cast(factor_value(instr, one)) for one in sources], index)
            for sources, index in ((self._walk.a, step.a), (self._walk.b, step.b))
        )
        m.d.sync += [
            a.eq(Mux(step.a_fixed, step.factor, first)),
            b.eq(Mux(step.b_fixed, step.factor, second)),
            begin.eq(step.begin),
            product.eq(a * b),
            late.eq(begin),
            total.eq(Mux(begins, late, total) + product),
        ]
        return total

    def _judge(self, m: Module, total: Signal, mark: data.View) -> None:
        """The verdict on a rule, a cycle later, and where it counts."""
        number, index, broken = Signal(RULE_BITS, init=1), Signal(INDEX_BITS), Signal()
        # a sum is legal if it is negative, or the other way round
        m.d.comb += broken.eq(mark.ends & mark.counts & (total[-1] == mark.least))
        m.d.sync += [
            self.illegal.valid.eq(broken | mark.encoding | mark.groups | mark.selection),
            self.illegal.engine.eq(mark.engine),
            self.illegal.index.eq(index),
            self.illegal.rule.eq(Mux(mark.groups, GROUPS, SELECTION)),
        ]
        with m.If(broken):
            m.d.sync += self.illegal.rule.eq(number)
        with m.If(mark.encoding):
            m.d.sync += self.illegal.rule.eq(ENCODING)
        with m.If(mark.ends):
            m.d.sync += number.eq(number + 1)
        with m.If(mark.last):
            m.d.sync += [number.eq(1), index.eq(index + 1)]
        with m.If(self.clear):
            m.d.sync += index.eq(0)

    def _engine(self, instr: Value) -> Value:
        """The unit that runs an instruction."""
        opcode, found = instr[:_OPCODE], Const(Unit.CONTROL, UNIT_BITS)
        for fmt in isa.FORMATS.values():
            if fmt.engine is not None and self._cfg.has(fmt.opcode):
                found = Mux(opcode == fmt.opcode, Const(fmt.engine, UNIT_BITS), found)
        return found
