"""The activation scratchpad: banks of int16 words, GEMM first."""

from __future__ import annotations

from itertools import accumulate

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from transept.golden.config import Config
from transept.rtl.interfaces import act_read, act_word, act_write
from transept.rtl.memory.arbiter import PortArbiter
from transept.rtl.memory.bank import Bank, Span, any_of, read_word

__all__ = ["ActivationScratchpad"]

_SIDE_READERS = ("softmax_read", "vector_read", "store_read")
_WRITERS = ("gemm_write", "softmax_write", "vector_write", "load_write")


class ActivationScratchpad(wiring.Component):
    """``cfg.act_words`` words of ``tile`` int16, contiguous over ``cfg.memories.act_banks``.

    Each cycle makes the read of GEMM that was accepted in the cycle before, and accepts its next
    one, one other read if that lies in another bank than the one that is made, and one write.
    Softmax, vector unit and store share the other read in turn, and the write, which GEMM's
    epilogue takes first (it needs at most one cycle in ``tile / epilogue_lanes``); whose turn it is
    was decided a cycle before. Read data comes ACT_READ_LATENCY cycles after acceptance, for GEMM
    ACT_GEMM_READ_LATENCY; writes accepted more than ACT_WRITE_LATENCY cycles before a read is made
    are seen.

    Members
    -------
    gemm_read : In(act_read), always ready
    softmax_read, vector_read, store_read : In(act_read)
    gemm_write : In(act_write), always ready
    softmax_write, vector_write, load_write : In(act_write)
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        readers = {name: In(act_read(cfg)) for name in ("gemm_read", *_SIDE_READERS)}
        writers = {name: In(act_write(cfg)) for name in _WRITERS}
        super().__init__(readers | writers)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.side_reads = reads = PortArbiter(act_read(cfg), len(_SIDE_READERS), ahead=True)
        m.submodules.writes = writes = PortArbiter(
            act_write(cfg), len(_WRITERS), urgent=True, ahead=True
        )
        for names, arbiter in ((_SIDE_READERS, reads), (_WRITERS, writes)):
            for number, name in enumerate(names):
                connect(m, flipped(getattr(self, name)), arbiter.clients[number])
        m.d.comb += writes.port.ready.eq(1)
        banks = self._banks(m, writes.port)
        gemm, holding = self._gemm_read(m, banks)
        self._read_paths(m, gemm, holding, reads.port, banks)
        m.d.comb += reads.held.eq(
            Cat(_conflict(getattr(self, name).addr, holding, banks) for name in _SIDE_READERS)
        )
        return m

    def _banks(self, m: Module, write: wiring.PureInterface) -> list[Bank]:
        """The banks; what is written passes a register, for it comes late in the cycle."""
        sizes = self._cfg.memories.act_banks
        en, addr = Signal(), Signal.like(write.addr)
        word = Signal(act_word(self._cfg), reset_less=True)
        m.d.sync += [en.eq(write.en), addr.eq(write.addr), word.eq(write.data)]
        banks = []
        for first, words in zip(accumulate(sizes, initial=0), sizes, strict=False):
            bank = Bank(act_word(self._cfg), Span(first, words), addr_bits=len(write.addr))
            m.submodules[f"bank{len(banks)}"] = bank
            m.d.comb += [
                bank.write_en.eq(en & bank.span.holds(addr)),
                bank.write_addr.eq(addr),
                bank.write_data.eq(word),
            ]
            banks.append(bank)
        return banks

    def _gemm_read(self, m: Module, banks: list[Bank]) -> tuple[wiring.PureInterface, Signal]:
        """The read of GEMM as it is made, and which bank it takes: registers."""
        asked, made = self.gemm_read, act_read(self._cfg).create(path=("gemm",))
        holding = Signal(len(banks))
        m.d.comb += [asked.ready.eq(made.ready), asked.data.eq(made.data)]
        m.d.sync += [
            made.en.eq(asked.en),
            made.addr.eq(asked.addr),
            holding.eq(Cat(asked.en & bank.span.holds(asked.addr) for bank in banks)),
        ]
        return made, holding

    def _read_paths(
        self,
        m: Module,
        gemm: wiring.PureInterface,
        holding: Signal,
        side: wiring.PureInterface,
        banks: list[Bank],
    ) -> None:
        """Each bank reads for GEMM if it takes it, else for the other reader."""
        for bank, held in zip(banks, holding, strict=True):
            m.d.comb += [
                bank.read_en.eq(held | (side.en & bank.span.holds(side.addr))),
                bank.read_addr.eq(Mux(held, gemm.addr, side.addr)),
            ]
        m.d.comb += [gemm.ready.eq(1), side.ready.eq(1)]
        for port in (gemm, side):
            read_word(m, port, act_word(self._cfg), banks)


def _conflict(addr: Value, holding: Signal, banks: list[Bank]) -> Value:
    """Whether GEMM takes the bank of an address, found beside the choice among the readers."""
    return any_of([held & bank.span.holds(addr) for bank, held in zip(banks, holding, strict=True)])
