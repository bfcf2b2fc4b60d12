"""The steps of a walk are the rules; what is no condition or source of one is named."""

import random

import pytest
from amaranth import Signal

from transept.golden import isa
from transept.golden.config import KV260, PYNQ_Z2, TINY, ULX3S
from transept.golden.isa import Opcode
from transept.golden.rules import Choice, Power, Tiles, rules
from transept.rtl.control.legality import A_BITS, B_BITS, SUM_BITS
from transept.rtl.control.walk import Walk, _source, condition, factor_value


def bits(word, place):
    low, width = place
    return word >> low & ((1 << width) - 1)


def factor(word, source):
    """``factor_value`` of a number."""
    match source:
        case int():
            return source
        case ("bits", place):
            return bits(word, place)
        case ("times", inner, scale):
            return factor(word, inner) * scale
        case ("tiles", counts, shift, plus):
            return (sum(bits(word, place) for place in counts) + plus) >> shift
        case ("choice", place, values):
            return values[bits(word, place)]
        case ("power", place):
            return 1 << (bits(word, place) - 1).bit_length()
    raise AssertionError(source)


def met(word, when):
    """``condition`` of a number."""
    match when:
        case ("equals", guards):
            return not guards or any(bits(word, place) == one for place, one in guards)
        case ("some", place, guards):
            return bits(word, place) > 0 and met(word, ("equals", guards))
        case ("table", places, wrong):
            index = shift = 0
            for place in places:
                index |= bits(word, place) << shift
                shift += place[1]
            return wrong[index]
    raise AssertionError(when)


def verdicts(walk, opcode, word):
    """Which rules of an opcode the walk finds broken, one after the other."""
    broken, total = [], 0
    for step in walk.steps[walk.starts[opcode] :]:
        a, b = factor(word, step.a), factor(word, step.b)
        assert -(1 << A_BITS - 1) <= a < 1 << A_BITS - 1
        assert -(1 << B_BITS - 1) <= b < 1 << B_BITS - 1
        total = (total if step.begin is None else step.begin) + a * b
        assert -(1 << SUM_BITS - 1) <= total < 1 << SUM_BITS - 1
        if step.ends:
            broken.append(bool(met(word, step.when) and (total < 0) == step.least))
        if step.final:
            return broken
    raise AssertionError("a walk without end")


def names(one):
    """The operands of a factor."""
    match one:
        case str() | Choice() | Power():
            return (getattr(one, "operand", one),)
        case Tiles(counts, _, _):
            return counts
    return ()


def most_of(field, chosen):
    """The largest value of an operand that a choice has a meaning for."""
    return len(chosen[field.name]) - 1 if field.name in chosen else (1 << field.width) - 1


def borders(rule, fields, chosen, rng):
    """Operands on either side of where a rule begins or ceases to be broken."""
    own = [name for term in rule.terms for one in term for name in names(one)] + list(
        names(rule.most)
    )
    for name in sorted({*own, *(name for name, _ in rule.when)}):
        most = {field: most_of(fields[field], chosen) for field in fields}
        operands = {
            field: rng.randint(0, rng.choice([end, min(3, end)])) for field, end in most.items()
        }
        if rule.when:
            guard, wanted = rng.choice(rule.when)
            operands[guard] = int(wanted)
        low, high = 0, most[name]
        first = bool(rule.breaks(operands | {name: low}))
        while high - low > 1:
            middle = (low + high) // 2
            if bool(rule.breaks(operands | {name: middle})) == first:
                low = middle
            else:
                high = middle
        for value in {low, high}:
            yield operands | {name: value}


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2, ULX3S, KV260], ids=lambda cfg: cfg.name)
def test_a_walk_says_what_the_rules_say(cfg):
    """On both sides of every border, with factors and sums that fit into a DSP slice."""
    rng, walk, found = random.Random(cfg.tile), Walk(cfg), []
    table = rules(cfg)
    assert walk.starts.keys() == table.keys()
    for opcode, some in table.items():
        fields = {field.name: field for field in isa.FORMATS[opcode].fields}
        chosen = {
            one.operand: one.values
            for rule in some
            for one in (rule.most, *(one for term in rule.terms for one in term))
            if isinstance(one, Choice)
        }
        for rule in some:
            for operands in borders(rule, fields, chosen, rng):
                word = sum(
                    operands[field.name] << low for field, low in isa.FORMATS[opcode].offsets()
                )
                wanted = [bool(one.breaks(operands)) for one in some]
                assert verdicts(walk, opcode, word) == wanted, (opcode, operands)
                found.append(wanted[some.index(rule)])
    assert 0.2 < sum(found) / len(found) < 0.8


@pytest.mark.parametrize("when", [(), ("never",), ("equals",), ("some", (0, 4))])
def test_what_is_no_condition_is_named(when):
    with pytest.raises(TypeError, match="is no condition"):
        condition(Signal(256), when)


def test_what_is_no_operand_is_named():
    with pytest.raises(TypeError, match="3 is no operand"):
        _source(Opcode.MATMUL, 3)


@pytest.mark.parametrize("source", [(), ("never", (0, 4)), ("bits",)])
def test_what_is_no_source_is_named(source):
    with pytest.raises(TypeError, match="is no source"):
        factor_value(Signal(256), source)
