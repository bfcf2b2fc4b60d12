"""The legality checker: names what is illegal, whatever the verifier let through."""

from __future__ import annotations

import itertools

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.isa import Engine, Opcode
from transept.golden.registers import UNIT_BITS
from transept.golden.rules import ENCODING, GROUPS, SELECTION
from transept.rtl.arith.fixed import select
from transept.rtl.control.order import OpenGroups, RecordedKeys
from transept.rtl.control.walk import Walk, condition, factor_value

__all__ = ["LegalityChecker", "illegal_layout"]

RULE_BITS = 8
INDEX_BITS = 32 - (isa.INSTRUCTION_BYTES.bit_length() - 1)
#: Of the factors, as a DSP slice has them, and of a sum of products of the longest operands.
A_BITS, B_BITS, SUM_BITS = 25, 18, 36
_OPCODE = isa.HEADER[0].width
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


def _reserved(instr: Value) -> Value:
    """Whether bits are set that no field has, tokens of engines that there are not among them."""
    wrong, low = [], _OPCODE
    for mask in isa.HEADER[1:]:
        wrong.append(instr[low + len(Engine) : low + mask.width].any())
        low += mask.width
    used = {fmt.opcode: fmt.used for fmt in isa.FORMATS.values()} | {Opcode.END: _OPCODE}
    for first, last in itertools.pairwise(sorted({*used.values(), len(instr)})):
        shorter = [opcode for opcode, end in used.items() if end <= first]
        wrong.append(instr[first:last].any() & instr[:_OPCODE].matches(*shorter))
    return Cat(wrong).any()


class LegalityChecker(wiring.Component):
    """Walks ``golden.rules`` for one instruction after the other, a product a cycle.

    An instruction may go to its engine as its check starts: the first rule that is broken ends the
    run. As ``golden.verify`` does, this remembers open accumulators and recorded selections from
    one instruction to the next, and from one program to the next, until reset.

    Members
    -------
    instr : In(256), from ``start`` to ``last``
    start : In(1), its check starts; only while ``ready``, not for END and unknown opcodes
    ready : Out(1), no check is going on
    last : Out(1), the instruction has been read
    idle : Out(1), there is a verdict on all that was read
    reserved : Out(1), ``instr`` has bits set that mean nothing
    illegal : Out(illegal_layout), valid for one cycle
    index : Out, number of the next instruction that gets a verdict
    clear : In(1), a program starts
    """

    illegal: data.View

    def __init__(self, cfg: Config) -> None:
        self._cfg, self._walk = cfg, Walk(cfg)
        super().__init__(
            {
                "instr": In(8 * isa.INSTRUCTION_BYTES),
                "start": In(1),
                "ready": Out(1),
                "last": Out(1),
                "idle": Out(1),
                "reserved": Out(1),
                "illegal": Out(illegal_layout()),
                "index": Out(INDEX_BITS),
                "clear": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        mark, step = Signal(_mark_layout()), Signal(self._walk.layout)
        m.submodules.groups = groups = OpenGroups(self._cfg)
        read, valid = self._read(m, mark, step)
        conditions = [condition(self.instr, when) for when in self._walk.when]
        m.d.comb += [
            groups.instr.eq(self.instr),
            groups.read.eq(read),
            self.reserved.eq(_reserved(self.instr)),
            mark.begins.eq(step.begins),
            mark.ends.eq(valid & step.ends),
            mark.least.eq(step.least),
            mark.counts.eq(select(conditions, step.when)),
            mark.encoding.eq(valid & self.reserved),
            mark.groups.eq(read & groups.wrong),
            mark.last.eq(self.last),
            mark.engine.eq(_engine(self.instr)),
        ]
        marks = [mark]
        for _ in range(4):
            marks.append(Signal.like(mark, name=f"mark_{len(marks)}"))
            m.d.sync += marks[-1].eq(marks[-2])
        self._judge(m, self._sum(m, step, marks[2].begins), marks[3])
        m.d.comb += self.idle.eq(self.ready & ~Cat(later.last for later in marks[1:]).any())
        return m

    def _read(self, m: Module, mark: data.View, step: data.View) -> tuple[Signal, Signal]:
        """Go through the steps of an opcode, then through its selections.

        Results: the last step is at hand, a step is at hand.
        """
        steps, opcode = self._walk.steps, self.instr[:_OPCODE]
        place, valid, read, visiting = Signal(range(len(steps))), Signal(), Signal(), Signal()
        row = Signal(self._walk.layout)
        table = [Const(self._walk.bits(one), len(row.as_value())) for one in steps]
        keys = self._selections(m, mark, read, visiting)
        m.d.comb += row.as_value().eq(select(table, place))
        m.d.sync += step.eq(row)
        with m.FSM():
            with m.State("Clear"), m.If(keys.cleared if keys else 1):
                m.next = "Ready"
            with m.State("Ready"):
                m.d.comb += self.ready.eq(1)
                with m.Switch(opcode):
                    for number, first in self._walk.starts.items():
                        with m.Case(number):
                            m.d.sync += place.eq(first)
                with m.If(self.start):
                    m.next = "Walk"
            with m.State("Walk"):
                m.d.sync += [place.eq(place + 1), valid.eq(1)]
                with m.If(row.final):
                    m.next = "Last step"
            with m.State("Last step"):
                m.d.comb += read.eq(1)
                m.d.sync += valid.eq(0)
                m.next = "Ready"
                if keys:
                    with m.If(opcode.matches(*_SELECTING)):
                        m.next = "Selections"
                    with m.Else():
                        m.d.comb += self.last.eq(1)
                else:
                    m.d.comb += self.last.eq(1)
            if keys:
                with m.State("Selections"):
                    m.d.comb += [visiting.eq(1), self.last.eq(keys.last)]
                    with m.If(keys.last):
                        m.next = "Ready"
        return read, valid

    def _selections(
        self, m: Module, mark: data.View, read: Signal, visiting: Signal
    ) -> RecordedKeys | None:
        """The memory of recorded selections, if there can be any."""
        if not self._cfg.blocks.attention:
            return None
        m.submodules.keys = keys = RecordedKeys(self._cfg)
        m.d.comb += [
            keys.instr.eq(self.instr),
            keys.read.eq(read),
            keys.visiting.eq(visiting),
            mark.selection.eq(visiting & keys.wrong),
        ]
        return keys

    def _sum(self, m: Module, step: data.View, begins: Value) -> Signal:
        """The sum of products, three cycles after its last step. ``begins``: with the second."""
        a, b = Signal(signed(A_BITS)), Signal(signed(B_BITS))
        product, total = Signal(signed(A_BITS + B_BITS)), Signal(signed(SUM_BITS))
        begin, late = Signal.like(step.begin), Signal.like(step.begin)
        first, second = (
            select([Value.cast(factor_value(self.instr, one)) for one in sources], index)
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
        number, broken = Signal(RULE_BITS, init=1), Signal()
        # a sum is legal if it is negative, or the other way round
        m.d.comb += broken.eq(mark.ends & mark.counts & (total[-1] == mark.least))
        m.d.sync += [
            self.illegal.valid.eq(broken | mark.encoding | mark.groups | mark.selection),
            self.illegal.engine.eq(mark.engine),
            self.illegal.index.eq(self.index),
            self.illegal.rule.eq(Mux(mark.groups, GROUPS, SELECTION)),
        ]
        with m.If(broken):
            m.d.sync += self.illegal.rule.eq(number)
        with m.If(mark.encoding):
            m.d.sync += self.illegal.rule.eq(ENCODING)
        with m.If(mark.ends):
            m.d.sync += number.eq(number + 1)
        with m.If(mark.last):
            m.d.sync += [number.eq(1), self.index.eq(self.index + 1)]
        with m.If(self.clear):
            m.d.sync += self.index.eq(0)


def _engine(instr: Value) -> Value:
    """The number of the engine that runs an instruction."""
    opcode = instr[:_OPCODE]
    engines = {fmt.opcode: fmt.engine for fmt in isa.FORMATS.values() if fmt.engine is not None}
    return Cat(
        Cat(opcode == one for one, engine in engines.items() if engine >> bit & 1).any()
        for bit in range(UNIT_BITS)
    )
