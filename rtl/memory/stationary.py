"""The stationary scratchpad: int8 words for the array's weights, K, V and channel parameters."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden.config import Config
from transept.rtl.interfaces import (
    observation_layout,
    stat_beside,
    stat_read,
    stat_word,
    stat_write,
)
from transept.rtl.memory.arbiter import PortArbiter
from transept.rtl.memory.bank import Bank, Span, read_word
from transept.rtl.memory.blocks import beside_distance

__all__ = ["StationaryScratchpad"]


class StationaryScratchpad(wiring.Component):
    """``cfg.memories.stat_words`` words of ``tile`` int8; one read and one write a cycle.

    With packed weights they lie in two halves, by the address bit that ``beside_distance`` changes:
    two words that are so far apart are written together, and parameters are read in the half that
    tiles leave free. Else GEMM's tiles wait for its parameters, which are few.

    Read data comes STAT_READ_LATENCY cycles after the request is accepted. The store engine waits
    for what GEMM reads, the load engine for the epilogue's writes.

    Members
    -------
    gemm_read, param_read, store_read : In(stat_read)
    gemm_write : In(stat_write), always ready; load_write : In(stat_write)
    load_beside : In(stat_beside), written when ``load_write`` is, if there are packed weights
    observed : Out(always-ready stream of observation_layout), words written with ``observe``
    """

    gemm_read: wiring.PureInterface
    param_read: wiring.PureInterface
    store_read: wiring.PureInterface
    observed: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        beside = {"load_beside": In(stat_beside(cfg))} if cfg.blocks.packed else {}
        super().__init__(
            beside
            | {
                "gemm_read": In(stat_read(cfg)),
                "param_read": In(stat_read(cfg)),
                "store_read": In(stat_read(cfg)),
                "gemm_write": In(stat_write(cfg)),
                "load_write": In(stat_write(cfg)),
                "observed": Out(stream.Signature(observation_layout(cfg), always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.writes = writes = PortArbiter(stat_write(self._cfg), 2, urgent=True)
        for number, name in enumerate(("gemm", "load")):
            connect(m, flipped(getattr(self, f"{name}_write")), writes.clients[number])
        m.d.comb += writes.port.ready.eq(1)
        if self._cfg.blocks.packed:
            self._halves(m, writes.port)
        else:
            self._whole(m, writes.port)
        seen, write = self.observed.payload, writes.port
        m.d.comb += [
            self.observed.valid.eq(write.en & write.observe),
            seen.summary.eq(write.summary),
            seen.first.eq(write.first),
            seen.word.eq(write.data),
        ]
        return m

    def _first(self, m: Module, name: str, *clients: wiring.PureInterface) -> wiring.PureInterface:
        """One read port for two clients, the first of which goes first."""
        arbiter = PortArbiter(stat_read(self._cfg), 2, urgent=True)
        m.submodules[name] = arbiter
        for number, client in enumerate(clients):
            connect(m, client, arbiter.clients[number])
        return arbiter.port

    def _whole(self, m: Module, write: wiring.PureInterface) -> None:
        """One bank."""
        words, shape = self._cfg.memories.stat_words, stat_word(self._cfg)
        gemm, param = flipped(self.gemm_read), flipped(self.param_read)
        products = self._first(m, "products", param, gemm)
        read = self._first(m, "reads", products, flipped(self.store_read))
        m.submodules.bank = bank = Bank(shape, Span(0, words), addr_bits=len(read.addr))
        m.d.comb += [
            read.ready.eq(1),
            bank.read_en.eq(read.en),
            bank.read_addr.eq(read.addr),
            bank.write_en.eq(write.en),
            bank.write_addr.eq(write.addr),
            bank.write_data.eq(write.data),
        ]
        read_word(m, read, shape, [bank])

    def _halves(self, m: Module, write: wiring.PureInterface) -> None:
        """Two banks, each with its reader and its writer."""
        words, shape = self._cfg.memories.stat_words // 2, stat_word(self._cfg)
        bit, beside = beside_distance(self._cfg).bit_length() - 1, self.load_beside
        read = self._first(m, "reads", flipped(self.gemm_read), flipped(self.store_read))
        param, pair = self.param_read, Signal()  # the load engine never gets its way beside GEMM
        m.d.comb += [
            pair.eq(beside.en & self.load_write.en & self.load_write.ready),
            read.ready.eq(1),
            param.ready.eq(~(read.en & (read.addr[bit] == param.addr[bit]))),
        ]

        def within(addr: Value) -> Value:
            return Cat(addr[:bit], addr[bit + 1 :])

        banks = []
        for half in range(2):
            bank = Bank(shape, Span(0, words), addr_bits=len(read.addr) - 1)
            m.submodules[f"half_{half}"] = bank
            mine, writes = read.en & (read.addr[bit] == half), write.addr[bit] == half
            m.d.comb += [
                bank.read_en.eq(mine | (param.en & (param.addr[bit] == half))),
                bank.read_addr.eq(Mux(mine, within(read.addr), within(param.addr))),
                bank.write_en.eq(write.en & (writes | pair)),
                bank.write_addr.eq(Mux(writes, within(write.addr), within(beside.addr))),
                bank.write_data.eq(Mux(writes, write.data.as_value(), beside.data.as_value())),
            ]
            banks.append(bank)
        for client in (read, param):
            asked = [(client.addr[bit] == half, within(client.addr)) for half in range(2)]
            read_word(m, client, shape, banks, asked)
