"""The register table: one frozen list from which RTL, driver and documentation derive.

Registers are 32 bits wide, little-endian, in a 4 KiB space. Counters of 64 bits are pairs: reading
``X_LO`` latches the upper half, which the next read of ``X_HI`` returns. An array is as many
registers at consecutive offsets. Bits without a field read as 0 and are not stored. An access to an
address without register, a write to a read-only register, and a write to a register that is locked
(while STATUS.idle is 0) answer SLVERR.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transept.golden import isa
from transept.golden.config import CONTRACT_VERSION, TINY, Config

__all__ = [
    "ADDRESS_BITS",
    "ENGINE_BITS",
    "MAGIC",
    "STALLS",
    "STALL_BITS",
    "UNIT_BITS",
    "Access",
    "ErrorCode",
    "Feature",
    "Field",
    "Register",
    "Stall",
    "Unit",
    "decode",
    "encode",
    "features",
    "find",
    "offset",
    "table",
    "watchdog_default",
]

ADDRESS_BITS = 12
#: Contents of ID.
MAGIC = int.from_bytes(b"TRAN", "big")
#: Bits of a unit's number, of a stall reason, and of a set of engines.
UNIT_BITS, STALL_BITS, ENGINE_BITS = 4, 3, isa.HEADER[1].width


class Access(enum.Enum):
    """What the host may do with a register."""

    RO = "read only"
    RW = "read and write"
    W1C = "read, write 1 to clear"


class Stall(enum.IntEnum):
    """What an engine that does not advance waits for."""

    NONE = 0  # advancing, or idle without an instruction
    TOKEN = 1  # its next instruction waits for tokens
    MEMORY = 2  # DRAM
    SCRATCHPAD = 3  # an on-chip memory port
    WEIGHTS = 4  # the stationary tile is not loaded yet
    ACCUMULATOR = 5  # no free accumulator slot
    FILTER = 6  # the key filter has not answered


class ErrorCode(enum.IntEnum):
    """Contents of ERROR.code; the first error of a run stays until a soft reset."""

    NONE = 0
    WINDOW = 1  # an access outside its DRAM window, refused before it reached the bus
    ILLEGAL_OPERAND = 2  # an int8 operand of -128
    ILLEGAL_INSTRUCTION = 3  # one that golden.rules refuse, or of an unknown opcode
    BUS = 4  # an AXI response other than OKAY
    TOKEN_OVERFLOW = 5  # more than 255 tokens between two engines


class Unit(enum.IntEnum):
    """Where an error arose: an engine, or the fetch and dispatch of instructions."""

    LOAD = isa.Engine.LOAD
    GEMM = isa.Engine.GEMM
    SOFTMAX = isa.Engine.SOFTMAX
    VECTOR = isa.Engine.VECTOR
    STORE = isa.Engine.STORE
    CONTROL = 15


#: The key filters have the upper half of FEATURES.
_FILTER_BIT = 16


class Feature(enum.IntFlag):
    """Bits of FEATURES."""

    ATTENTION = 1 << 0
    ACTIVATION_TABLE = 1 << 1
    NORM = 1 << 2
    WATCHDOG = 1 << 3
    ELEMENTWISE = 1 << 4
    HALVES = 1 << 5
    PACKED_WEIGHTS = 1 << 6
    FILTER_DENSE = 1 << _FILTER_BIT + isa.Filter.DENSE
    FILTER_CAUSAL = 1 << _FILTER_BIT + isa.Filter.CAUSAL
    FILTER_TILE_THRESHOLD = 1 << _FILTER_BIT + isa.Filter.TILE_THRESHOLD
    FILTER_WINDOW = 1 << _FILTER_BIT + isa.Filter.WINDOW


def features(cfg: Config) -> Feature:
    """What an accelerator has."""
    found = Feature.WATCHDOG
    for built, flag in (
        (cfg.blocks.attention, Feature.ATTENTION),
        (cfg.blocks.activation, Feature.ACTIVATION_TABLE),
        (cfg.blocks.norm, Feature.NORM),
        (cfg.blocks.elementwise, Feature.ELEMENTWISE),
        (cfg.blocks.halves, Feature.HALVES),
        (cfg.blocks.packed, Feature.PACKED_WEIGHTS),
        *((True, Feature(1 << _FILTER_BIT + kind)) for kind in cfg.key_filters),
    ):
        found |= flag if built else Feature(0)
    return found


#: The stall reasons that each engine can have, and therefore counts.
STALLS: Mapping[isa.Engine, tuple[Stall, ...]] = {
    isa.Engine.LOAD: (Stall.TOKEN, Stall.MEMORY, Stall.SCRATCHPAD),
    isa.Engine.GEMM: (
        Stall.TOKEN,
        Stall.SCRATCHPAD,
        Stall.WEIGHTS,
        Stall.ACCUMULATOR,
        Stall.FILTER,
    ),
    isa.Engine.SOFTMAX: (Stall.TOKEN, Stall.SCRATCHPAD),
    isa.Engine.VECTOR: (Stall.TOKEN, Stall.SCRATCHPAD),
    isa.Engine.STORE: (Stall.TOKEN, Stall.MEMORY, Stall.SCRATCHPAD),
}


@dataclass(frozen=True)
class Field:
    """Bits ``low`` to ``low + width - 1`` of a register; a ``pulse`` acts once and reads as 0."""

    name: str
    low: int
    width: int
    doc: str
    enum: type[enum.IntEnum] | None = None
    pulse: bool = False

    def extract(self, value: int) -> int:
        """The value of this field in a register value (a plain integer if it has no name)."""
        bits = value >> self.low & ((1 << self.width) - 1)
        if self.enum is not None and bits in set(self.enum):
            return self.enum(bits)
        return bits


@dataclass(frozen=True)
class Register:
    """One register, or an array of ``count``; ``constant`` is the value of one that never changes,
    else None. ``locked``: it can be written only while STATUS.idle.
    """

    name: str
    offset: int
    access: Access
    doc: str
    fields: tuple[Field, ...]
    reset: int = 0
    constant: int | None = None
    count: int = 1
    locked: bool = False

    @property
    def writable(self) -> bool:
        """Whether a write can have any effect; other writes answer SLVERR."""
        return self.access is not Access.RO

    @property
    def stored(self) -> int:
        """The bits that a write keeps."""
        kept = (field for field in self.fields if self.writable and not field.pulse)
        return sum(((1 << field.width) - 1) << field.low for field in kept)

    @property
    def offsets(self) -> range:
        """Byte offset of each element."""
        return range(self.offset, self.offset + 4 * self.count, 4)


def _value(name: str, at: int, access: Access, doc: str, **options: Any) -> Register:
    """A register that is one 32-bit number."""
    return Register(name, at, access, doc, (Field("value", 0, 32, doc),), **options)


def _identity(cfg: Config) -> list[Register]:
    facts = (
        ("ID", "magic number, 'TRAN'", MAGIC),
        ("CONTRACT", "version of the bit-exact contract", CONTRACT_VERSION),
        ("CONFIG", "digest of configuration and contract", cfg.digest),
        ("CLOCK_MHZ", "nominal clock in MHz", cfg.clock_mhz),
    )
    registers = [
        _value(name, 4 * i, Access.RO, doc, constant=constant)
        for i, (name, doc, constant) in enumerate(facts)
    ]
    flags = tuple(
        Field(str(flag.name).lower(), flag.bit_length() - 1, 1, "present") for flag in Feature
    )
    present = int(features(cfg))
    doc = "what this hardware has"
    return [*registers, Register("FEATURES", 0x10, Access.RO, doc, flags, constant=present)]


def _geometry(cfg: Config) -> list[Register]:
    facts = (
        ("TILE", "rows and columns of the MAC array, elements of an on-chip word", cfg.tile),
        ("ACT_WORDS", "words of the activation scratchpad", cfg.act_words),
        ("ACT_BANKS", "banks of the activation scratchpad", len(cfg.memories.act_banks)),
        ("STAT_WORDS", "words of the stationary scratchpad", cfg.memories.stat_words),
        ("MAX_ROWS", "rows of one instruction", cfg.geometry.max_rows),
        ("ACC_SLOTS", "accumulator slots in each of two banks", cfg.geometry.acc_slots),
        ("ROWSTAT_ENTRIES", "row statistics kept on chip", cfg.memories.rowstat_entries),
        ("MAX_KEYS", "keys of one attention row", cfg.geometry.max_keys),
        ("MAX_TOKENS", "longest sequence", cfg.geometry.max_tokens),
        ("MAX_HIDDEN", "longest LayerNorm row, in elements", cfg.geometry.max_hidden),
        ("EPILOGUE_LANES", "outputs requantised per cycle", cfg.engines.epilogue_lanes),
        ("EXP_LANES", "exponentials per cycle", cfg.engines.exp_lanes),
        ("VECTOR_LANES", "vector-unit elements per cycle", cfg.engines.vector_lanes),
        ("AXI_DATA_BITS", "data bits of the AXI4 master", cfg.memories.axi_data_bits),
        ("QUEUE_DEPTH", "instructions waiting in front of each engine", cfg.engines.queue_depth),
    )
    return [
        _value(name, 0x40 + 4 * i, Access.RO, doc, constant=value)
        for i, (name, doc, value) in enumerate(facts)
    ]


def _control() -> list[Register]:
    control = (
        Field("start", 0, 1, "run the program at PROGRAM_OFFSET; ignored unless idle", pulse=True),
        Field("soft_reset", 1, 1, "abort, drain the bus, reset all engines", pulse=True),
        Field("irq_enable", 2, 1, "drive the interrupt line from IRQ"),
    )
    status = (
        Field("idle", 0, 1, "ready for start"),
        Field("busy", 1, 1, "a program runs"),
        Field("done", 2, 1, "the last program reached END; cleared by start and soft reset"),
        Field("error", 3, 1, "ERROR or WATCHDOG holds the reason; cleared by soft reset"),
        Field("resetting", 4, 1, "a soft reset waits for the bus"),
    )
    irq = (
        Field("done", 0, 1, "a program reached END"),
        Field("error", 1, 1, "STATUS.error rose"),
    )
    return [
        Register("CONTROL", 0x080, Access.RW, "commands", control),
        Register("STATUS", 0x084, Access.RO, "state of the machine", status),
        Register("IRQ", 0x088, Access.W1C, "pending interrupts", irq),
        _value(
            "PROGRAM_OFFSET",
            0x08C,
            Access.RW,
            "byte offset of the program in its window, a multiple of TILE",
            locked=True,
        ),
    ]


def watchdog_default(cfg: Config) -> int:
    """Cycles without progress after which the watchdog fires, unless the host says otherwise.

    Progress is a byte moved or an instruction retired, so the limit must be above the time of the
    longest legal instruction. That is a MATMUL of ``max_rows`` rows and as many tiles as its fields
    can say: a cycle for each row and pair of tiles. Twice that leaves room for whatever waits.
    """
    matmul = {field.name: field.width for field in isa.FORMATS[isa.Opcode.MATMUL].fields}
    k_tiles, n_tiles = ((1 << matmul[name]) - 1 for name in ("k_tiles", "n_tiles"))
    return 2 * cfg.geometry.max_rows * k_tiles * n_tiles


def _watchdog_and_error(cfg: Config) -> list[Register]:
    watchdog = (
        Field("fired", 0, 1, "no progress for WATCHDOG_LIMIT cycles"),
        Field("engine", 1, UNIT_BITS, "the engine that holds up the others", Unit),
        Field("stall", 5, STALL_BITS, "what it waits for", Stall),
        Field("busy", 8, ENGINE_BITS, "engines that were busy, one bit each"),
        Field("waiting", 20, ENGINE_BITS, "engines that waited for tokens, one bit each"),
    )
    error = (
        Field("code", 0, 4, "what happened first", ErrorCode),
        Field("engine", 4, UNIT_BITS, "where; for BUS, LOAD stands for all reads", Unit),
        Field("window", 8, 2, "DRAM window of the access, for WINDOW", isa.Window),
        Field("rule", 16, 8, "which rule of golden.rules, for ILLEGAL_INSTRUCTION"),
    )
    return [
        _value(
            "WATCHDOG_LIMIT",
            0x090,
            Access.RW,
            "cycles without a byte moved or an instruction retired until the watchdog fires, "
            "0: never",
            reset=watchdog_default(cfg),
        ),
        Register("WATCHDOG", 0x094, Access.RO, "what the watchdog saw", watchdog),
        Register("ERROR", 0x098, Access.RO, "the first error", error),
        _value(
            "ERROR_OFFSET",
            0x09C,
            Access.RO,
            "byte offset of the access, for WINDOW; number of the instruction in the program, for "
            "ILLEGAL_INSTRUCTION",
        ),
    ]


def _windows() -> list[Register]:
    registers = []
    for window in isa.Window:
        at = 0x0C0 + 8 * window
        name = window.name
        registers += [
            _value(
                f"WINDOW_BASE_{name}",
                at,
                Access.RW,
                f"physical address of {name}, a multiple of TILE",
                locked=True,
            ),
            _value(
                f"WINDOW_LIMIT_{name}",
                at + 4,
                Access.RW,
                f"size of {name} in bytes; base + size is less than 2**32",
                locked=True,
            ),
        ]
    return registers


def _counters() -> list[Register]:
    wide = (
        ("CYCLES", "clock cycles since power-on"),
        ("RUN_CYCLES", "cycles from start to END, when all writes are acknowledged"),
        ("BYTES_READ", "bytes read from DRAM in this run"),
        ("BYTES_WRITTEN", "bytes written to DRAM in this run"),
        ("ARRAY_CYCLES", "cycles of this run in which a row entered the MAC array"),
    )
    registers = []
    for i, (name, doc) in enumerate(wide):
        at = 0x100 + 8 * i
        registers += [
            _value(f"{name}_LO", at, Access.RO, f"{doc}, lower half; latches the upper half"),
            _value(f"{name}_HI", at + 4, Access.RO, f"{doc}, upper half latched by {name}_LO"),
        ]
    registers.append(_value("INSTRUCTIONS", 0x140, Access.RO, "instructions retired in this run"))
    for engine in isa.Engine:
        at = 0x200 + 0x20 * engine
        name = engine.name
        registers.append(_value(f"{name}_BUSY", at, Access.RO, f"cycles of this run {name} works"))
        registers += [
            _value(
                f"{name}_STALL_{stall.name}",
                at + 4 * stall,
                Access.RO,
                f"cycles of this run {name} waits, {stall.name}",
            )
            for stall in STALLS[engine]
        ]
    clipped = "output elements clipped by instructions with tally n in this run"
    registers.append(_value("CLIPPED", 0x400, Access.RO, clipped, count=isa.TALLIES))
    return registers


def table(cfg: Config) -> tuple[Register, ...]:
    """Every register of ``cfg``, in ascending order; names and offsets are those of all configs."""
    return (
        *_identity(cfg),
        *_geometry(cfg),
        *_control(),
        *_watchdog_and_error(cfg),
        *_windows(),
        *_counters(),
    )


_BY_NAME = {r.name: r for r in table(TINY)}


def find(name: str) -> Register:
    """The named register of any configuration; its values are those of no one in particular.

    Raises
    ------
    KeyError
        If there is none of that name.
    """
    if name not in _BY_NAME:
        raise KeyError(f"there is no register {name!r}")
    return _BY_NAME[name]


def offset(name: str, index: int = 0) -> int:
    """Byte offset of the named register, of one element of an array; the same in every
    configuration.

    Raises
    ------
    KeyError
        If there is none of that name.
    IndexError
        If the array is shorter.
    """
    return find(name).offsets[index]


def decode(name: str, value: int) -> dict[str, int]:
    """The fields in a value of the named register, enumerations as their members.

    Raises
    ------
    KeyError
        If there is no such register.
    """
    return {field.name: field.extract(value) for field in find(name).fields}


def encode(name: str, **values: int) -> int:
    """The value of the named register with these fields, others 0.

    Raises
    ------
    KeyError
        If there is no such register or field.
    ValueError
        If a value does not fit its field.
    """
    fields = {field.name: field for field in find(name).fields}
    bits = 0
    for key, value in values.items():
        if key not in fields:
            raise KeyError(f"register {name} has no field {key!r}")
        if not 0 <= value < 1 << fields[key].width:
            raise ValueError(f"field {name}.{key}={value} needs {fields[key].width} bits")
        bits |= int(value) << fields[key].low
    return bits
