"""The activation scratchpad: banks of int16 words, GEMM first."""

from __future__ import annotations

from itertools import accumulate

from amaranth.hdl import Module, Mux
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
    ACT_READ_LATENCY cycles after acceptance and is the word as of the cycle of acceptance.

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
        m.submodules.writes = writes = PortArbiter(act_write(cfg), len(_WRITERS), urgent=True)
        for names, arbiter in ((_SIDE_READERS, reads), (_WRITERS, writes)):
            for number, name in enumerate(names):
                connect(m, flipped(getattr(self, name)), arbiter.clients[number])
        m.d.comb += writes.port.ready.eq(1)
        self._read_paths(m, reads.port, self._banks(m, writes.port))
        return m

    def _banks(self, m: Module, write: wiring.PureInterface) -> list[Bank]:
        sizes = self._cfg.memories.act_banks
        banks = []
        for first, words in zip(accumulate(sizes, initial=0), sizes, strict=False):
            bank = Bank(act_word(self._cfg), Span(first, words), addr_bits=len(write.addr))
            m.submodules[f"bank{len(banks)}"] = bank
            m.d.comb += [
                bank.write_en.eq(write.en & bank.span.holds(write.addr)),
                bank.write_addr.eq(write.addr),
                bank.write_data.eq(write.data),
            ]
            banks.append(bank)
        return banks

    def _read_paths(self, m: Module, side: wiring.PureInterface, banks: list[Bank]) -> None:
        """Each bank reads for GEMM if it asks, else for the other reader."""
        gemm, conflicts = self.gemm_read, []
        for bank in banks:
            gemm_asks = gemm.en & bank.span.holds(gemm.addr)
            side_asks = side.en & bank.span.holds(side.addr)
            conflicts.append(gemm_asks & side_asks)
            m.d.comb += [
                bank.read_en.eq(gemm_asks | side_asks),
                bank.read_addr.eq(Mux(gemm_asks, gemm.addr, side.addr)),
            ]
        m.d.comb += [gemm.ready.eq(1), side.ready.eq(~any_of(conflicts))]
        for port in (gemm, side):
            read_word(m, port, act_word(self._cfg), banks)
