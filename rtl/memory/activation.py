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

    Each cycle accepts the read of GEMM, one other read if it lies in another bank, and one write.
    Softmax, vector unit and store share the other read in turn, and the write, which GEMM's
    epilogue takes first (it needs at most one cycle in ``tile / epilogue_lanes``). Read data comes
    ACT_READ_LATENCY cycles after acceptance; writes accepted more than ACT_WRITE_LATENCY cycles
    before it are seen.

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
        m.submodules.side_reads = reads = PortArbiter(act_read(cfg), len(_SIDE_READERS))
        m.submodules.writes = writes = PortArbiter(
            act_write(cfg), len(_WRITERS), urgent=True, ahead=True
        )
        for names, arbiter in ((_SIDE_READERS, reads), (_WRITERS, writes)):
            for number, name in enumerate(names):
                connect(m, flipped(getattr(self, name)), arbiter.clients[number])
        m.d.comb += writes.port.ready.eq(1)
        banks = self._banks(m, writes.port)
        self._read_paths(m, reads.port, banks)
        m.d.comb += reads.held.eq(
            Cat(self._conflict(getattr(self, name).addr, banks) for name in _SIDE_READERS)
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

    def _read_paths(self, m: Module, side: wiring.PureInterface, banks: list[Bank]) -> None:
        """Each bank reads for GEMM if it asks, else for the other reader."""
        gemm = self.gemm_read
        for bank in banks:
            gemm_asks = gemm.en & bank.span.holds(gemm.addr)
            side_asks = side.en & bank.span.holds(side.addr)
            m.d.comb += [
                bank.read_en.eq(gemm_asks | side_asks),
                bank.read_addr.eq(Mux(gemm_asks, gemm.addr, side.addr)),
            ]
        m.d.comb += [gemm.ready.eq(1), side.ready.eq(1)]
        for port in (gemm, side):
            read_word(m, port, act_word(self._cfg), banks)

    def _conflict(self, addr: Value, banks: list[Bank]) -> Value:
        """Whether GEMM reads the bank of an address, found beside the choice among the readers."""
        gemm = self.gemm_read
        both = [bank.span.holds(gemm.addr) & bank.span.holds(addr) for bank in banks]
        return gemm.en & any_of(both)
