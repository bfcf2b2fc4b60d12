"""The instruction set: one table from which encode, decode, disassembly, RTL and docs derive.

Every instruction is 256 bits, little-endian, and starts with the same 32-bit header. On-chip
addresses and strides count words (``golden.config``), DRAM addresses are (window, byte offset),
both a multiple of ``tile`` bytes. Engines run their instructions in order and synchronise by
tokens: before it starts, an instruction takes one token from every engine named in ``wait``; when
its last result is visible, it gives one token to every engine named in ``signal``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BODY_BITS",
    "FORMATS",
    "HEADER",
    "INSTRUCTION_BYTES",
    "AMode",
    "Engine",
    "Field",
    "Filter",
    "Format",
    "Instruction",
    "Memory",
    "Opcode",
    "OutMode",
    "RowScale",
    "Window",
    "decode",
    "decode_program",
    "disassemble",
    "encode",
    "encode_program",
]

INSTRUCTION_BYTES = 32
BODY_BITS = 8 * INSTRUCTION_BYTES - 32


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


class Window(enum.IntEnum):
    """DRAM windows, each with a base and a limit register."""

    PROGRAM = 0
    WEIGHTS = 1
    IO = 2
    SCRATCH = 3


class Memory(enum.IntEnum):
    """Destinations of LOAD."""

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


class Filter(enum.IntEnum):
    """Key filters of the attention core."""

    DENSE = 0  # every key (padding beyond ``keys`` is always masked)
    CAUSAL = 1  # keys up to the query's own position
    TILE_THRESHOLD = 2  # tiles whose estimate reaches a threshold


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
        low, high = (
            (-(1 << (self.width - 1)), (1 << (self.width - 1)) - 1)
            if self.signed
            else (0, (1 << self.width) - 1)
        )
        if not low <= value <= high:
            raise ValueError(f"field {self.name}={value} is outside {low} to {high}")
        return value & ((1 << self.width) - 1)

    def extract(self, bits: int) -> int:
        """The value of the field whose bits are the lowest ones of ``bits``."""
        value = bits & ((1 << self.width) - 1)
        if self.signed and value >> (self.width - 1):
            value -= 1 << self.width
        return self.enum(value) if self.enum else value


HEADER = (
    Field("opcode", 8, "operation", enum=Opcode),
    Field("wait", 8, "engines from which one token each is taken before the start"),
    Field("signal", 8, "engines that get one token each at the end"),
    Field("reserved", 8, "zero"),
)


@dataclass(frozen=True)
class Format:
    """Operand fields of one opcode, packed upwards from bit 32."""

    opcode: Opcode
    engine: Engine | None
    doc: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        used = sum(field.width for field in self.fields)
        if used > BODY_BITS:
            raise ValueError(f"{self.opcode.name} uses {used} of {BODY_BITS} body bits")

    def offsets(self) -> Iterator[tuple[Field, int]]:
        """Each operand field with its lowest bit in the instruction."""
        low = 32
        for field in self.fields:
            yield field, low
            low += field.width


def _f(name: str, width: int, doc: str, **options: Any) -> Field:
    return Field(name, width, doc, **options)


_DRAM = (
    _f("window", 2, "DRAM window", enum=Window),
    _f("offset", 32, "byte offset of the first row in the window, a multiple of tile"),
    _f("pitch", 16, "distance of rows in DRAM, in units of tile bytes"),
    _f("rows", 16, "rows to move"),
    _f("words", 16, "words a row (tile elements each)"),
)

FORMATS: dict[Opcode, Format] = {
    fmt.opcode: fmt
    for fmt in (
        Format(Opcode.END, None, "End of program: waits until every engine is idle.", ()),
        Format(
            Opcode.LOAD,
            Engine.LOAD,
            "Copy rows from DRAM to an on-chip memory.",
            (
                *_DRAM,
                _f("memory", 2, "destination memory", enum=Memory),
                _f("wide", 1, "ACT: elements are int16 in DRAM (else int8, sign-extended)"),
                _f("stats", 1, "ACT: write the maximum magnitude of each row to rowstat"),
                _f("addr", 16, "first destination word"),
                _f("stride", 16, "distance of rows on chip, in words"),
                _f("rowstat", 16, "rowstat entry of the first row"),
            ),
        ),
        Format(
            Opcode.STORE,
            Engine.STORE,
            "Copy rows from the activation scratchpad to DRAM.",
            (
                *_DRAM,
                _f("wide", 1, "write int16 elements (else the low byte of each)"),
                _f("addr", 16, "first source word"),
                _f("stride", 16, "distance of rows on chip, in words"),
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
                _f("a_addr", 16, "first word of A: row m, tile k is at a_addr + m*a_stride + k"),
                _f("a_stride", 12, "distance of rows of A, in words"),
                _f("a_mode", 1, "how A becomes int8", enum=AMode),
                _f("a_rowstat", 12, "rowstat entry of the first row of A"),
                _f("b_addr", 16, "first word of B; tile (k, n) starts at b_addr + k*b_k + n*b_n"),
                _f("b_row", 8, "distance of the words of a tile"),
                _f("b_k", 12, "distance of tiles along k"),
                _f("b_n", 16, "distance of tiles along n"),
                _f("b_transposed", 1, "words of a tile are its columns (k), not its rows (n)"),
                _f("param", 16, "STAT address of the channel parameters, 8 words for each n tile"),
                _f("out_addr", 16, "first word of C: row m, tile n is at out_addr+m*out_stride+n"),
                _f("out_stride", 12, "distance of rows of C, in words"),
                _f("out_mode", 2, "where C goes", enum=OutMode),
                _f("observe", 1, "show every word written to STAT to the key filter"),
                _f("activation", 1, "apply the activation table"),
                _f(
                    "row_scale",
                    2,
                    "row multiplier of the requantiser; RECIPROCAL with a_mode RAW only",
                    enum=RowScale,
                ),
                _f("stats", 1, "collect the maximum magnitude of each row of C in rowstat"),
                _f("stats_keep", 1, "the first n tile adds to the rowstat found (else replaces)"),
                _f("out_rowstat", 12, "rowstat entry of the first row of C"),
                _f("pre", 4, "right shift of the accumulator before the channel multiplier"),
                _f("row_shift", 6, "right shift after the row multiplier"),
                _f("out_shift", 4, "right shift after the bias"),
            ),
        ),
        Format(
            Opcode.SCORES,
            Engine.GEMM,
            "S = requantise(Q . K^T) in log2 units with 8 fractional bits, on the tiles that the "
            "filter selects for each block of tile query rows; masked scores are -32768.",
            (
                _f("rows", 8, "query rows minus one"),
                _f("position", 16, "position of the first query row in the sequence"),
                _f("keys", 12, "keys of the sequence minus one"),
                _f("d_tiles", 4, "tiles along the head dimension"),
                _f("q_addr", 16, "first word of Q: row m, tile k is at q_addr + m*q_stride + k"),
                _f("q_stride", 12, "distance of rows of Q, in words"),
                _f("k_addr", 16, "first STAT word of K: key j, tile k is at k_addr + j*d_tiles+k"),
                _f("s_addr", 16, "first word of S: row m, key tile t is at s_addr + m*s_stride+t"),
                _f("s_stride", 12, "distance of rows of S, in words"),
                _f("rowstat", 12, "rowstat entry that gets the maximum kept score of each row"),
                _f("select", 8, "entry of the selection memory for the first query block"),
                _f("filter", 4, "key filter", enum=Filter),
                _f("threshold", 24, "filter parameter", signed=True),
                _f("multiplier", 16, "channel multiplier of the requantiser"),
                _f("channel_shift", 5, "right shift after the channel multiplier"),
                _f("row_shift", 6, "right shift after the row multiplier (2**15)"),
            ),
        ),
        Format(
            Opcode.CONTEXT,
            Engine.GEMM,
            "C = requantise((P + 127) . V / row sum) over the key tiles that SCORES kept.",
            (
                _f("rows", 8, "query rows minus one"),
                _f("keys", 12, "keys of the sequence minus one"),
                _f("d_tiles", 4, "tiles along the head dimension"),
                _f("p_addr", 16, "first word of P: row m, key tile t is at p_addr + m*p_stride+t"),
                _f("p_stride", 12, "distance of rows of P, in words"),
                _f("v_addr", 16, "first STAT word of V: key j, tile n is at v_addr + j*d_tiles+n"),
                _f("p_rowstat", 12, "rowstat entry with the sum of the first row"),
                _f("select", 8, "entry of the selection memory for the first query block"),
                _f("param", 16, "STAT address of the channel parameters, 8 words for each n tile"),
                _f("out_addr", 16, "first word of C: row m, tile n is at out_addr+m*out_stride+n"),
                _f("out_stride", 12, "distance of rows of C, in words"),
                _f("out_mode", 2, "where C goes", enum=OutMode),
                _f("stats", 1, "collect the maximum magnitude of each row of C in rowstat"),
                _f("stats_keep", 1, "the first n tile adds to the rowstat found (else replaces)"),
                _f("out_rowstat", 12, "rowstat entry of the first row of C"),
                _f("pre", 4, "right shift of the accumulator before the channel multiplier"),
                _f("row_shift", 6, "right shift after the row multiplier"),
                _f("out_shift", 4, "right shift after the bias"),
            ),
        ),
        Format(
            Opcode.SOFTMAX,
            Engine.SOFTMAX,
            "P = round(254 * 2**((S - max) / 256)) - 127 in place; rowstat: maximum -> row sum.",
            (
                _f("rows", 8, "query rows minus one"),
                _f("keys", 12, "keys of the sequence minus one"),
                _f("addr", 16, "first word of S: row m, key tile t is at addr + m*stride + t"),
                _f("stride", 12, "distance of rows of S, in words"),
                _f("rowstat", 12, "rowstat entry of the first row"),
                _f("select", 8, "entry of the selection memory for the first query block"),
            ),
        ),
        Format(
            Opcode.NORM,
            Engine.VECTOR,
            "X = LayerNorm(Y + X) on int16 rows with a power-of-two scale per channel.",
            (
                _f("rows", 8, "rows minus one"),
                _f("words", 8, "words a row"),
                _f("count", 12, "elements a row (padding beyond them is ignored and written as 0)"),
                _f("residual", 1, "add X (else normalise Y alone)"),
                _f("y_addr", 16, "first word of Y"),
                _f("y_stride", 12, "distance of rows of Y, in words"),
                _f("x_addr", 16, "first word of X"),
                _f("x_stride", 12, "distance of rows of X, in words"),
                _f("out_addr", 16, "first word of the result"),
                _f("out_stride", 12, "distance of rows of the result, in words"),
                _f("rowstat", 12, "rowstat entry of the first row of the result"),
                _f("param", 8, "first VPARAM entry (tile channels each)"),
                _f("inverse_count", 16, "round(2**(15 + bit_length(count - 1)) / count)"),
                _f("epsilon", 32, "count**2 * eps in units of the squared rounded residual"),
                _f("out_shift", 6, "right shift of the normalised value times gamma"),
            ),
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
        try:
            return self.__dict__["operands"][name]
        except KeyError:
            raise AttributeError(f"{self.opcode.name} has no operand {name!r}") from None

    def __str__(self) -> str:
        return disassemble(self)


def _mask(engines: frozenset[Engine]) -> int:
    return sum(1 << engine for engine in engines)


def _engines(mask: int) -> frozenset[Engine]:
    return frozenset(engine for engine in Engine if mask >> engine & 1)


def encode(instruction: Instruction) -> bytes:
    """The 32 bytes of one instruction.

    Raises
    ------
    ValueError
        If an operand is missing, unknown, or does not fit its field.
    """
    fmt = FORMATS[instruction.opcode]
    unknown = set(instruction.operands) - {field.name for field in fmt.fields}
    if unknown:
        raise ValueError(f"{fmt.opcode.name} has no operand {', '.join(sorted(unknown))}")
    bits = instruction.opcode | _mask(instruction.wait) << 8 | _mask(instruction.signal) << 16
    for field, low in fmt.offsets():
        if field.name not in instruction.operands:
            raise ValueError(f"{fmt.opcode.name} needs operand {field.name}")
        bits |= field.check(int(instruction.operands[field.name])) << low
    return bits.to_bytes(INSTRUCTION_BYTES, "little")


def decode(data: bytes) -> Instruction:
    """The instruction in 32 bytes.

    Raises
    ------
    ValueError
        If the length, the opcode or an enumerated field is not legal.
    """
    if len(data) != INSTRUCTION_BYTES:
        raise ValueError(f"an instruction has {INSTRUCTION_BYTES} bytes, got {len(data)}")
    bits = int.from_bytes(data, "little")
    try:
        opcode = Opcode(bits & 0xFF)
    except ValueError:
        raise ValueError(f"unknown opcode {bits & 0xFF:#04x}") from None
    operands = {field.name: field.extract(bits >> low) for field, low in FORMATS[opcode].offsets()}
    return Instruction(opcode, operands, _engines(bits >> 8 & 0xFF), _engines(bits >> 16 & 0xFF))


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
