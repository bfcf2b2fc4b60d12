"""Dispatch: instructions in program order to engines that run concurrently."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.isa import Engine, Opcode
from transept.rtl.arith.fixed import tree_sum
from transept.rtl.control.legality import LegalityChecker, illegal_layout
from transept.rtl.control.tokens import TokenCounters
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.skid import Slot

__all__ = ["Dispatch"]

_BITS = 8 * isa.INSTRUCTION_BYTES


def _used_bits(engine: Engine) -> int:
    """Bits of the longest instruction of an engine; its queue keeps no more."""
    return max(fmt.used for fmt in isa.FORMATS.values() if fmt.engine is engine)


def _header(instr: Value) -> data.View:
    """The common first bits of an instruction."""
    layout = data.StructLayout({field.name: field.width for field in isa.HEADER})
    return data.View(layout, instr[: layout.size])


class Dispatch(wiring.Component):
    """Queues each instruction at its engine and hands it over when its tokens are there.

    An engine sees the head of its queue (``queue_depth`` instructions) once a token of every
    engine in ``wait`` is there; they are taken as it accepts. At its ``retire`` each engine in
    ``signal`` gets a token. Latency: four cycles from ``instr`` to an idle engine and three from
    ``retire`` to the instruction that waited for it; an engine gets one every other cycle.

    END leaves when every engine is idle, every queue empty and every verdict on legality given. An
    unknown opcode, or one whose engine is not built, stays at the head and stops what follows.

    Members
    -------
    instr : In(stream of 256 bits)
    engines : Out(stream of 256 bits) for each of ``isa.Engine``
    retire, busy : In(bit for each engine); an instruction retires after the cycle of its acceptance
    halt : In(1), hand over nothing more, from the next cycle on
    quiet : In(1), nothing moves outside the engines; END waits for it
    clear : In(1), a program starts: forget tokens left over
    waiting : Out(bit for each engine), the head of its queue waits for tokens
    retired : Out(number of instructions that retired two cycles ago, END included)
    done : Out(1), for one cycle, END has left
    illegal : Out(illegal_layout), valid for one cycle
    overflow : Out(bit for each engine), it gave a token too many
    """

    instr: stream.Interface
    illegal: data.View

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        count = len(Engine)
        super().__init__(
            {
                "instr": In(stream.Signature(_BITS)),
                "engines": Out(stream.Signature(_BITS)).array(count),
                "retire": In(count),
                "busy": In(count),
                "halt": In(1),
                "quiet": In(1),
                "clear": In(1),
                "waiting": Out(count),
                "retired": Out(range(count + 2)),
                "done": Out(1),
                "illegal": Out(illegal_layout()),
                "overflow": Out(count),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        built = self._cfg.built_engines
        m.submodules.tokens = tokens = TokenCounters(built)
        queues, empty = {}, []
        for engine in built:
            queue = queues[engine] = Queue(_used_bits(engine), self._cfg.engines.queue_depth)
            m.submodules[f"{engine.name.lower()}_queue"] = queue
            m.submodules[f"{engine.name.lower()}_head"] = head = Slot(queue.o.payload.shape())
            connect(m, queue.o, head.i)
            in_flight = self._hand_over(m, engine, head.o, tokens)
            empty.append(~queue.o.valid & ~head.o.valid & ~in_flight & ~self.busy[engine])
        m.submodules.checker = checker = LegalityChecker(self._cfg)
        self._distribute(m, queues, checker, Cat(empty).all())
        m.d.comb += [tokens.clear.eq(self.clear), self.overflow.eq(tokens.overflow)]
        retired = Signal(len(built) + 1)
        m.d.sync += [
            retired.eq(Cat(*(self.retire[engine] for engine in built), self.done)),
            self.retired.eq(tree_sum(retired)),
        ]
        return m

    def _distribute(
        self, m: Module, queues: dict[Engine, Queue], checker: LegalityChecker, idle: Value
    ) -> None:
        """The next instruction to the queue of its engine, and to the checker."""
        instr, opcode = self.instr, _header(self.instr.payload).opcode
        offered, room, told = Signal(), Signal(), Signal()
        m.d.comb += [
            offered.eq(instr.valid & ~self.halt),
            checker.i.payload.eq(instr.payload),
            checker.i.valid.eq(offered & room),
            checker.clear.eq(self.clear),
            self.illegal.eq(checker.illegal),
            instr.ready.eq(checker.i.valid & checker.i.ready),
        ]
        for queue in queues.values():
            m.d.comb += queue.i.payload.eq(instr.payload)
        with m.Switch(opcode):
            for fmt in isa.FORMATS.values():
                if fmt.engine is not None and self._cfg.has(fmt.opcode):
                    queue = queues[fmt.engine]
                    with m.Case(fmt.opcode):
                        m.d.comb += [
                            queue.i.valid.eq(offered & checker.i.ready),
                            room.eq(queue.i.ready),
                        ]
            with m.Default():  # END, or nothing that an engine runs: it stays
                m.d.comb += [room.eq(~told), instr.ready.eq(self.done)]
                m.d.sync += told.eq((told | (checker.i.valid & checker.i.ready)) & ~self.done)
                quiet = idle & self.quiet & checker.idle
                m.d.comb += self.done.eq(offered & told & quiet & (opcode == Opcode.END))

    def _hand_over(
        self, m: Module, engine: Engine, head: stream.Interface, tokens: TokenCounters
    ) -> Value:
        """Join queue, tokens and engine; whether an instruction is in flight."""
        port = self.engines[engine]
        m.submodules[f"{engine.name.lower()}_signals"] = signals = Queue(
            len(Engine), self._cfg.engines.queue_depth
        )
        header = _header(head.payload)
        wait = header.wait[: len(Engine)]
        there, ready, accepted = Signal(), Signal(), Signal()
        given, taken = Signal(len(Engine)), Signal(len(Engine))
        m.d.comb += [
            there.eq((wait & ~tokens.there[engine]) == 0),
            self.waiting[engine].eq(head.valid & ~there),
            port.payload.eq(head.payload),
            port.valid.eq(ready),
            accepted.eq(port.valid & port.ready),
            head.ready.eq(accepted),
            tokens.take[engine].eq(taken),
            signals.i.payload.eq(header.signal),
            signals.i.valid.eq(accepted),
            signals.o.ready.eq(self.retire[engine]),
            tokens.give[engine].eq(given),
        ]
        m.d.sync += [
            # tokens that are there and room for signals stay until this instruction takes them
            ready.eq(head.valid & there & signals.i.ready & ~accepted & ~self.halt),
            given.eq(Mux(self.retire[engine], signals.o.payload, 0)),
            # gone before the next instruction looks, for a slot is empty for a cycle
            taken.eq(Mux(accepted, wait, 0)),
        ]
        return signals.o.valid
