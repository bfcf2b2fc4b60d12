"""The instruction set: one table from which encode, decode, disassembly, RTL and docs derive.

Every instruction is 256 bits, little-endian, and starts with the same 32-bit header. On-chip
addresses and strides count words (``golden.config``), DRAM addresses are (window, byte offset),
both a multiple of ``tile`` bytes. Engines run their instructions in order and synchronise by
tokens: before it starts, an instruction takes one token from every engine named in ``wait``; when
its last result is visible, it gives one token to every engine named in ``signal``.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BODY_BITS",
    "FORMATS",
    "HEADER",
    "INSTRUCTION_BYTES",
    "TALLIES",
    "TOKEN_LIMIT",
    "AMode",
    "Engine",
    "Field",
    "Filter",
    "Format",
    "Instruction",
    "Memory",
    "Opcode",
    "Operation",
    "OutMode",
    "RowScale",
    "Window",
    "decode",
    "decode_program",
    "disassemble",
    "encode",
    "encode_program",
    "operand",
]

INSTRUCTION_BYTES = 32
BODY_BITS = 8 * INSTRUCTION_BYTES - 32
#: Tokens that may be on the way from one engine to another; more are an error.
TOKEN_LIMIT = 255
_TALLY_BITS = 6
#: Counters of clipped elements; the operand ``tally`` of an instruction names one.
TALLIES = 1 << _TALLY_BITS


class Engine(enum.IntEnum):
    """Engines that run instructions; also the bit numbers of the token masks."""

    LOAD = 0
    GEMM = 1
    SOFTMAX = 2
    VECTOR = 3
    STORE = 4


class Opcode(enum.IntEnum):
    """Instructions; FORMATS says what each does."""

    END = 0
    LOAD = 1
    STORE = 2
    MATMUL = 3
    SCORES = 4
    CONTEXT = 5
    SOFTMAX = 6
    NORM = 7
    ELEMENTWISE = 8


class Window(enum.IntEnum):
    """DRAM windows, each with a base and a limit register."""

    PROGRAM = 0
    WEIGHTS = 1
    IO = 2
    SCRATCH = 3


class Memory(enum.IntEnum):
    """On-chip memories: LOAD writes all of them, STORE reads ACT and STAT."""

    ACT = 0  # activation scratchpad, one int16 element per lane
    STAT = 1  # stationary scratchpad, one int8 element per lane
    VPARAM = 2  # LayerNorm parameters of the vector unit, eight bytes a channel
    TABLE = 3  # activation table of the epilogue, eight bytes a segment


class AMode(enum.IntEnum):
    """How a streamed operand word becomes int8."""

    RAW = 0  # the low byte is the operand
    DYNAMIC = 1  # quantised by the maximum of its row (numerics.quantise_row)


class RowScale(enum.IntEnum):
    """Row multiplier of the requantiser."""

    ONE = 0  # 2**15
    ROW_MAX = 1  # row maximum of the streamed operand, at least 256
    RECIPROCAL = 2  # reciprocal of the row sum of the streamed operand


class OutMode(enum.IntEnum):
    """Where a requantised tile goes."""

    ACT16 = 0  # int16 to the activation scratchpad
    ACT8 = 1  # saturated to +-127, in an int16 container
    STAT8 = 2  # saturated to +-127, to the stationary scratchpad


class Operation(enum.IntEnum):
    """What ELEMENTWISE makes of two elements (numerics.elementwise)."""

    SUM = 0
    PRODUCT = 1


class Filter(enum.IntEnum):
    """Key filters of the attention core; ``golden.filters`` has their rules."""

    DENSE = 0
    CAUSAL = 1
    TILE_THRESHOLD = 2
    WINDOW = 3


@dataclass(frozen=True)
class Field:
    """One bit field. ``enum`` names its values; signed fields are two's complement."""

    name: str
    width: int
    doc: str
    signed: bool = False
    enum: type[enum.IntEnum] | None = None

    def check(self, value: int) -> int:
        """Return ``value`` as unsigned bits; ValueError if it does not fit."""
        if not self.least <= value <= self.most:
            raise ValueError(f"field {self.name}={value} is outside {self.least} to {self.most}")
        return value & self.mask

    @functools.cached_property
    def mask(self) -> int:
        """All its bits."""
        return (1 << self.width) - 1

    @functools.cached_property
    def least(self) -> int:
        """Its smallest value."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @functools.cached_property
    def most(self) -> int:
        """Its largest value."""
        return self.least + self.mask

    def extract(self, bits: int) -> int:
        """The value of the field whose bits are the lowest ones of ``bits``."""
        value = bits & self.mask
        if self.signed and value >> (self.width - 1):
            value -= 1 << self.width
        return self.enum(value) if self.enum else value


HEADER = (
    Field("opcode", 8, "operation", enum=Opcode),
    Field("wait", 12, "engines from which one token each is taken before the start"),
    Field("signal", 12, "engines that get one token each at the end"),
)


@dataclass(frozen=True)
class Format:
    """Operand fields of one opcode, packed upwards from bit 32; the bits above them are zero.

    ``block`` is the optional part of an accelerator that the opcode needs, a name in section
    ``blocks`` of the configuration; None for those that every accelerator has.
    """

    opcode: Opcode
    engine: Engine | None
    doc: str
    fields: tuple[Field, ...]
    block: str | None = None

    def __post_init__(self) -> None:
        if self.used > 32 + BODY_BITS:
            raise ValueError(f"{self.opcode.name} uses {self.used - 32} of {BODY_BITS} body bits")

    @property
    def used(self) -> int:
        """Bits of an instruction up to the end of its last operand."""
        return 32 + sum(field.width for field in self.fields)

    def offsets(self) -> Iterator[tuple[Field, int]]:
        """Each operand field with its lowest bit in the instruction."""
        low = 32
        for field in self.fields:
            yield field, low
            low += field.width

    def place(self, name: str) -> tuple[Field, int]:
        """The named operand field with its lowest bit in the instruction.

        Raises
        ------
        KeyError
            If the opcode has no such operand.
        """
        for field, low in self.offsets():
            if field.name == name:
                return field, low
        raise KeyError(f"{self.opcode.name} has no operand {name!r}")


def _f(name: str, width: int, doc: str, **options: Any) -> Field:
    return Field(name, width, doc, **options)


_WINDOW = _f("window", 2, "DRAM window", enum=Window)
_OFFSET = _f("offset", 32, "byte offset of the first row in the window, a multiple of tile")
_PITCH = _f("pitch", 16, "distance of rows in DRAM, in units of tile bytes")
_ROWS = _f("rows", 16, "rows to move")
_WORDS = _f("words", 16, "words a row (tile elements each)")
_OBSERVE = _f("observe", 1, "STAT: add every word written to the summaries of the key filters")
_PHASE = _f("phase", 6, "place of the first row in its key tile, whose row 0 begins its summary")
_SUMMARY = _f("summary", 12, "of the first row's first word; later key tiles are stride apart")
_TALLY = _f("tally", _TALLY_BITS, "counter of the elements that were clipped")

# What the legality checker reads lies at the same place in as many formats as can be: counts at 32,
# 40 and 48, addresses from 64, strides from 128, entries of rowstat from 176.
FORMATS: dict[Opcode, Format] = {
    fmt.opcode: fmt
    for fmt in (
        Format(Opcode.END, None, "End of program: waits until every engine is idle.", ()),
        Format(
            Opcode.LOAD,
            Engine.LOAD,
            "Copy rows from DRAM to an on-chip memory.",
            (
                _ROWS,
                _WORDS,
                _f("addr", 16, "first destination word"),
                _f("stride", 16, "distance of rows on chip, in words"),
                _f("rowstat", 16, "rowstat entry of the first row"),
                _PITCH,
                _SUMMARY,
                _PHASE,
                _f("memory", 2, "destination memory", enum=Memory),
                _f("wide", 1, "ACT: elements are int16 in DRAM (else int8, sign-extended)"),
                _f("stats", 1, "ACT: write the maximum magnitude of each row to rowstat"),
                _OBSERVE,
                _WINDOW,
                _OFFSET,
                _f("packed", 1, "STAT: every 32 words of a row are 19 of four-bit weights in DRAM"),
            ),
        ),
        Format(
            Opcode.STORE,
            Engine.STORE,
            "Copy rows from an on-chip memory to DRAM.",
            (
                _ROWS,
                _WORDS,
                _f("addr", 16, "first source word"),
                _f("stride", 16, "distance of rows on chip, in words"),
                _PITCH,
                _f("memory", 2, "source memory, ACT or STAT", enum=Memory),
                _f("wide", 1, "ACT: write int16 elements (else the low byte of each)"),
                _WINDOW,
                _OFFSET,
            ),
        ),
        Format(
            Opcode.MATMUL,
            Engine.GEMM,
            "C[rows, n] = requantise(A[rows, k] . B[k, n]), accumulated on chip.",
            (
                _f("rows", 8, "rows of A minus one"),
                _f("k_tiles", 8, "tiles along k"),
                _f("n_tiles", 8, "tiles along n; 1 unless accumulate = 0 and finish = 1"),
                _f("accumulate", 1, "add to the accumulators that the last MATMUL left"),
                _f("finish", 1, "requantise and write the result; else leave the accumulators"),
                _f("a_mode", 1, "how A becomes int8", enum=AMode),
                _f("activation", 1, "apply the activation table"),
                _f("b_transposed", 1, "words of a tile are its columns (k), not its rows (n)"),
                _OBSERVE,
                _f("stats", 1, "collect the maximum magnitude of each row of C in rowstat"),
                _f("stats_keep", 1, "the first n tile adds to the rowstat found (else replaces)"),
                _f("a_addr", 16, "first word of A: row m, tile k is at a_addr + m*a_stride + k"),
                _f("b_addr", 16, "first word of B; tile (k, n) starts at b_addr + k*b_k + n*b_n"),
                _f("out_addr", 16, "first word of C: row m, tile n is at out_addr+m*out_stride+n"),
                _f("param", 16, "STAT address of the channel parameters, 8 words for each n tile"),
                _f("a_stride", 12, "distance of rows of A, in words"),
                _f("out_stride", 12, "distance of rows of C, in words"),
                _f("b_k", 12, "distance of tiles along k"),
                _f("b_row", 8, "distance of the words of a tile"),
                _f("pre", 4, "right shift of the accumulator before the channel multiplier"),
                _f("a_rowstat", 12, "rowstat entry of the first row of A"),
                _f("out_rowstat", 12, "rowstat entry of the first row of C"),
                _f("b_n", 16, "distance of tiles along n"),
                _SUMMARY,
                _PHASE,
                _f("out_mode", 2, "where C goes", enum=OutMode),
                _f("row_scale", 2, "row multiplier; RECIPROCAL with RAW only", enum=RowScale),
                _f("row_shift", 6, "right shift after the row multiplier"),
                _f("out_shift", 4, "right shift after the bias"),
                _TALLY,
                _f("halves", 1, "DYNAMIC: A has 15 bits, streamed as two int8 rows"),
            ),
        ),
        Format(
            Opcode.SCORES,
            Engine.GEMM,
            "S = requantise(Q . K^T) in log2 units with 8 fractional bits, on the tiles that the "
            "filter selects for each block of tile query rows; masked scores are -32768.",
            (
                _f("rows", 8, "query rows minus one"),
                _f("select", 8, "entry of the selection memory for the first query block"),
                _f("keys", 16, "keys minus one"),
                _f("q_addr", 16, "first word of Q: row m, tile k is at q_addr + m*q_stride + k"),
                _f("k_addr", 16, "first STAT word of K: key j, tile k is at k_addr + j*d_tiles+k"),
                _f("s_addr", 16, "first word of S: row m, key tile t is at s_addr + m*s_stride+t"),
                _f("multiplier", 16, "channel multiplier of the requantiser"),
                _f("q_stride", 12, "distance of rows of Q, in words"),
                _f("s_stride", 12, "distance of rows of S, in words"),
                _f("parameter", 24, "what the key filter needs to know, see its rule"),
                _f("rowstat", 12, "rowstat entry that gets the maximum kept score of each row"),
                _f("row_shift", 6, "right shift after the row multiplier (2**15)"),
                _TALLY,
                _f("d_tiles", 5, "tiles along the head dimension"),
                _f("stats_keep", 1, "the maximum joins the one found (else replaces it)"),
                _f("position", 16, "position of the first query row in the sequence"),
                _f("key_base", 16, "position of the first key in the sequence"),
                _f("filter", 4, "key filter", enum=Filter),
                _f("channel_shift", 5, "right shift after the channel multiplier"),
            ),
            block="attention",
        ),
        Format(
            Opcode.CONTEXT,
            Engine.GEMM,
            "C = requantise((P + 127) . V / row sum) over the key tiles that SCORES kept.",
            (
                _f("rows", 8, "query rows minus one"),
                _f("select", 8, "entry of the selection memory for the first query block"),
                _f("keys", 16, "keys minus one, those of SCORES"),
                _f("p_addr", 16, "first word of P: row m, key tile t is at p_addr + m*p_stride+t"),
                _f("v_addr", 16, "first STAT word of V: key j, tile n is at v_addr + j*d_tiles+n"),
                _f("out_addr", 16, "first word of C: row m, tile n is at out_addr+m*out_stride+n"),
                _f("param", 16, "STAT address of the channel parameters, 8 words for each n tile"),
                _f("p_stride", 12, "distance of rows of P, in words"),
                _f("out_stride", 12, "distance of rows of C, in words"),
                _TALLY,
                _f("row_shift", 6, "right shift after the row multiplier"),
                _f("out_shift", 4, "right shift after the bias"),
                _f("pre", 4, "right shift of the accumulator before the channel multiplier"),
                _f("out_mode", 2, "where C goes", enum=OutMode),
                _f("stats", 1, "collect the maximum magnitude of each row of C in rowstat"),
                _f("stats_keep", 1, "the first n tile adds to the rowstat found (else replaces)"),
                _f("p_rowstat", 12, "rowstat entry with the sum of the first row"),
                _f("out_rowstat", 12, "rowstat entry of the first row of C"),
                _f("d_tiles", 5, "tiles along the head dimension"),
                _f("accumulate", 1, "add to the accumulators that the last CONTEXT left"),
                _f("finish", 1, "requantise and write the result; else leave the accumulators"),
            ),
            block="attention",
        ),
        Format(
            Opcode.SOFTMAX,
            Engine.SOFTMAX,
            "P = floor(254 * 2**((S - max) / 256) + DITHER[key % 4] / 8) - 127 in place; row sums.",
            (
                _f("rows", 8, "query rows minus one"),
                _f("select", 8, "entry of the selection memory for the first query block"),
                _f("keys", 16, "keys minus one, those of SCORES"),
                _f("addr", 16, "first word of S: row m, key tile t is at addr + m*stride + t"),
                _f("stride", 12, "distance of rows of S, in words"),
                _f("rowstat", 12, "rowstat entry with the maximum of the first row"),
                _f("out_rowstat", 12, "rowstat entry that gets the sum of the first row"),
                _f("keep", 1, "the sum joins the one found (else replaces it)"),
            ),
            block="attention",
        ),
        Format(
            Opcode.NORM,
            Engine.VECTOR,
            "Z = Y + X on int16 rows, a power-of-two scale a channel; writes Norm(Z), Z, or both.",
            (
                _f("rows", 8, "rows minus one"),
                _f("words", 8, "words a row"),
                _f("count", 12, "elements a row (padding beyond them is ignored and written as 0)"),
                _f("residual", 1, "add X (else Z is Y alone)"),
                _f("centre", 1, "subtract the mean, LayerNorm (else RMSNorm)"),
                _f("normalise", 1, "write the normalised row"),
                _f("sum", 1, "write Z, rounded to int16 by a shift per channel"),
                _f("y_addr", 16, "first word of Y"),
                _f("x_addr", 16, "first word of X"),
                _f("out_addr", 16, "first word of the normalised rows"),
                _f("sum_addr", 16, "first word of the rows of Z"),
                _f("y_stride", 12, "distance of rows of Y, in words"),
                _f("x_stride", 12, "distance of rows of X, in words"),
                _f("out_stride", 12, "distance of normalised rows, in words"),
                _f("sum_stride", 12, "distance of rows of Z, in words"),
                _f("rowstat", 12, "rowstat entry of the first normalised row, or of Z without"),
                _f("param", 8, "first VPARAM entry (tile channels each)"),
                _f("inverse_count", 16, "round(2**(15 + bit_length(count - 1)) / count)"),
                _f("epsilon", 32, "count**2 * eps in units of the squared rounded residual"),
                _f("out_shift", 6, "right shift of the normalised value times gamma"),
                _TALLY,
            ),
            block="norm",
        ),
        Format(
            Opcode.ELEMENTWISE,
            Engine.VECTOR,
            "C = round((Y o X) / 2**shift) on int16 rows, o a sum or a product of elements.",
            (
                _f("rows", 8, "rows minus one"),
                _f("words", 8, "words a row"),
                _f("count", 12, "elements a row (padding beyond them is ignored and written as 0)"),
                _f("shift", 4, "right shift of the sum or the product"),
                _f("y_addr", 16, "first word of Y"),
                _f("x_addr", 16, "first word of X"),
                _f("out_addr", 16, "first word of C"),
                _TALLY,
                _f("out_mode", 2, "ACT16 or ACT8", enum=OutMode),
                _f("stats", 1, "write the maximum magnitude of each row to rowstat"),
                _f("operation", 7, "sum or product", enum=Operation),
                _f("y_stride", 12, "distance of rows of Y, in words"),
                _f("x_stride", 12, "distance of rows of X, in words"),
                _f("out_stride", 12, "distance of rows of C, in words"),
                _f("rowstat", 12, "rowstat entry of the first row"),
            ),
            block="elementwise",
        ),
    )
}


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction: opcode, token masks (sets of engines) and operand values."""

    opcode: Opcode
    operands: Mapping[str, int]
    wait: frozenset[Engine] = frozenset()
    signal: frozenset[Engine] = frozenset()

    @property
    def engine(self) -> Engine | None:
        """The engine that runs it; None for END."""
        return FORMATS[self.opcode].engine

    def __getattr__(self, name: str) -> Any:  # an integer, of the field's enum if it has one
        mine = self.__dict__  # empty while a copy is made
        if name not in mine.get("operands", ()):
            owner = getattr(mine.get("opcode"), "name", "an instruction")
            raise AttributeError(f"{owner} has no operand {name!r}")
        return mine["operands"][name]

    def __str__(self) -> str:
        return disassemble(self)


def operand(opcode: Opcode, name: str) -> Field:
    """The named operand field of an opcode.

    Raises
    ------
    KeyError
        If it has none of that name.
    """
    for field in FORMATS[opcode].fields:
        if field.name == name:
            return field
    raise KeyError(f"{opcode.name} has no operand {name!r}")


_OPCODE, _WAIT, _SIGNAL = HEADER
_WAIT_LOW = _OPCODE.width
_SIGNAL_LOW = _WAIT_LOW + _WAIT.width


def _mask(engines: frozenset[Engine]) -> int:
    return sum(1 << engine for engine in engines)


def _engines(field: Field, bits: int) -> frozenset[Engine]:
    """The engines in a token mask; ValueError for a bit that is none."""
    mask = field.extract(bits)
    if unknown := mask >> len(Engine):
        raise ValueError(f"{field.name} mask {mask:#05x} has bits {unknown:#x} above its engines")
    return frozenset(engine for engine in Engine if mask >> engine & 1)


def encode(instruction: Instruction) -> bytes:
    """The 32 bytes of one instruction.

    Raises
    ------
    ValueError
        If an operand is missing, unknown, or does not fit its field.
    """
    opcode, operands = instruction.opcode, instruction.operands
    places = _PLACES[opcode]
    if operands.keys() != places.keys():
        _misses(opcode, operands)
    bits = int(opcode)
    bits |= _mask(instruction.wait) << _WAIT_LOW | _mask(instruction.signal) << _SIGNAL_LOW
    for name, (field, low) in places.items():
        bits |= field.check(int(operands[name])) << low
    return bits.to_bytes(INSTRUCTION_BYTES, "little")


#: Every operand field with its lowest bit, by name.
_PLACES = {
    opcode: {field.name: (field, low) for field, low in fmt.offsets()}
    for opcode, fmt in FORMATS.items()
}


def _misses(opcode: Opcode, operands: Mapping[str, int]) -> None:
    """ValueError for operands that are none, or are not there."""
    if unknown := operands.keys() - _PLACES[opcode].keys():
        raise ValueError(f"{opcode.name} has no operand {', '.join(sorted(unknown))}")
    missing = next(name for name in _PLACES[opcode] if name not in operands)
    raise ValueError(f"{opcode.name} needs operand {missing}")


def decode(data: bytes) -> Instruction:
    """The instruction in 32 bytes.

    Raises
    ------
    ValueError
        If the length, the opcode or an enumerated field is not legal, or a reserved bit is set.
    """
    if len(data) != INSTRUCTION_BYTES:
        raise ValueError(f"an instruction has {INSTRUCTION_BYTES} bytes, got {len(data)}")
    bits = int.from_bytes(data, "little")
    number = bits & ((1 << _OPCODE.width) - 1)
    try:
        opcode = Opcode(number)
    except ValueError:
        raise ValueError(f"unknown opcode {number:#04x}") from None
    fmt = FORMATS[opcode]
    if bits >> fmt.used:
        raise ValueError(f"{opcode.name} has reserved bits set, from bit {fmt.used} up")
    operands = {field.name: field.extract(bits >> low) for field, low in fmt.offsets()}
    masks = _engines(_WAIT, bits >> _WAIT_LOW), _engines(_SIGNAL, bits >> _SIGNAL_LOW)
    return Instruction(opcode, operands, *masks)


def encode_program(program: list[Instruction]) -> bytes:
    """Concatenated instructions; END is the caller's to add."""
    return b"".join(encode(instruction) for instruction in program)


def decode_program(data: bytes) -> list[Instruction]:
    """Every instruction of ``data``.

    Raises
    ------
    ValueError
        If the length is no multiple of 32 bytes; the message of ``decode`` with the index.
    """
    if len(data) % INSTRUCTION_BYTES:
        raise ValueError(f"program has {len(data)} bytes, not a multiple of {INSTRUCTION_BYTES}")
    program = []
    for index in range(len(data) // INSTRUCTION_BYTES):
        try:
            start = index * INSTRUCTION_BYTES
            program.append(decode(data[start : start + INSTRUCTION_BYTES]))
        except ValueError as error:
            raise ValueError(f"instruction {index}: {error}") from None
    return program


def disassemble(instruction: Instruction) -> str:
    """One line of text: ``OPCODE name=value ... wait=A,B signal=C``; zero operands are left out."""
    parts = [instruction.opcode.name]
    for name, value in instruction.operands.items():
        if isinstance(value, enum.IntEnum):
            parts.append(f"{name}={value.name}")
        elif value:
            parts.append(f"{name}={value}")
    for title, engines in (("wait", instruction.wait), ("signal", instruction.signal)):
        if engines:
            parts.append(f"{title}={','.join(engine.name for engine in sorted(engines))}")
    return " ".join(parts)
