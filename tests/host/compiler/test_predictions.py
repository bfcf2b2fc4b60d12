"""Guards: predicted cycles and instructions of ten shapes at full size."""

import re
from typing import NamedTuple

import pytest
from shapes import SHAPES


class Pin(NamedTuple):
    cycles: int
    instructions: int


PINS = {
    "MiniLM 128 x 1": Pin(5_623_663, 8_711),
    "MiniLM 32 x 4": Pin(5_401_231, 9_503),
    "two layers of MiniLM, 32 x 1": Pin(469_591, 1_244),
    "two layers of MiniLM, 64 x 1": Pin(920_147, 2_144),
    "a layer of MiniLM, 256 x 1": Pin(1_995_513, 3_043),
    "a layer of MiniLM, 512 x 1": Pin(4_426_239, 6_823),
    "a layer of BERT-base, 128 x 1": Pin(3_712_971, 6_645),
    "a layer of GPT-2, 128 x 1": Pin(3_651_579, 5_618),
    "a layer of DeiT-S, 197 x 1": Pin(1_510_639, 3_980),
    "Lu et al. 2020, 64 x 1": Pin(814_669, 2_257),
}
#: Cycles that the first compiler's hand-written orders took on the RTL, memory ``default``.
BY_HAND = {"MiniLM 128 x 1": 5_653_474}
#: Shares by which a prediction may grow, or fall without being pinned anew.
CYCLES, INSTRUCTIONS = 0.002, 0.01


def verdict(name: str, pin: Pin, found: Pin) -> str:
    """What is wrong with a prediction; empty if nothing is."""
    line = f'"{name}": Pin({found.cycles:_}, {found.instructions:_}),'
    if found.cycles > pin.cycles * (1 + CYCLES):
        return f"{name} takes {found.cycles} cycles, no more than {pin.cycles} before"
    if found.instructions > pin.instructions * (1 + INSTRUCTIONS):
        return (
            f"{name} has {found.instructions} instructions, no more than {pin.instructions} before"
        )
    if found.cycles < pin.cycles * (1 - CYCLES):
        return f"{name} got faster: keep that by the line\n    {line}"
    return ""


@pytest.mark.parametrize("name", SHAPES)
def test_predictions_do_not_grow(name):
    executable = SHAPES[name].compiled()
    found = Pin(executable.predicted_cycles, len(executable.labels))
    assert not (wrong := verdict(name, PINS[name], found)), wrong


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Pin(1_003_000, 1000), "takes 1003000 cycles"),
        (Pin(1_000_000, 1011), "has 1011 instructions"),
        (Pin(997_000, 1000), r"Pin\(997_000, 1_000\)"),
        (Pin(1_001_000, 1009), "^$"),
        (Pin(999_000, 900), "^$"),
    ],
)
def test_what_the_guard_says(found, says):
    assert re.search(says, verdict("shape", Pin(1_000_000, 1000), found))


def test_every_shape_is_pinned():
    assert set(PINS) == set(SHAPES)


@pytest.mark.parametrize("name", BY_HAND)
def test_no_order_by_hand_was_faster(name):
    assert SHAPES[name].compiled().predicted_cycles <= BY_HAND[name]
