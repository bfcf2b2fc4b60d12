"""The register table is well formed, and its lookups say what they found."""

import pytest

from transept.golden import isa, registers
from transept.golden.config import CONTRACT_VERSION, PRESETS, PYNQ_Z2, TINY, Blocks, Filters
from transept.golden.registers import Access, ErrorCode, Stall, Unit


@pytest.mark.parametrize("cfg", PRESETS.values(), ids=PRESETS)
def test_offsets_and_fields_do_not_overlap(cfg):
    entries = registers.table(cfg)
    offsets = [at for entry in entries for at in entry.offsets]
    assert offsets == sorted(set(offsets))
    assert all(at % 4 == 0 and at < 1 << registers.ADDRESS_BITS for at in offsets)
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        taken = 0
        for field in entry.fields:
            mask = ((1 << field.width) - 1) << field.low
            assert not taken & mask, entry.name
            taken |= mask
        assert taken < 1 << 32
        assert entry.constant is None or entry.access is Access.RO


def test_the_address_space_is_one_page():
    """What a processor maps, and no more wires than it has addresses."""
    assert 1 << registers.ADDRESS_BITS == 4096


def test_names_and_offsets_are_those_of_every_configuration():
    tiny, board = registers.table(TINY), registers.table(PYNQ_Z2)
    assert [(r.name, r.offset) for r in tiny] == [(r.name, r.offset) for r in board]


def test_a_driver_finds_what_the_hardware_is():
    facts = {r.name: r.constant for r in registers.table(PYNQ_Z2) if r.constant is not None}
    assert facts == {
        "ID": 0x5452414E,
        "CONTRACT": CONTRACT_VERSION,
        "CONFIG": PYNQ_Z2.digest,
        "CLOCK_MHZ": 100,
        "FEATURES": 0x000F007F,
        "TILE": 16,
        "ACT_WORDS": 11776,
        "ACT_BANKS": 8,
        "STAT_WORDS": 6144,
        "MAX_ROWS": 128,
        "ACC_SLOTS": 4,
        "ROWSTAT_ENTRIES": 512,
        "MAX_KEYS": 1024,
        "MAX_TOKENS": 512,
        "MAX_HIDDEN": 1024,
        "EPILOGUE_LANES": 8,
        "EXP_LANES": 4,
        "VECTOR_LANES": 8,
        "AXI_DATA_BITS": 128,
        "QUEUE_DEPTH": 16,
    }


def test_the_watchdog_waits_twice_as_long_as_the_longest_instruction_takes():
    """A MATMUL of all rows and 255 x 255 tiles."""
    assert registers.watchdog_default(TINY) == 2 * 16 * 255 * 255
    assert registers.watchdog_default(PYNQ_Z2) == 2 * 128 * 255 * 255


def test_bits_that_a_write_keeps():
    """All but those that act once; none of what is read only."""
    names = ("CONTROL", "IRQ", "STATUS", "ERROR", "PROGRAM_OFFSET", "WATCHDOG_LIMIT", "CLIPPED")
    assert {name: registers.find(name).stored for name in names} == {
        "CONTROL": 0b100,
        "IRQ": 0b11,
        "STATUS": 0,
        "ERROR": 0,
        "PROGRAM_OFFSET": 0xFFFFFFFF,
        "WATCHDOG_LIMIT": 0xFFFFFFFF,
        "CLIPPED": 0,
    }


def test_numbers_without_a_name_stay_numbers():
    every = {"window": isa.Window.SCRATCH, "rule": 255}
    assert registers.decode("ERROR", 0xFFFFFFFF) == {"code": 15, "engine": Unit.CONTROL, **every}
    assert registers.decode("WATCHDOG", 0xFFFFFFFF) == {
        "fired": 1,
        "engine": Unit.CONTROL,
        "stall": 7,
        "busy": 0xFFF,
        "waiting": 0xFFF,
    }


def test_units_are_engines_and_control():
    assert [unit.name for unit in Unit] == [*(engine.name for engine in isa.Engine), "CONTROL"]
    assert max(Unit) < 1 << registers.UNIT_BITS
    assert max(Stall) < 1 << registers.STALL_BITS
    assert len(isa.Engine) <= registers.ENGINE_BITS


def test_features_are_bits_of_their_own():
    flags = [int(flag) for flag in registers.Feature]
    assert len(set(flags)) == len(flags)
    assert all(flag & (flag - 1) == 0 for flag in flags)
    assert registers.features(TINY) == sum(flags)
    filters = [flag for flag in registers.Feature if flag.name.startswith("FILTER_")]
    assert [flag.name.removeprefix("FILTER_") for flag in filters] == [f.name for f in isa.Filter]


def test_what_is_not_built_is_no_feature():
    blocks = Blocks(
        attention=False, activation=False, norm=False, elementwise=False, halves=False, packed=False
    )
    bare = TINY.replace(
        name="bare", blocks=blocks, filters=Filters(names=(), estimate_multipliers=2)
    )
    assert registers.features(bare) == registers.Feature.WATCHDOG
    causal = TINY.replace(name="causal", filters=Filters(names=("causal",), estimate_multipliers=2))
    assert registers.Feature.FILTER_CAUSAL in registers.features(causal)
    assert registers.Feature.FILTER_DENSE not in registers.features(causal)


def test_elements_of_an_array():
    assert registers.offset("CLIPPED", 3) == registers.offset("CLIPPED") + 12
    with pytest.raises(IndexError):
        registers.offset("CLIPPED", isa.TALLIES)


def test_decode_and_encode_are_inverse():
    value = registers.encode("ERROR", code=ErrorCode.WINDOW, engine=Unit.STORE, window=3, rule=7)
    assert (value, registers.encode("ERROR")) == (0x00070341, 0)
    fields = registers.decode("ERROR", value)
    names = {"code": ErrorCode.WINDOW, "engine": Unit.STORE, "window": isa.Window.SCRATCH}
    assert fields == names | {"rule": 7}
    report = registers.encode("WATCHDOG", stall=Stall.FILTER, engine=Unit.CONTROL)
    assert registers.decode("WATCHDOG", report)["stall"] is Stall.FILTER
    assert registers.decode("WATCHDOG", report)["engine"] is Unit.CONTROL


def test_lookups_refuse_what_does_not_exist():
    with pytest.raises(KeyError, match="no register 'NOPE'"):
        registers.offset("NOPE")
    with pytest.raises(KeyError, match="no field 'stop'"):
        registers.encode("CONTROL", stop=1)
    for value in (2, -1):
        with pytest.raises(ValueError, match=rf"CONTROL\.start={value} needs 1 bits"):
            registers.encode("CONTROL", start=value)
