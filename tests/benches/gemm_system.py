"""The GEMM engine on plain memories, open to a host."""

from __future__ import annotations

from amaranth import Module, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden.config import ROWSTAT_BITS, Config
from transept.rtl.arith.pipeline import delay
from transept.rtl.gemm.engine import GemmEngine
from transept.rtl.interfaces import ACT_GEMM_READ_LATENCY, STAT_READ_LATENCY, engine_members

__all__ = ["GemmSystem"]

OPEN = ("selection", "table", "clipped", "array_active")


class GemmSystem(wiring.Component):
    """The engine with ACT, STAT and rowstat. The host reads any word in the same cycle, and writes;
    it refuses what the stationary scratchpad may: parameters if weights are packed, else tiles.

    Members
    -------
    those of ``engine_members``, selection, table, clipped, array_active : of the engine
    host : In({addr, refuse, act_in, act_write, act_out, and the same for stat and rowstat})
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._engine = GemmEngine(cfg)
        self._memories = {
            "act": (16 * cfg.tile, cfg.act_words),
            "stat": (8 * cfg.tile, cfg.memories.stat_words),
            "rowstat": (ROWSTAT_BITS, cfg.memories.rowstat_entries),
        }
        host = {"addr": Out(16), "refuse": Out(1)}
        for name, (bits, _) in self._memories.items():
            host |= {f"{name}_in": Out(bits), f"{name}_write": Out(1), f"{name}_out": In(bits)}
        members = self._engine.signature.members
        super().__init__(
            {name: members[name] for name in (*engine_members(), *OPEN)}
            | {"host": In(wiring.Signature(host))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = self._engine
        packed, taken = self._cfg.blocks.packed, ~self.host.refuse
        ready = {"act": 1, "stat": 1 if packed else taken}
        for name in ("instr", "selection", "table"):
            connect(m, flipped(getattr(self, name)), getattr(engine, name))
        connect(m, engine.clipped, flipped(self.clipped))
        if self._cfg.observes:
            written, seen = engine.stat_write, engine.observe
            m.d.comb += [
                seen.valid.eq(written.en & written.observe),
                seen.payload.summary.eq(written.summary),
                seen.payload.first.eq(written.first),
                seen.payload.word.eq(written.data),
            ]
        for name in ("retire", "busy", "stall", "array_active"):
            m.d.comb += getattr(self, name).eq(getattr(engine, name))
        for name, (bits, depth) in self._memories.items():
            m.submodules[name] = ram = memory.Memory(shape=bits, depth=depth, init=[])
            put, get = ram.write_port(), ram.read_port()
            poke, peek = ram.write_port(), ram.read_port(domain="comb")
            write, read = getattr(engine, f"{name}_write"), getattr(engine, f"{name}_read")
            m.d.comb += [
                put.en.eq(write.en),
                put.addr.eq(write.addr),
                put.data.eq(write.data),
                write.ready.eq(1),
                get.en.eq(read.en & ready.get(name, 1)),
                get.addr.eq(read.addr),
                poke.en.eq(getattr(self.host, f"{name}_write")),
                poke.addr.eq(self.host.addr),
                poke.data.eq(getattr(self.host, f"{name}_in")),
                peek.addr.eq(self.host.addr),
                getattr(self.host, f"{name}_out").eq(peek.data),
            ]
            if name == "rowstat":
                other, port = ram.read_port(), engine.epilogue_rowstat_read
                m.d.comb += [
                    read.data.eq(get.data),
                    other.en.eq(port.en),
                    other.addr.eq(port.addr),
                    port.data.eq(other.data),
                ]
            else:
                m.d.comb += read.ready.eq(ready[name])
                late = ACT_GEMM_READ_LATENCY if name == "act" else STAT_READ_LATENCY
                m.d.comb += Value.cast(read.data).eq(delay(m, get.data, late - 1))
            if name == "stat":
                other, port = ram.read_port(), engine.param_read
                m.d.comb += [
                    port.ready.eq(taken if packed else 1),
                    other.en.eq(port.en & port.ready),
                    other.addr.eq(port.addr),
                    Value.cast(port.data).eq(delay(m, other.data, late - 1)),
                ]
        return m
