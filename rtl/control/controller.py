"""The controller: registers, program flow, counters, watchdog, errors and reset."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden import isa, registers
from transept.golden.config import Config
from transept.golden.isa import Engine, Window
from transept.golden.registers import ErrorCode, Stall
from transept.rtl.control.counters import Counters, engine_states
from transept.rtl.control.dispatch import Dispatch
from transept.rtl.control.errors import ErrorLatch
from transept.rtl.control.fetch import Fetch
from transept.rtl.control.registers import RegisterFile
from transept.rtl.control.reset import SoftReset
from transept.rtl.control.tallies import Tallies
from transept.rtl.control.watchdog import Watchdog
from transept.rtl.interfaces import axi_lite, clipped_layout
from transept.rtl.memory.reader import beat_layout
from transept.rtl.memory.windows import request_layout, violation_layout, windows_layout

__all__ = ["COUNTING", "Controller", "faults_layout"]

#: The engines that count what they clip.
COUNTING = (Engine.GEMM, Engine.VECTOR)


def faults_layout() -> data.StructLayout:
    """What the data path reports; all but ``operand`` are sticky until reset or ``clear``."""
    return data.StructLayout(
        {
            "load_window": violation_layout(),
            "store_window": violation_layout(),
            "operand": 1,
            "read_response": 1,
            "write_response": 1,
        }
    )


class Controller(wiring.Component):
    """Runs programs on five engines and tells the host about it.

    A run starts when the host writes CONTROL.start while STATUS.idle; it ends with END (done) or
    with the first error or the watchdog (error), after which nothing more is handed to engines and
    only a soft reset makes the machine idle again. Both ends set IRQ.

    Members
    -------
    bus : In(axi_lite); irq : Out(1)
    windows : Out(windows_layout)
    request : Out(stream of request_layout), beats : In(stream of beat_layout), for fetch
    engines : Out(stream of 256 bits) for each of ``isa.Engine``
    retire : In(bit for each engine)
    states : In(engine_states), of the engines
    activity : Out(engine_states), with waiting for tokens
    array_active : In(1), a row enters the array; moving : In(1), a beat moves on the AXI4 bus
    clipped : In(always-ready stream of clipped_layout) for each of COUNTING
    faults : In(faults_layout)
    bytes_read, bytes_written : In(64)
    bus_idle : In(1); abort, clear, reset : Out(1), see the bus masters and ``SoftReset``
    """

    bus: wiring.PureInterface
    request: stream.Interface
    beats: stream.Interface
    states: Any
    activity: Any
    faults: Any

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        count = len(Engine)
        clipped = stream.Signature(clipped_layout(cfg), always_ready=True)
        super().__init__(
            {
                "bus": In(axi_lite(registers.ADDRESS_BITS)),
                "irq": Out(1),
                "windows": Out(windows_layout()),
                "request": Out(stream.Signature(request_layout())),
                "beats": In(stream.Signature(beat_layout(cfg))),
                "engines": Out(stream.Signature(8 * isa.INSTRUCTION_BYTES)).array(count),
                "retire": In(count),
                "states": In(engine_states()),
                "activity": Out(engine_states()),
                "array_active": In(1),
                "moving": In(1),
                "clipped": In(clipped).array(len(COUNTING)),
                "faults": In(faults_layout()),
                "bytes_read": In(64),
                "bytes_written": In(64),
                "bus_idle": In(1),
                "abort": Out(1),
                "clear": Out(1),
                "reset": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.registers = regs = RegisterFile(self._cfg)
        m.submodules.soft_reset = soft_reset = SoftReset()
        fetch, dispatch = Fetch(self._cfg), Dispatch(self._cfg)
        m.submodules.fetch = ResetInserter(self.reset)(fetch)
        m.submodules.dispatch = ResetInserter(self.reset)(dispatch)
        m.submodules.errors = errors = ErrorLatch()
        m.submodules.watchdog = watchdog = Watchdog()
        m.submodules.counters = counters = Counters()
        m.submodules.tallies = tallies = Tallies(self._cfg, clients=len(COUNTING))
        connect(m, flipped(self.bus), regs.bus)
        m.d.comb += [
            soft_reset.request.eq(regs.control.soft_reset),
            soft_reset.idle.eq(self.bus_idle),
            self.abort.eq(soft_reset.abort),
            self.reset.eq(soft_reset.reset),
        ]
        self._windows(m, regs)
        failed = (errors.code != ErrorCode.NONE) | watchdog.report.fired
        running, start = self._run(
            m, regs, dispatch.done, failed, soft_reset.resetting, tallies.clearing
        )
        m.d.comb += [self.clear.eq(start | self.reset), dispatch.halt.eq(failed)]
        self._program(m, regs, fetch, dispatch, start)
        m.d.comb += dispatch.quiet.eq(~fetch.busy & self.bus_idle & ~tallies.clearing)
        self._errors(m, regs, fetch, dispatch, errors)
        states = self._show(m, dispatch)
        self._watch(m, regs, watchdog, states, running)
        self._count(m, regs, counters, dispatch, states, running)
        self._tally(m, regs, tallies, start)
        return m

    def _windows(self, m: Module, regs: RegisterFile) -> None:
        for window in Window:
            name = window.name.lower()
            m.d.comb += [
                self.windows[window].base.eq(getattr(regs, f"window_base_{name}")),
                self.windows[window].limit.eq(getattr(regs, f"window_limit_{name}")),
            ]

    def _run(
        self,
        m: Module,
        regs: RegisterFile,
        ended: Value,
        failed: Value,
        resetting: Value,
        clearing: Value,
    ) -> tuple[Signal, Signal]:
        """State of the machine; (a program runs, it starts in this cycle).

        A start waits until the counters are cleared.
        """
        running, done, start, idle = Signal(), Signal(), Signal(), Signal()
        failed_before, asked, begin = Signal(), Signal(), Signal()
        m.d.comb += [
            idle.eq(~running & ~start & ~failed & ~resetting),
            begin.eq((regs.control.start | asked) & idle & ~clearing),
            regs.status.idle.eq(idle & ~asked),
            regs.status.busy.eq(running | start | asked),
            regs.status.done.eq(done),
            regs.status.error.eq(failed),
            regs.status.resetting.eq(resetting),
            regs.lock.eq(~idle | asked),
            regs.irq.done.eq(ended),
            regs.irq.error.eq(failed & ~failed_before),
        ]
        m.d.sync += [
            failed_before.eq(failed),
            asked.eq((asked | regs.control.start) & idle & ~begin),
            start.eq(begin),
            self.irq.eq(regs.irq_pending & regs.control.irq_enable),
        ]
        with m.If(begin):
            m.d.sync += done.eq(0)
        with m.If(start):
            m.d.sync += running.eq(1)
        with m.Elif(resetting):
            m.d.sync += [running.eq(0), done.eq(0)]
        with m.Elif(ended):
            m.d.sync += [running.eq(0), done.eq(1)]
        with m.Elif(failed):
            m.d.sync += running.eq(0)
        return running, start

    def _program(
        self, m: Module, regs: RegisterFile, fetch: Fetch, dispatch: Dispatch, start: Value
    ) -> None:
        connect(m, fetch.request, flipped(self.request))
        connect(m, flipped(self.beats), fetch.beats)
        connect(m, fetch.instr, dispatch.instr)
        for engine in Engine:
            connect(m, dispatch.engines[engine], flipped(self.engines[engine]))
        m.d.comb += [
            fetch.start.eq(start),
            fetch.offset.eq(regs.program_offset),
            fetch.windows.eq(self.windows),
            dispatch.retire.eq(self.retire),
            dispatch.busy.eq(Cat(self.states[engine].busy for engine in Engine)),
            dispatch.clear.eq(start),
        ]

    def _errors(
        self,
        m: Module,
        regs: RegisterFile,
        fetch: Fetch,
        dispatch: Dispatch,
        errors: ErrorLatch,
    ) -> None:
        for name in ("load_window", "store_window"):
            m.d.comb += getattr(errors, name).eq(self.faults[name])
        for name in ("operand", "read_response", "write_response"):
            m.d.comb += getattr(errors, name).valid.eq(self.faults[name])
        for engine in Engine:
            tokens = getattr(errors, f"{engine.name}_tokens".lower())
            m.d.comb += tokens.valid.eq(dispatch.overflow[engine])
        m.d.comb += [
            errors.fetch_window.eq(fetch.violation),
            errors.instruction.eq(dispatch.illegal),
            errors.clear.eq(self.reset),
            regs.error.code.eq(errors.code),
            regs.error.engine.eq(errors.engine),
            regs.error.window.eq(errors.window),
            regs.error.rule.eq(errors.rule),
            regs.error_offset.eq(errors.offset),
        ]

    def _show(self, m: Module, dispatch: Dispatch) -> data.View:
        """What every engine does; the result is a register, for who stalls is known late."""
        for engine in Engine:
            state, shown = self.states[engine], self.activity[engine]
            idle = Mux(dispatch.waiting[engine], Stall.TOKEN, Stall.NONE)
            m.d.comb += [
                shown.busy.eq(state.busy),
                shown.stall.eq(Mux(state.busy, state.stall, idle)),
            ]
        states = Signal(engine_states())
        m.d.sync += states.eq(self.activity)
        return states

    def _watch(
        self, m: Module, regs: RegisterFile, watchdog: Watchdog, states: data.View, running: Value
    ) -> None:
        progress = Signal()
        m.d.sync += progress.eq(self.retire.any() | self.moving)
        m.d.comb += [
            watchdog.running.eq(running),
            watchdog.progress.eq(progress),
            watchdog.clear.eq(self.reset),
            watchdog.limit.eq(regs.watchdog_limit),
            watchdog.states.eq(states),
            Value.cast(regs.watchdog).eq(Value.cast(watchdog.report)),
        ]

    def _count(
        self,
        m: Module,
        regs: RegisterFile,
        counters: Counters,
        dispatch: Dispatch,
        states: data.View,
        running: Value,
    ) -> None:
        m.d.comb += [
            counters.running.eq(running),
            counters.clear.eq(dispatch.clear),
            counters.states.eq(states),
            counters.array_active.eq(self.array_active),
            counters.retired.eq(dispatch.retired),
            regs.bytes_read.eq(self.bytes_read),
            regs.bytes_written.eq(self.bytes_written),
        ]
        wide = ("cycles", "run_cycles", "array_cycles", "instructions")
        for name in (*wide, *counters.NAMES):
            m.d.comb += getattr(regs, name).eq(getattr(counters, name))

    def _tally(self, m: Module, regs: RegisterFile, tallies: Tallies, start: Value) -> None:
        for number in range(len(COUNTING)):
            connect(m, flipped(self.clipped[number]), tallies.clipped[number])
        m.d.comb += [
            tallies.clear.eq(start),
            tallies.index.eq(regs.clipped_index),
            regs.clipped.eq(tallies.count),
        ]
