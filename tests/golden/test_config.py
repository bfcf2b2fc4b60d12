"""What a configuration derives and refuses."""

import dataclasses
import json

import pytest

from transept.golden import isa
from transept.golden.config import (
    HLS_BLOCKS,
    PRESETS,
    PYNQ_Z2,
    TINY,
    Blocks,
    Config,
    Filters,
    preset,
)
from transept.golden.isa import Engine, Filter, Opcode


def filters(*names, multipliers=2):
    return {"filters": Filters(names=names, estimate_multipliers=multipliers)}


def blocks(**built):
    return {"blocks": dataclasses.replace(TINY.blocks, **built)}


#: Every stored number of the presets, by its section's order.
STORED = {
    "tiny": {
        "geometry": (4, 4, 16, 4, 64, 64, 128),
        "memories": ((*[192] * 7, 256), 1024, 128, 32),
        "engines": (2, 2, 2, 8),
    },
    "pynq_z2": {
        "geometry": (16, 4, 128, 4, 1024, 512, 1024),
        "memories": ((*[1536] * 7, 1024), 6144, 512, 128),
        "engines": (8, 4, 8, 16),
    },
    "pynq_z2_board": {
        "geometry": (16, 4, 128, 4, 1024, 512, 1024),
        "memories": ((*[1536] * 7, 1024), 6144, 512, 64),
        "engines": (8, 4, 8, 16),
    },
    "ultra96": {
        "geometry": (16, 4, 128, 4, 1024, 512, 1024),
        "memories": ((*[1536] * 7, 1024), 6144, 512, 128),
        "engines": (8, 4, 8, 16),
    },
    "kv260": {
        "geometry": (32, 4, 128, 4, 1024, 512, 1024),
        "memories": ((4096,) * 8, 6144, 512, 256),
        "engines": (32, 8, 16, 16),
    },
    "kv260_board": {
        "geometry": (32, 4, 128, 4, 1024, 512, 1024),
        "memories": ((4096,) * 8, 6144, 512, 128),
        "engines": (32, 8, 16, 16),
    },
    "ulx3s": {
        "geometry": (8, 1, 64, 2, 256, 256, 512),
        "memories": ((2560,) * 4 + (2048,) * 4, 2048, 256, 64),
        "engines": (2, 2, 2, 8),
    },
    "ulx3s_board": {
        "geometry": (8, 1, 64, 2, 256, 256, 512),
        "memories": ((512,) * 8, 2048, 256, 64),
        "engines": (2, 2, 2, 8),
    },
}
EVERY_FILTER = (("dense", "causal", "tile_threshold", "window"), 2)
#: What differs in one preset.
FILTERS = dict.fromkeys(("ulx3s", "ulx3s_board"), (("dense", "causal"), 1))
CLOCKS = dict.fromkeys(("ulx3s", "ulx3s_board"), 35)


def test_presets_are_those_that_are_pinned():
    for name, sections in STORED.items():
        config = preset(name)
        for section, numbers in sections.items():
            assert dataclasses.astuple(getattr(config, section)) == numbers, name
        assert config.filters == Filters(
            **dict(
                zip(("names", "estimate_multipliers"), FILTERS.get(name, EVERY_FILTER), strict=True)
            )
        )
        blocks = {field.name: True for field in dataclasses.fields(Blocks)}
        if name.startswith("ulx3s"):
            blocks |= {"halves": False, "packed": False}
        assert config.blocks == Blocks(**blocks)
        assert (config.name, config.clock_mhz) == (name, CLOCKS.get(name, 100))
    assert list(PRESETS) == list(STORED)


def test_sizes_that_follow_of_the_presets():
    names = ("act_words", "key_tiles", "query_blocks", "key_summaries", "axi_bytes", "macs")
    assert [getattr(TINY, name) for name in names] == [1600, 16, 16, 256, 4, 16]
    assert [getattr(PYNQ_Z2, name) for name in names] == [11776, 64, 32, 384, 16, 256]


def test_a_cascade_is_one_of_dsp_slices():
    chains = {chain: TINY.replace(dsp_chain=chain).geometry.has_dsp_slices for chain in (1, 2, 4)}
    assert chains == {1: False, 2: True, 4: True}


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_derived_values(config):
    assert preset(config.name) is config
    assert config.act_words == sum(config.memories.act_banks)
    assert config.macs == config.tile**2
    assert config.key_tiles * config.tile == config.geometry.max_keys
    assert config.query_blocks * config.tile >= config.geometry.max_rows
    assert config.axi_bytes * 8 == config.memories.axi_data_bits
    assert 0 <= config.digest < 1 << 32


def test_digest_names_the_hardware():
    assert TINY.digest != PYNQ_Z2.digest
    assert TINY.digest == TINY.replace().digest
    assert TINY.digest != TINY.replace(acc_slots=8).digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile": 12}, "tile must be a power of two, got 12"),
        ({"epilogue_lanes": 0}, "epilogue_lanes must be a power of two, got 0"),
        ({"exp_lanes": 8}, "exp_lanes=8 exceeds tile=4"),
        ({"axi_data_bits": 64}, "axi_data_bits=64 must be 32 to 32"),
        ({"axi_data_bits": 16}, "axi_data_bits=16 must be 32 to 32"),
        (
            {"axi_data_bits": 1024, "tile": 64, "max_rows": 64},
            "axi_data_bits=1024 must be 32 to 512",
        ),
        ({"dsp_chain": 0}, "dsp_chain=0 must divide tile=4 and be at most 4"),
        ({"dsp_chain": 3}, "dsp_chain=3 must divide tile=4"),
        ({"dsp_chain": 8, "tile": 8}, "dsp_chain=8 must divide tile=8 and be at most 4"),
        ({"max_rows": 2}, "max_rows must be a power of two >= tile, got 2"),
        ({"max_rows": 24}, "max_rows must be a power of two >= tile, got 24"),
        ({"max_keys": 66}, "max_keys=66 must be a multiple of tile=4"),
        ({"max_keys": 4100}, "max_keys=4100 exceeds the 4096 of an accumulator"),
        ({"tile": 128, "max_rows": 128, "max_keys": 128}, "tile=128 exceeds 64, the phases"),
        (filters("nope"), "unknown key filter 'nope', there are dense, causal"),
        (filters("causal", "dense"), "key filters causal, dense must be in the order dense"),
        (filters("dense", "dense"), "key filters dense, dense must be in the order"),
        (filters("dense", multipliers=3), "estimate_multipliers must be a power of two, got 3"),
        (filters("dense", multipliers=4), "estimate_multipliers=4 exceeds half of tile=4"),
        (filters(), "attention=True with 0 key filters"),
        (blocks(attention=False), "attention=False with 4 key filters"),
        (blocks(norm=False), "elementwise=True with norm=False: both are one unit"),
        ({"tile": 64, "max_rows": 64, "axi_data_bits": 512}, "packed=True with tile=64: a word"),
        ({"stat_words": 1020}, "packed=True with stat_words=1020: two halves .* a multiple of 8"),
        ({"name": "../../evil"}, "name must be an identifier, got '../../evil'"),
        ({"vector_lanes": 3}, "vector_lanes must be a power of two, got 3"),
        ({"colour": 1, "banks": 2}, "a configuration has no banks, colour"),
        ({"hls": ("nope",)}, "no block 'nope' by high-level synthesis, there are exponential"),
        ({"hls": ("rsqrt", "exponential")}, "hls blocks rsqrt, exponential must be in the order"),
        ({"hls": ("rsqrt", "rsqrt")}, "hls blocks rsqrt, rsqrt must be in the order exponential"),
        (
            {"hls": ("window",), **filters("dense", "causal")},
            "hls block window is no part of configuration tiny",
        ),
        (
            {"hls": ("interpolation",), **blocks(activation=False)},
            "hls block interpolation is no part of configuration tiny",
        ),
        ({"name": ""}, "name must be an identifier, got ''"),
        ({"name": 3}, "name must be an identifier, got 3"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        *({lanes: 4} for lanes in ("epilogue_lanes", "exp_lanes", "vector_lanes")),
        *({lanes: 1} for lanes in ("epilogue_lanes", "exp_lanes", "vector_lanes")),
        {"dsp_chain": 1},
        {"dsp_chain": 2},
        {"max_rows": 4},
        {"max_keys": 4},
        {"tile": 8, "axi_data_bits": 64},
        {"tile": 32, "max_rows": 32, "axi_data_bits": 256},
        {"tile": 64, "max_rows": 64, "axi_data_bits": 512, **blocks(packed=False)},
        filters("dense", multipliers=1),
        {"queue_depth": 3},
    ],
)
def test_values_at_their_limits_are_taken(changes):
    config = TINY.replace(**changes)
    found = dataclasses.asdict(config)
    flat = {
        key: value
        for part in found.values()
        if isinstance(part, dict)
        for key, value in part.items()
    }
    expected = {k: value for k, value in changes.items() if k not in ("filters", "blocks")}
    assert flat.items() >= expected.items()


def test_blocks_bring_opcodes_and_engines():
    assert {opcode for opcode in Opcode if TINY.has(opcode)} == set(Opcode)
    assert TINY.built_engines == tuple(Engine)
    plain = TINY.replace(
        name="plain",
        **blocks(attention=False, norm=False, elementwise=False, halves=False, packed=False),
        **filters(),
    )
    assert {opcode for opcode in Opcode if not plain.has(opcode)} == {
        Opcode.SCORES,
        Opcode.CONTEXT,
        Opcode.SOFTMAX,
        Opcode.NORM,
        Opcode.ELEMENTWISE,
    }
    assert plain.built_engines == (Engine.LOAD, Engine.GEMM, Engine.STORE)
    assert {fmt.block for fmt in isa.FORMATS.values()} == {None, "attention", "norm", "elementwise"}


def test_filters_are_chosen_by_name():
    assert TINY.key_filters == tuple(Filter)
    assert TINY.observes
    some = TINY.replace(name="some", **filters("dense", "window"))
    assert some.key_filters == (Filter.DENSE, Filter.WINDOW)
    assert not some.observes
    assert some.digest != TINY.digest


def test_a_configuration_survives_as_text():
    fields = json.loads(json.dumps(dataclasses.asdict(PYNQ_Z2)))
    assert Config.from_fields(fields) == PYNQ_Z2


def test_how_blocks_are_made_is_no_part_of_the_contract():
    every = PYNQ_Z2.replace(hls=HLS_BLOCKS)
    assert every != PYNQ_Z2
    assert every.digest == PYNQ_Z2.digest
    assert every.program_fields == PYNQ_Z2.program_fields
    assert Config.from_fields(json.loads(json.dumps(every.program_fields))) == PYNQ_Z2
    assert Config.from_fields(json.loads(json.dumps(dataclasses.asdict(every)))) == every
    # what stands in program files and registers
    assert (TINY.digest, PYNQ_Z2.digest) == (0x4DD13430, 0x3752E266)


def test_unknown_preset():
    with pytest.raises(ValueError, match="'zcu102', the presets are tiny, pynq_z2"):
        preset("zcu102")
