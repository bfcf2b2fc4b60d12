"""The register table is well formed, and its lookups say what they found."""

import pytest

from transept.golden import isa, registers
from transept.golden.config import PRESETS, PYNQ_Z2, TINY
from transept.golden.registers import Access, ErrorCode, Stall, Unit


@pytest.mark.parametrize("cfg", PRESETS.values(), ids=PRESETS)
def test_offsets_and_fields_do_not_overlap(cfg):
    entries = registers.table(cfg)
    offsets = [entry.offset for entry in entries]
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


def test_names_and_offsets_are_those_of_every_configuration():
    tiny, board = registers.table(TINY), registers.table(PYNQ_Z2)
    assert [(r.name, r.offset) for r in tiny] == [(r.name, r.offset) for r in board]


def test_a_driver_finds_the_geometry():
    facts = {r.name: r.constant for r in registers.table(PYNQ_Z2)}
    assert (facts["TILE"], facts["ACT_WORDS"]) == (16, PYNQ_Z2.act_words)
    assert facts["CONFIG"] == PYNQ_Z2.digest


def test_units_are_engines_and_control():
    assert [unit.name for unit in Unit] == [*(engine.name for engine in isa.Engine), "CONTROL"]


def test_decode_and_encode_are_inverse():
    value = registers.encode("ERROR", code=ErrorCode.WINDOW, engine=Unit.STORE, window=3)
    fields = registers.decode("ERROR", value)
    assert fields == {"code": ErrorCode.WINDOW, "engine": Unit.STORE, "window": isa.Window.SCRATCH}
    assert registers.decode("WATCHDOG", Stall.FILTER << 8)["stall"] is Stall.FILTER


def test_lookups_refuse_what_does_not_exist():
    with pytest.raises(KeyError, match="no register 'NOPE'"):
        registers.offset("NOPE")
    with pytest.raises(KeyError, match="no field 'stop'"):
        registers.encode("CONTROL", stop=1)
    with pytest.raises(ValueError, match=r"CONTROL\.start=2 needs 1 bits"):
        registers.encode("CONTROL", start=2)
