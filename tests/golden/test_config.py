"""What a configuration derives and refuses."""

import pytest

from transept.golden.config import PRESETS, PYNQ_Z2, TINY, preset


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
        ({"dsp_chain": 3}, "dsp_chain=3 must divide tile=4"),
        ({"max_rows": 2}, "max_rows must be a power of two >= tile, got 2"),
        ({"max_rows": 24}, "max_rows must be a power of two >= tile, got 24"),
        ({"max_keys": 66}, "max_keys=66 must be a multiple of tile=4"),
        ({"name": "../../evil"}, "name must be an identifier, got '../../evil'"),
        ({"name": ""}, "name must be an identifier, got ''"),
        ({"name": 3}, "name must be an identifier, got 3"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**changes)


def test_unknown_preset():
    with pytest.raises(ValueError, match="'zcu102', the presets are tiny, pynq_z2"):
        preset("zcu102")
