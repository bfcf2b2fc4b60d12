"""The rules of ``golden.rules`` as a program for one multiply-accumulate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from amaranth import Cat, Const, Shape, Value, signed
from amaranth.lib import data

from transept.golden import isa, rules
from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.golden.rules import Choice, Factor, Power, Rule, Tiles
from transept.rtl.arith.fixed import index_bits, select

__all__ = ["Step", "Walk", "condition", "factor_value"]

#: (lowest bit, width) of an operand in an instruction.
Place = tuple[int, int]
#: What a factor is made of: a kind, places, constants.
Source = tuple[Any, ...]
#: Rules of at most so many bits are looked up; a sum would need multiplexers for them.
_LOOKED_UP_BITS = 8
#: Operands that are the second factor of a product; all others are the first.
_SECOND = ("rows", "words", "keys", "select", "k_tiles", "n_tiles", "count")


class Step(NamedTuple):
    """One cycle of the walk: ``sum = (begin or sum) + a * b``."""

    a: Source | int
    b: Source | int
    begin: int | None  # of the first product of a rule, with the bound taken off
    ends: bool  # the sum is complete: legal if it is negative; with ``least``, if it is not
    least: bool
    when: Source  # what must be true for the verdict to count
    final: bool  # of its opcode


def _place(opcode: Opcode, operand: str) -> Place:
    return next((low, f.width) for f, low in isa.FORMATS[opcode].offsets() if f.name == operand)


def _source(opcode: Opcode, factor: Factor) -> Source:
    match factor:
        case Tiles(counts, shift, plus):
            return ("tiles", tuple(_place(opcode, count) for count in counts), shift, plus)
        case Choice(operand, values):
            return ("choice", _place(opcode, operand), values)
        case Power(operand):
            return ("power", _place(opcode, operand))
        case str():
            return ("bits", _place(opcode, factor))
    raise TypeError(f"{factor!r} is no operand")


def _is_constant(term: tuple[Factor, ...]) -> bool:
    return all(isinstance(factor, int) for factor in term)


def _products(opcode: Opcode, term: tuple[Factor, ...]) -> list[tuple[Source | int, Source | int]]:
    """The factors of a term that has operands, of one product or of several that it is made of."""
    scale = math.prod(factor for factor in term if isinstance(factor, int))
    operands = [factor for factor in term if not isinstance(factor, int)]
    operands.sort(key=lambda factor: isinstance(factor, Tiles) or factor in _SECOND)
    first, *second = (_source(opcode, operand) for operand in operands)
    if not second:
        is_second = isinstance(operands[0], Tiles) or operands[0] in _SECOND
        return [(scale, first) if is_second else (first, scale)]
    if scale > 1 and isinstance(operands[1], Tiles):
        return [(first, ("times", second[0], scale))]
    return [(first, second[0])] * scale


def _steps(opcode: Opcode, table: tuple[Rule, ...]) -> Iterator[Step]:
    """The walk over the rules of one opcode."""
    for rule in table:
        last = rule is table[-1]
        if when := _looked_up(opcode, rule):
            # the verdict is the condition: a sum of 0 is always too much
            yield Step(0, 0, begin=0, ends=True, least=False, when=when, final=last)
            continue
        begin, products = _sum(opcode, rule)
        guards = tuple((_place(opcode, operand), int(one)) for operand, one in rule.when)
        for number, (a, b) in enumerate(products, 1):
            ends = number == len(products)
            yield Step(
                a=a,
                b=b,
                begin=begin if number == 1 else None,
                ends=ends,
                least=rule.least is not None,
                when=("equals", guards),
                final=last and ends,
            )


def _sum(opcode: Opcode, rule: Rule) -> tuple[int, list[tuple[Source | int, Source | int]]]:
    """Where the sum of a rule begins and what is added."""
    # at most b: sum - b - 1 is negative; at least b: sum - b is not
    begin = -rule.least if rule.least is not None else -1
    terms = list(rule.terms)
    if isinstance(rule.most, Choice):
        terms.append((-1, rule.most))
    elif rule.most is not None:
        begin -= rule.most
    begin += sum(math.prod(term) for term in terms if _is_constant(term))  # type: ignore[misc]
    products = [_products(opcode, term) for term in terms if not _is_constant(term)]
    return begin, [product for some in products for product in some]


def _looked_up(opcode: Opcode, rule: Rule) -> Source | None:
    """The condition that breaks a rule of few bits, or one that forbids any bit of an operand."""
    fields = {field.name: field for field in isa.FORMATS[opcode].fields}
    names = dict.fromkeys(operand for operand, _ in rule.when)
    for factor in (*(factor for term in rule.terms for factor in term), rule.most):
        match factor:
            case Choice(operand, _):
                names[operand] = None
            case str():
                names[factor] = None
            case Tiles(counts, _, _):
                names |= dict.fromkeys(counts)
    if sum(fields[name].width for name in names) <= _LOOKED_UP_BITS:
        # the first operand is the lowest of the index
        ranges = [range(1 << fields[name].width) for name in reversed(names)]
        values = [dict(zip(names, one[::-1], strict=True)) for one in itertools.product(*ranges)]
        wrong = tuple(bool(rule.breaks(one)) for one in values)
        return ("table", tuple(_place(opcode, name) for name in names), wrong)
    if rule.most == 0 and len(rule.terms) == 1 and len(rule.terms[0]) == 1:
        guards = tuple((_place(opcode, operand), int(one)) for operand, one in rule.when)
        return ("some", _place(opcode, str(rule.terms[0][0])), guards)
    return None


class Walk:
    """The steps of all opcodes, one after the other, and what they choose from."""

    def __init__(self, cfg: Config) -> None:
        self.steps: list[Step] = []
        self.starts: dict[Opcode, int] = {}
        for opcode, table in rules.rules(cfg).items():
            self.starts[opcode] = len(self.steps)
            self.steps += _steps(opcode, table)
        self.a, self.b = (
            _sorted(factor for factor in column if not isinstance(factor, int))
            for column in ([step.a for step in self.steps], [step.b for step in self.steps])
        )
        self.when = sorted({step.when for step in self.steps}, key=str)

    @property
    def layout(self) -> data.StructLayout:
        """A step as the hardware reads it."""
        factors = [f for step in self.steps for f in (step.a, step.b) if isinstance(f, int)]
        return data.StructLayout(
            {
                "a": index_bits(len(self.a)),
                "b": index_bits(len(self.b)),
                "when": index_bits(len(self.when)),
                "factor": _signed(factors),  # the one that is a constant
                "a_fixed": 1,
                "b_fixed": 1,
                "begin": _signed([step.begin or 0 for step in self.steps]),
                "begins": 1,
                "ends": 1,
                "least": 1,
                "final": 1,
            }
        )

    def row(self, step: Step) -> data.Const:
        """A step in ``layout``."""
        a_fixed, b_fixed = isinstance(step.a, int), isinstance(step.b, int)
        fields = {
            "a": 0 if a_fixed else self.a.index(step.a),
            "b": 0 if b_fixed else self.b.index(step.b),
            "when": self.when.index(step.when),
            "factor": step.a if a_fixed else step.b if b_fixed else 0,
            "a_fixed": a_fixed,
            "b_fixed": b_fixed,
            "begin": step.begin or 0,
            "begins": step.begin is not None,
            "ends": step.ends,
            "least": step.least,
            "final": step.final,
        }
        return self.layout.const(fields)


def _sorted(sources: Iterable[Source]) -> list[Source]:
    """Without repetition; sources that share their lowest bits come first, in pairs, so that one
    bit of the index tells them apart."""
    rest = sorted(set(sources), key=str)
    pairs = []
    for lows in itertools.groupby(sorted(rest, key=_lowest), _lowest):
        same = list(lows[1])
        pairs += same[: len(same) // 2 * 2] if lows[0] >= 0 else []
    return pairs + [source for source in rest if source not in pairs]


def _lowest(source: Source) -> int:
    """The lowest bit of an operand that is a factor as it is; -1 of others."""
    return source[1][0] if source[0] == "bits" else -1


def _signed(values: list[int]) -> Shape:
    return signed(1 + max(value.bit_length() for value in values))


def factor_value(instr: Value, source: Source) -> Value:
    """The factor that a source names."""
    match source:
        case ("bits", (low, width)):
            return instr[low : low + width]
        case ("times", factor, scale):
            return factor_value(instr, factor) << (scale.bit_length() - 1)
        case ("tiles", counts, shift, plus):
            return (sum(instr[low : low + width] for low, width in counts) + plus) >> shift
        case ("choice", (low, width), values):
            choices = [Const(value, range(max(values) + 1)) for value in values]
            return select(choices, instr[low : low + width])
        case ("power", (low, width)):
            less = (instr[low : low + width] - 1)[:width]
            above = [Const(1, 1), *less]  # the place above the leading one
            return Cat(bit & ~less[n:].any() for n, bit in enumerate(above))
    raise TypeError(f"{source!r} is no source")


def condition(instr: Value, when: Source) -> Value:
    """Whether an instruction meets a condition."""

    def bits(place: Place) -> Value:
        low, width = place
        return instr[low : low + width]

    match when:
        case ("equals", ()):
            return Const(1, 1)
        case ("equals", guards):
            return Cat(bits(place) == one for place, one in guards).any()
        case ("some", place, guards):
            return bits(place).any() & condition(instr, ("equals", guards))
        case ("table", places, wrong):
            return select([Const(one, 1) for one in wrong], Cat(bits(place) for place in places))
    raise TypeError(f"{when!r} is no condition")
