"""The steps of a walk are the rules; what is no condition or source of one is named."""

import random

import pytest
from amaranth import Module, Signal, Value
from amaranth.sim import Simulator

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


def test_the_factors_are_those_of_a_dsp_slice():
    assert (A_BITS, B_BITS) == (25, 18)


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


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2, ULX3S, KV260], ids=lambda cfg: cfg.name)
def test_a_row_of_the_table_is_its_step(cfg):
    walk = Walk(cfg)
    for step in walk.steps:
        row = walk.row(step)
        a = row.factor if row.a_fixed else walk.a[row.a]
        b = row.factor if row.b_fixed else walk.b[row.b]
        begin = row.begin if row.begins else None
        verdict = (bool(row.ends), bool(row.least), walk.when[row.when], bool(row.final))
        assert (a, b, begin, *verdict) == step


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2, ULX3S, KV260], ids=lambda cfg: cfg.name)
def test_operands_that_begin_at_the_same_bit_are_neighbours(cfg):
    """One bit of the index tells the two of a pair apart."""
    for sources in (Walk(cfg).a, Walk(cfg).b):
        lows = [source[1][0] if source[0] == "bits" else None for source in sources]
        assert len(set(sources)) == len(sources)
        pairs = [
            low
            for low, other in zip(lows[::2], lows[1::2], strict=False)
            if None is not low == other
        ]
        operands = [low for low in lows if low is not None]
        assert sorted(pairs) == sorted(
            low for low in set(operands) for _ in range(operands.count(low) // 2)
        )


@pytest.mark.parametrize("cfg", [TINY, KV260], ids=lambda cfg: cfg.name)
def test_the_hardware_finds_factors_and_conditions(cfg):
    rng, walk, m = random.Random(cfg.tile), Walk(cfg), Module()
    word, sources = Signal(256), sorted({*walk.a, *walk.b}, key=str)
    factors = [Value.cast(factor_value(word, source)) for source in sources]
    verdicts = [Value.cast(condition(word, when)) for when in walk.when]
    shown = [Signal.like(value, name=f"value_{n}") for n, value in enumerate(factors + verdicts)]
    m.d.comb += [one.eq(value) for one, value in zip(shown, factors + verdicts, strict=True)]

    async def bench(ctx):
        for _ in range(60):
            number = rng.getrandbits(256) & rng.choice([rng.getrandbits(256), -1])
            ctx.set(word, number)
            found = [ctx.get(one) for one in shown]
            for source, value in zip(sources, found, strict=False):
                if source[0] == "choice" and bits(number, source[1]) >= len(source[2]):
                    continue
                if source[0] == "power" and not bits(number, source[1]):
                    continue
                assert value == factor(number, source), source
            wanted = [met(number, when) for when in walk.when]
            assert found[len(sources) :] == [int(one) for one in wanted]

    sim = Simulator(m)
    sim.add_testbench(bench)
    sim.run()
