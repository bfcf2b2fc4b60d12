"""Every field of every opcode survives encode, decode and disassembly."""

import copy
import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transept.golden import isa
from transept.golden.isa import FORMATS, Engine, Instruction, Opcode, Window


def _limits(field: isa.Field) -> tuple[int, int]:
    if field.enum:
        return min(field.enum), max(field.enum)
    if field.signed:
        return -(1 << (field.width - 1)), (1 << (field.width - 1)) - 1
    return 0, (1 << field.width) - 1


def _engines(rng: random.Random) -> frozenset[Engine]:
    return frozenset(engine for engine in Engine if rng.random() < 0.3)


def random_instruction(opcode: Opcode, rng: random.Random) -> Instruction:
    operands = {}
    for field in FORMATS[opcode].fields:
        low, high = _limits(field)
        value = rng.choice([low, high, rng.randint(low, high)])
        operands[field.name] = field.enum(value) if field.enum else value
    return Instruction(opcode, operands, _engines(rng), _engines(rng))


@pytest.mark.parametrize("opcode", Opcode)
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1 << 32))
def test_roundtrip(opcode, seed):
    new = random_instruction(opcode, random.Random(seed))
    data = isa.encode(new)
    assert len(data) == isa.INSTRUCTION_BYTES
    assert isa.decode(data) == new


@pytest.mark.parametrize("opcode", Opcode)
def test_disassembly_names_every_operand(opcode):
    new = random_instruction(opcode, random.Random(opcode))
    name, *parts = isa.disassemble(new).split()
    assert name == opcode.name
    shown = dict(part.split("=") for part in parts)
    for engines, title in ((new.wait, "wait"), (new.signal, "signal")):
        assert {e.name for e in engines} == set(filter(None, shown.pop(title, "").split(",")))
    for field in FORMATS[opcode].fields:
        value = new.operands[field.name]
        if field.enum:
            assert shown.pop(field.name) == value.name
        else:
            assert int(shown.pop(field.name, 0)) == value
    assert not shown
    assert str(new) == isa.disassemble(new)


@pytest.mark.parametrize("opcode", Opcode)
def test_fields_do_not_overlap(opcode):
    taken = (1 << 32) - 1
    for field, low in FORMATS[opcode].offsets():
        mask = ((1 << field.width) - 1) << low
        assert not taken & mask
        taken |= mask
    assert taken.bit_length() <= 8 * isa.INSTRUCTION_BYTES


def test_header_is_the_first_four_bytes():
    new = Instruction(Opcode.END, {}, frozenset({Engine.LOAD}), frozenset({Engine.STORE}))
    assert isa.encode(new)[:4] == bytes([0, 0x01, 0x00, 0x01])
    assert sum(field.width for field in isa.HEADER) == 32


@pytest.mark.parametrize("opcode", [o for o in Opcode if FORMATS[o].fields])
def test_values_beyond_a_field_are_refused(opcode):
    new = random_instruction(opcode, random.Random(0))
    for field in FORMATS[opcode].fields:
        for value in (-(1 << field.width), 1 << field.width):
            wrong = Instruction(opcode, {**new.operands, field.name: value})
            with pytest.raises(ValueError, match=f"{field.name}=.* is outside"):
                isa.encode(wrong)


@pytest.mark.parametrize(
    ("signed", "least", "most", "last"), [(False, 0, 31, 31), (True, -16, 15, -1)]
)
def test_the_limits_of_a_field(signed, least, most, last):
    field = isa.Field("shift", 5, "", signed=signed)
    assert (field.least, field.most, field.mask) == (least, most, 31)
    for value in (least, most, 0, last):
        assert 0 <= field.check(value) <= 31
        assert field.extract(0x60 | field.check(value)) == value
    assert field.extract(0b11111) == last
    for value in (least - 1, most + 1):
        message = f"field shift={value} is outside {least} to {most}"
        with pytest.raises(ValueError, match=message):
            field.check(value)


def test_a_format_finds_its_fields():
    fmt = FORMATS[Opcode.SOFTMAX]
    places = {field.name: fmt.place(field.name) for field in fmt.fields}
    assert places == {field.name: (field, low) for field, low in fmt.offsets()}
    assert [low for _, low in places.values()] == [32, 40, 48, 64, 80, 92, 104, 116]
    with pytest.raises(KeyError, match="SOFTMAX has no operand 'tally'"):
        fmt.place("tally")


def test_missing_and_unknown_operands_are_refused():
    with pytest.raises(ValueError, match="needs operand rows"):
        isa.encode(Instruction(Opcode.SOFTMAX, {}))
    with pytest.raises(ValueError, match="END has no operand colour"):
        isa.encode(Instruction(Opcode.END, {"colour": 1}))
    with pytest.raises(AttributeError, match="END has no operand 'rows'"):
        _ = Instruction(Opcode.END, {}).rows


def pickled(value):
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
def test_instructions_can_be_copied(duplicate):
    new = random_instruction(Opcode.MATMUL, random.Random(0))
    assert duplicate(new) == new


def test_undecodable_bytes():
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        isa.decode(bytes(31))
    with pytest.raises(ValueError, match="unknown opcode 0xff"):
        isa.decode(b"\xff" + bytes(31))
    with pytest.raises(ValueError, match="not a multiple of 32"):
        isa.decode_program(bytes(33))
    with pytest.raises(ValueError, match="instruction 1: unknown opcode 0x2a"):
        isa.decode_program(bytes(32) + b"\x2a" + bytes(31))


@pytest.mark.parametrize("opcode", Opcode)
def test_reserved_bits_are_refused(opcode):
    data = isa.encode(random_instruction(opcode, random.Random(0)))
    bits = int.from_bytes(data, "little")
    used = FORMATS[opcode].used
    for bit in {used, 255} if used < 256 else {}:
        with pytest.raises(
            ValueError, match=f"{opcode.name} has reserved bits set, from bit {used}"
        ):
            isa.decode((bits | 1 << bit).to_bytes(32, "little"))


@pytest.mark.parametrize(("name", "low"), [("wait", 8), ("signal", 20)])
def test_masks_name_engines_alone(name, low):
    for engine in range(len(Engine), 12):
        with pytest.raises(ValueError, match=f"{name} mask 0x.* has bits"):
            isa.decode((1 << low + engine).to_bytes(32, "little"))


def test_operands_are_found_by_name():
    assert isa.operand(Opcode.SCORES, "parameter").width == 24
    with pytest.raises(KeyError, match="END has no operand 'rows'"):
        isa.operand(Opcode.END, "rows")


def test_program_roundtrip():
    rng = random.Random(0)
    program = [random_instruction(opcode, rng) for opcode in Opcode]
    assert isa.decode_program(isa.encode_program(program)) == program


def test_engines_of_opcodes():
    assert FORMATS[Opcode.END].engine is None
    assert Instruction(Opcode.SCORES, {}).engine == Engine.GEMM
    assert {fmt.engine for fmt in FORMATS.values()} == {None, *Engine}
    assert len(Window) == 4


def test_a_format_too_long_is_refused():
    field = isa.Field("wide", isa.BODY_BITS + 1, "too much")
    with pytest.raises(ValueError, match="END uses 225 of 224 body bits"):
        isa.Format(Opcode.END, None, "", (field,))
