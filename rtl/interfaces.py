"""Signatures that join the blocks: instructions, memory ports, engine control, AXI buses.

Directions are those of the initiator (the client of a memory, the master of a bus).
"""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Shape, ShapeLike, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import isa
from transept.golden.config import ROWSTAT_BITS, Config
from transept.golden.layouts import RECORD_BYTES, RecordField
from transept.golden.registers import Stall

__all__ = [
    "ACT_GEMM_READ_LATENCY",
    "ACT_READ_LATENCY",
    "ACT_WRITE_LATENCY",
    "ROWSTAT_READ_LATENCY",
    "STAT_READ_LATENCY",
    "act_read",
    "act_write",
    "axi4",
    "axi4_port",
    "axi_lite",
    "clipped_layout",
    "engine_members",
    "instruction_layout",
    "observation_layout",
    "operand",
    "record_layout",
    "rowstat_read",
    "rowstat_write",
    "stat_beside",
    "stat_read",
    "stat_write",
]

#: Cycles from an accepted read request to its data (fixed, no back-pressure on data).
ACT_READ_LATENCY = 2
#: GEMM's reads of the same memory are made a cycle after they are accepted, so that whose bank they
#: take is known in time.
ACT_GEMM_READ_LATENCY = ACT_READ_LATENCY + 1
STAT_READ_LATENCY = 2
ROWSTAT_READ_LATENCY = 1
#: Cycles after that of an accepted write in which reads that are accepted still return the word
#: before. Tokens take longer to whoever waits for them.
ACT_WRITE_LATENCY = 1


def operand(opcode: isa.Opcode, name: str) -> Shape:
    """The shape of an operand (enumerations as plain integers)."""
    field = isa.operand(opcode, name)
    return signed(field.width) if field.signed else unsigned(field.width)


def instruction_layout(opcode: isa.Opcode) -> data.FlexibleLayout:
    """The 256 bits of one opcode as named fields (enumerations as plain integers)."""
    fields = {}
    low = 0
    for field in isa.HEADER:
        fields[field.name] = data.Field(unsigned(field.width), low)
        low += field.width
    for field, low in isa.FORMATS[opcode].offsets():
        fields[field.name] = data.Field(operand(opcode, field.name), low)
    return data.FlexibleLayout(8 * isa.INSTRUCTION_BYTES, fields)


def record_layout(record: Mapping[str, RecordField]) -> data.FlexibleLayout:
    """A record of ``golden.layouts``: the bits of each value that count."""
    return data.FlexibleLayout(
        8 * RECORD_BYTES,
        {
            name: data.Field(Shape(field.width, field.signed), field.low)
            for name, field in record.items()
        },
    )


def engine_members() -> dict[str, wiring.Member]:
    """Ports that every engine has.

    instr : In(stream of 256 bits); its tokens have been taken already
    retire : Out(1), high for one cycle for each instruction, in order, once its last write has
        been accepted by the memory (a read accepted after the next cycle sees it)
    busy : Out(1), from the acceptance of an instruction to its retirement
    stall : Out(golden.registers.Stall), meaningful while busy
    """
    return {
        "instr": In(stream.Signature(8 * isa.INSTRUCTION_BYTES)),
        "retire": Out(1),
        "busy": Out(1),
        "stall": Out(Stall),
    }


def _bits(depth: int) -> int:
    return max(1, (depth - 1).bit_length())


def act_word(cfg: Config) -> ShapeLike:
    """``tile`` int16 elements, element 0 lowest."""
    return data.ArrayLayout(signed(16), cfg.tile)


def stat_word(cfg: Config) -> ShapeLike:
    """``tile`` int8 elements, element 0 lowest."""
    return data.ArrayLayout(signed(8), cfg.tile)


def act_read(cfg: Config) -> wiring.Signature:
    """Read port of the activation scratchpad: a request is accepted when ``en & ready``, its data
    is there ACT_READ_LATENCY (for GEMM ACT_GEMM_READ_LATENCY) cycles later, for one cycle."""
    return wiring.Signature(
        {
            "en": Out(1),
            "addr": Out(_bits(cfg.act_words)),
            "ready": In(1),
            "data": In(act_word(cfg)),
        }
    )


def act_write(cfg: Config) -> wiring.Signature:
    """Write port of the activation scratchpad: a word is taken when ``en & ready``, and a read
    that is accepted more than ACT_WRITE_LATENCY cycles later returns it."""
    return wiring.Signature(
        {
            "en": Out(1),
            "addr": Out(_bits(cfg.act_words)),
            "data": Out(act_word(cfg)),
            "ready": In(1),
        }
    )


def stat_read(cfg: Config) -> wiring.Signature:
    """As ``act_read``, STAT_READ_LATENCY, words of ``tile`` int8."""
    return wiring.Signature(
        {
            "en": Out(1),
            "addr": Out(_bits(cfg.memories.stat_words)),
            "ready": In(1),
            "data": In(stat_word(cfg)),
        }
    )


def stat_write(cfg: Config) -> wiring.Signature:
    """As ``act_write``, words of ``tile`` int8; with ``observe`` the word is added to a key
    summary, or begins it if it is the ``first`` one of its key tile."""
    return wiring.Signature(
        {
            "en": Out(1),
            "addr": Out(_bits(cfg.memories.stat_words)),
            "data": Out(stat_word(cfg)),
            "observe": Out(1),
            "summary": Out(_bits(cfg.key_summaries)),
            "first": Out(1),
            "ready": In(1),
        }
    )


def stat_beside(cfg: Config) -> wiring.Signature:
    """A second word that is written together with one of ``stat_write``, ``beside_distance`` behind
    it."""
    write = stat_write(cfg).members
    return wiring.Signature({name: write[name] for name in ("en", "addr", "data")})


def observation_layout(cfg: Config) -> data.StructLayout:
    """One observed word as it is written to STAT, for the key filters."""
    return data.StructLayout(
        {"summary": _bits(cfg.key_summaries), "first": 1, "word": stat_word(cfg)}
    )


def clipped_layout(cfg: Config) -> data.StructLayout:
    """How many elements an instruction, or a part of it, has clipped, and who counts them."""
    longest = max(cfg.tile, cfg.geometry.max_hidden)
    return data.StructLayout(
        {
            "tally": range(isa.TALLIES),
            "count": range(cfg.geometry.max_rows * longest + 1),
        }
    )


def rowstat_read(cfg: Config) -> wiring.Signature:
    """Read port of the row statistics: always accepted, data ROWSTAT_READ_LATENCY cycle later."""
    return wiring.Signature(
        {
            "en": Out(1),
            "addr": Out(_bits(cfg.memories.rowstat_entries)),
            "data": In(ROWSTAT_BITS),
        }
    )


def rowstat_write(cfg: Config) -> wiring.Signature:
    """Write port of the row statistics: written when ``en & ready``."""
    return wiring.Signature(
        {
            "en": Out(1),
            "addr": Out(_bits(cfg.memories.rowstat_entries)),
            "data": Out(ROWSTAT_BITS),
            "ready": In(1),
        }
    )


def axi_lite(addr_bits: int) -> wiring.Signature:
    """AXI4-Lite, 32-bit data, as seen by the master; names are those of the standard."""
    return wiring.Signature(
        {
            "awaddr": Out(addr_bits),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(32),
            "wstrb": Out(4),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(addr_bits),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(32),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def axi4(cfg: Config) -> wiring.Signature:
    """AXI4 of ``axi_data_bits`` with 32-bit addresses and one ID, as seen by the master."""
    width = cfg.memories.axi_data_bits
    channel = {"addr": 32, "len": 8, "size": 3, "burst": 2, "cache": 4, "prot": 3}
    members: dict[str, wiring.Member] = {}
    for letter in ("aw", "ar"):
        members |= {f"{letter}{name}": Out(bits) for name, bits in channel.items()}
        members |= {f"{letter}valid": Out(1), f"{letter}ready": In(1), f"{letter}id": Out(1)}
    return wiring.Signature(
        members
        | {
            "wdata": Out(width),
            "wstrb": Out(width // 8),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "rid": In(1),
            "rdata": In(width),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def axi4_port(cfg: Config) -> wiring.Signature:
    """``axi4`` with what ports of a processing system have besides; no access is exclusive, and all
    are as urgent."""
    members = dict(axi4(cfg).members)
    for letter in ("aw", "ar"):
        members |= {f"{letter}lock": Out(1), f"{letter}qos": Out(4)}
    return wiring.Signature(members)
