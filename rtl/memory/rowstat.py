"""Row statistics: the maximum, magnitude or sum of every live row."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, connect, flipped

from transept.golden.config import ROWSTAT_BITS, Config
from transept.rtl.interfaces import rowstat_read, rowstat_write
from transept.rtl.memory.arbiter import PortArbiter

__all__ = ["RowStatistics"]

_READERS = ("gemm_read", "epilogue_read", "softmax_read")
_WRITERS = ("epilogue_write", "softmax_write", "vector_write", "load_write")


class RowStatistics(wiring.Component):
    """``rowstat_entries`` values of 24 bits; three reads (latency 1) and one write a cycle.

    The epilogue writes first, the others share what is left in turn. A read in the cycle of a write
    returns the old value.

    Members
    -------
    gemm_read, epilogue_read, softmax_read : In(rowstat_read)
    epilogue_write : In(rowstat_write), always ready
    softmax_write, vector_write, load_write : In(rowstat_write)
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        readers = {name: In(rowstat_read(cfg)) for name in _READERS}
        writers = {name: In(rowstat_write(cfg)) for name in _WRITERS}
        super().__init__(readers | writers)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = values = memory.Memory(
            shape=ROWSTAT_BITS, depth=self._cfg.memories.rowstat_entries, init=[]
        )
        for name in _READERS:
            read, port = values.read_port(), getattr(self, name)
            m.d.comb += [read.en.eq(port.en), read.addr.eq(port.addr), port.data.eq(read.data)]

        m.submodules.writes = writes = PortArbiter(
            rowstat_write(self._cfg), len(_WRITERS), urgent=True, ahead=True
        )
        for number, name in enumerate(_WRITERS):
            connect(m, flipped(getattr(self, name)), writes.clients[number])
        write, chosen = values.write_port(), writes.port
        m.d.comb += [
            chosen.ready.eq(1),
            write.en.eq(chosen.en),
            write.addr.eq(chosen.addr),
            write.data.eq(chosen.data),
        ]
        return m
