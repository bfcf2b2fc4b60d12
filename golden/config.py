"""The one description of an accelerator, read by golden models, RTL, simulation and host alike."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transept.golden import isa
from transept.golden.filters import FILTERS
from transept.golden.numerics.four_bit import GROUP
from transept.golden.numerics.softmax import CONTEXT_KEYS

__all__ = [
    "CONTRACT_VERSION",
    "HLS_BLOCKS",
    "KV260",
    "KV260_BOARD",
    "PRESETS",
    "PYNQ_Z2",
    "PYNQ_Z2_BOARD",
    "ROWSTAT_BITS",
    "TINY",
    "ULTRA96",
    "ULX3S",
    "ULX3S_BOARD",
    "Blocks",
    "Config",
    "Engines",
    "Filters",
    "Geometry",
    "Memories",
    "preset",
]

#: Version of the bit-exact contract. It changes whenever any instruction computes other bits.
CONTRACT_VERSION = 5
#: Blocks that can be made by high-level synthesis instead, each with what must be built for it: an
#: optional block or a key filter.
HLS_BLOCKS = ("exponential", "interpolation", "rsqrt", "requantiser", "window")
_HLS_NEEDS = {"exponential": "attention", "interpolation": "activation", "rsqrt": "norm"}
#: Bits of a row statistic: a signed maximum, a magnitude, or an unsigned sum.
ROWSTAT_BITS = 24


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The array and the largest shapes that one instruction describes."""

    tile: int  # rows = columns of the MAC array, elements of an on-chip word
    dsp_chain: int  # MAC rows summed in one DSP cascade, 1 if there are no DSP slices
    max_rows: int  # rows of one MATMUL, also the depth of one accumulator slot
    acc_slots: int  # accumulator slots in each of the two accumulator banks
    max_keys: int  # keys of one attention row
    max_tokens: int  # longest sequence the compiler accepts
    max_hidden: int  # longest LayerNorm row, in elements

    @property
    def has_dsp_slices(self) -> bool:
        """Whether multipliers are DSP slices: 25 x 18 bits, with a register and an adder behind.
        Without cascades they are taken to be of 18 x 18 bits and nothing more."""
        return self.dsp_chain > 1


@dataclass(frozen=True, kw_only=True)
class Memories:
    """On-chip memories, in words, and the port to DRAM."""

    act_banks: tuple[int, ...]  # words in each bank of the activation scratchpad
    stat_words: int  # words of the stationary scratchpad (weights, K, V, channel parameters)
    rowstat_entries: int  # row maxima and row sums kept on chip
    axi_data_bits: int  # data bus of the AXI4 master


@dataclass(frozen=True, kw_only=True)
class Engines:
    """Work per cycle of the engines beside the array, and how far they run ahead."""

    epilogue_lanes: int  # outputs requantised per cycle
    exp_lanes: int  # exponentials per cycle
    vector_lanes: int  # vector-unit elements per cycle
    queue_depth: int  # instructions waiting in front of each engine


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Key filters of the attention core that are built."""

    names: tuple[str, ...]  # of ``golden.filters.FILTERS``
    estimate_multipliers: int  # products per cycle of the estimates of tile_threshold


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Optional parts. What is not built is absent from FEATURES, and its instructions are illegal.

    ``isa.FORMATS`` names the block that an opcode needs.
    """

    attention: bool  # SCORES, CONTEXT, the softmax engine and the key filters
    activation: bool  # the activation table of the epilogue
    norm: bool  # the vector unit and its parameter memory
    elementwise: bool  # sums and products of elements in the vector unit
    halves: bool  # rows of 15 bits, streamed as two int8 halves
    packed: bool  # four-bit weights, unpacked on their way to the stationary scratchpad


@dataclass(frozen=True, kw_only=True)
class Config:
    """One accelerator. Stored values are independent; everything else is derived.

    ``hls`` says how blocks are made, not what they do: bits and cycles are the same. So it is no
    part of ``digest`` nor of program files, and a program runs on either hardware.

    A *word* of the activation scratchpad is ``tile`` int16 elements, a word of the stationary
    scratchpad is ``tile`` int8 elements; all on-chip addresses count words.

    Raises
    ------
    ValueError
        If a value is outside its limits; the message names the value and the limit.
    """

    name: str
    geometry: Geometry
    memories: Memories
    engines: Engines
    filters: Filters
    blocks: Blocks
    clock_mhz: int  # clock of the board target; simulation reports times at this clock
    hls: tuple[str, ...] = ()  # of HLS_BLOCKS, in that order: made by high-level synthesis

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            raise ValueError(f"name must be an identifier, got {self.name!r}")
        geometry, memories, engines = self.geometry, self.memories, self.engines
        lanes = dataclasses.asdict(engines)
        del lanes["queue_depth"]
        powers = {
            "tile": self.tile,
            **lanes,
            "estimate_multipliers": self.filters.estimate_multipliers,
            "axi_data_bits": memories.axi_data_bits,
        }
        for field, value in powers.items():
            if value < 1 or value & (value - 1):
                raise ValueError(f"{field} must be a power of two, got {value}")
        for field, value in lanes.items():
            if value > self.tile:
                raise ValueError(f"{field}={value} exceeds tile={self.tile}")
        if self.axi_bytes > self.tile or memories.axi_data_bits < 32:
            raise ValueError(
                f"axi_data_bits={memories.axi_data_bits} must be 32 to {8 * self.tile} "
                "(one int8 word)"
            )
        if not 1 <= geometry.dsp_chain <= 4 or self.tile % geometry.dsp_chain:
            raise ValueError(
                f"dsp_chain={geometry.dsp_chain} must divide tile={self.tile} and be at most 4: "
                "the 17-bit field of a packed product holds four products of 127 x 127"
            )
        if geometry.max_rows < self.tile or geometry.max_rows & (geometry.max_rows - 1):
            raise ValueError(f"max_rows must be a power of two >= tile, got {geometry.max_rows}")
        if geometry.max_keys % self.tile:
            raise ValueError(f"max_keys={geometry.max_keys} must be a multiple of tile={self.tile}")
        if geometry.max_keys > CONTEXT_KEYS:
            raise ValueError(
                f"max_keys={geometry.max_keys} exceeds the {CONTEXT_KEYS} of an accumulator"
            )
        phases = 1 << isa.operand(isa.Opcode.LOAD, "phase").width
        if self.tile > phases:
            raise ValueError(f"tile={self.tile} exceeds {phases}, the phases of an observed row")
        if self.blocks.elementwise and not self.blocks.norm:
            raise ValueError("elementwise=True with norm=False: both are one unit")
        if self.blocks.packed and self.tile > GROUP:
            raise ValueError(f"packed=True with tile={self.tile}: a word has inputs of one group")
        if self.blocks.packed and memories.stat_words % (2 * self.tile):
            raise ValueError(
                f"packed=True with stat_words={memories.stat_words}: two halves of whole tiles are "
                f"a multiple of {2 * self.tile}"
            )
        self._check_filters()
        self._check_hls()

    def _check_filters(self) -> None:
        names, known = self.filters.names, list(FILTERS)
        for name in names:
            if name not in known:
                raise ValueError(f"unknown key filter {name!r}, there are {', '.join(known)}")
        if list(names) != [name for name in known if name in names]:
            raise ValueError(
                f"key filters {', '.join(names)} must be in the order {', '.join(known)}"
            )
        if bool(names) != self.blocks.attention:
            raise ValueError(
                f"attention={self.blocks.attention} with {len(names)} key filters: attention needs "
                "at least one, and nothing else needs any"
            )
        if 2 * self.filters.estimate_multipliers > self.tile:
            raise ValueError(
                f"estimate_multipliers={self.filters.estimate_multipliers} exceeds half of "
                f"tile={self.tile}"
            )

    def _check_hls(self) -> None:
        for name in self.hls:
            if name not in HLS_BLOCKS:
                raise ValueError(
                    f"no block {name!r} by high-level synthesis, there are {', '.join(HLS_BLOCKS)}"
                )
            needs = _HLS_NEEDS.get(name)
            built = getattr(self.blocks, needs) if needs else True
            if not built or (name in FILTERS and name not in self.filters.names):
                raise ValueError(f"hls block {name} is no part of configuration {self.name}")
        if list(self.hls) != [name for name in HLS_BLOCKS if name in self.hls]:
            raise ValueError(
                f"hls blocks {', '.join(self.hls)} must be in the order {', '.join(HLS_BLOCKS)}"
            )

    @property
    def tile(self) -> int:
        """Rows and columns of the MAC array, elements of an on-chip word."""
        return self.geometry.tile

    @property
    def axi_bytes(self) -> int:
        """Bytes of one AXI data beat."""
        return self.memories.axi_data_bits // 8

    @property
    def act_words(self) -> int:
        """Words of the activation scratchpad, all banks."""
        return sum(self.memories.act_banks)

    @property
    def key_tiles(self) -> int:
        """Key tiles of the longest attention row."""
        return self.geometry.max_keys // self.tile

    @property
    def query_blocks(self) -> int:
        """Tile selections kept on chip: one bitmap for each block of ``tile`` query rows.

        Four times the blocks of ``max_rows`` rows: short sequences of a batch end in partial
        blocks, and one head's selection is written while another's is read.
        """
        return 4 * self.geometry.max_rows // self.tile

    @property
    def key_summaries(self) -> int:
        """Sums of key tiles kept on chip for the filters, one for each ``tile`` words of STAT."""
        return self.memories.stat_words // self.tile

    @property
    def key_filters(self) -> tuple[isa.Filter, ...]:
        """The key filters that are built."""
        return tuple(FILTERS[name].kind for name in self.filters.names)

    @property
    def observes(self) -> bool:
        """Whether a filter looks at keys as they are written."""
        return any(FILTERS[name].looks for name in self.filters.names)

    def has(self, opcode: isa.Opcode) -> bool:
        """Whether the block that an opcode needs is built."""
        block = isa.FORMATS[opcode].block
        return block is None or dataclasses.asdict(self.blocks)[block]

    @property
    def built_engines(self) -> tuple[isa.Engine, ...]:
        """The engines that have any instruction to run."""
        engines = {fmt.engine for fmt in isa.FORMATS.values() if self.has(fmt.opcode)}
        return tuple(engine for engine in isa.Engine if engine in engines)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per cycle."""
        return self.tile * self.tile

    @property
    def program_fields(self) -> dict[str, Any]:
        """The fields that programs depend on: all but ``hls``."""
        fields = dataclasses.asdict(self)
        del fields["hls"]
        return fields

    @property
    def digest(self) -> int:
        """32-bit name of this hardware and contract, found in its registers and program files."""
        facts = self.program_fields | {"contract": CONTRACT_VERSION}
        text = json.dumps(facts, sort_keys=True)
        return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)

    def replace(self, **changes: Any) -> Config:
        """A copy with some values changed (checked again), each named without its section.

        Raises
        ------
        ValueError
            If there is no such value, or it is outside its limits.
        """
        parts: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                names = {part.name for part in dataclasses.fields(value)} & set(changes)
                mine = {name: changes.pop(name) for name in names}
                parts[field.name] = dataclasses.replace(value, **mine)
        if unknown := set(changes) - {field.name for field in dataclasses.fields(self)}:
            raise ValueError(f"a configuration has no {', '.join(sorted(unknown))}")
        return dataclasses.replace(self, **(parts | changes))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Config:
        """The inverse of ``dataclasses.asdict`` and of ``program_fields``; lists stand for tuples.

        Raises
        ------
        TypeError, ValueError
            If a value is missing, unknown or outside its limits.
        """
        sections = {
            "geometry": Geometry,
            "memories": Memories,
            "engines": Engines,
            "filters": Filters,
            "blocks": Blocks,
        }
        built = {
            name: section(
                **{k: tuple(v) if isinstance(v, list) else v for k, v in fields[name].items()}
            )
            for name, section in sections.items()
        }
        return cls(**{**fields, **built, "hls": tuple(fields.get("hls", ()))})


_EVERY_FILTER = Filters(names=tuple(FILTERS), estimate_multipliers=2)
_EVERY_BLOCK = Blocks(
    attention=True, activation=True, norm=True, elementwise=True, halves=True, packed=True
)

#: 4x4 MACs: block tests that finish in seconds.
TINY = Config(
    name="tiny",
    geometry=Geometry(
        tile=4,
        dsp_chain=4,
        max_rows=16,
        acc_slots=4,
        max_keys=64,
        max_tokens=64,
        max_hidden=128,
    ),
    memories=Memories(
        act_banks=(192, 192, 192, 192, 192, 192, 192, 256),
        stat_words=1024,
        rowstat_entries=128,
        axi_data_bits=32,
    ),
    engines=Engines(
        epilogue_lanes=2,
        exp_lanes=2,
        vector_lanes=2,
        queue_depth=8,
    ),
    filters=_EVERY_FILTER,
    blocks=_EVERY_BLOCK,
    clock_mhz=100,
)

#: 16x16 INT8 MACs for the XC7Z020 of a PYNQ-Z2 board: two MACs per DSP slice, 100 MHz.
PYNQ_Z2 = Config(
    name="pynq_z2",
    geometry=Geometry(
        tile=16,
        dsp_chain=4,
        max_rows=128,
        acc_slots=4,
        max_keys=1024,
        max_tokens=512,
        max_hidden=1024,
    ),
    memories=Memories(
        act_banks=(1536, 1536, 1536, 1536, 1536, 1536, 1536, 1024),
        stat_words=6144,
        rowstat_entries=512,
        axi_data_bits=128,
    ),
    engines=Engines(
        epilogue_lanes=8,
        exp_lanes=4,
        vector_lanes=8,
        queue_depth=16,
    ),
    filters=_EVERY_FILTER,
    blocks=_EVERY_BLOCK,
    clock_mhz=100,
)

#: The same accelerator on one 64-bit port of the processing system, as the board has it.
PYNQ_Z2_BOARD = PYNQ_Z2.replace(name="pynq_z2_board", axi_data_bits=64)

#: The same array for the XCZU3EG of an Ultra96: one of 32x32 MACs would need 512 of its 360 DSP
#: slices. Ports of its processing system have 128 bits.
ULTRA96 = PYNQ_Z2.replace(name="ultra96")

#: 32x32 INT8 MACs for the XCK26 of a Kria KV260. Each bank of the activation scratchpad fills eight
#: UltraRAMs, which are 4,096 words deep; the rest is block RAM.
KV260 = PYNQ_Z2.replace(
    name="kv260",
    tile=32,
    act_banks=(4096,) * 8,
    axi_data_bits=256,
    epilogue_lanes=32,
    exp_lanes=8,
    vector_lanes=16,
)

#: The same accelerator on one 128-bit port of the processing system, as the board has it.
KV260_BOARD = KV260.replace(name="kv260_board", axi_data_bits=128)

#: 8x8 INT8 MACs for an ECP5-85F. The activation scratchpad holds half of the rows of 512x512 beside
#: their results, so that the other operand is read twice.
ULX3S = Config(
    name="ulx3s",
    geometry=Geometry(
        tile=8,
        dsp_chain=1,
        max_rows=64,
        acc_slots=2,
        max_keys=256,
        max_tokens=256,
        max_hidden=512,
    ),
    memories=Memories(
        act_banks=(2560,) * 4 + (2048,) * 4,
        stat_words=2048,
        rowstat_entries=256,
        axi_data_bits=64,
    ),
    engines=Engines(
        epilogue_lanes=2,
        exp_lanes=2,
        vector_lanes=2,
        queue_depth=8,
    ),
    filters=Filters(names=("dense", "causal"), estimate_multipliers=1),
    blocks=dataclasses.replace(_EVERY_BLOCK, halves=False, packed=False),
    clock_mhz=35,
)

#: The same array as a ULX3S board has it, whose 64 KiB of memory are block RAM, too.
ULX3S_BOARD = ULX3S.replace(name="ulx3s_board", act_banks=(512,) * 8)

PRESETS = {
    cfg.name: cfg
    for cfg in (
        *(TINY, PYNQ_Z2, PYNQ_Z2_BOARD, ULTRA96),
        *(KV260, KV260_BOARD, ULX3S, ULX3S_BOARD),
    )
}


def preset(name: str) -> Config:
    """The named configuration.

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown configuration {name!r}, the presets are {', '.join(PRESETS)}")
    return PRESETS[name]
