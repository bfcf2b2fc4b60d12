"""What makes an instruction legal: one table of rules, for verifier, emulator and hardware.

A rule bounds a sum of products of operands. Software evaluates it for a whole program at once; the
hardware (``rtl.control.legality``) walks the same table with one multiply-accumulate, a product a
cycle. What an instruction needs of those before it (open accumulators, recorded selections, tokens)
and of its DRAM windows is checked in ``golden.verify``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.filters import FILTERS, parameters
from transept.golden.isa import AMode, Filter, Memory, Opcode, Operation, OutMode, RowScale
from transept.golden.layouts import RECORD_BYTES, table_words

__all__ = [
    "ENCODING",
    "GROUPS",
    "SELECTION",
    "Choice",
    "Factor",
    "Power",
    "Rule",
    "Term",
    "Tiles",
    "longest_row",
    "rules",
    "value",
]

#: ERROR.rule of what is not in the table: opcode and reserved bits; accumulators that are open or
#: not; selections that SCORES has not recorded. Rules of the table are counted from 1.
ENCODING, GROUPS, SELECTION = 0, 0xFE, 0xFF

#: Bits of ``inverse_count`` below its leading one.
_INVERSE_BITS = isa.operand(Opcode.NORM, "inverse_count").width - 1


@dataclass(frozen=True)
class Tiles:
    """Whole tiles in counts as they are stored: ``(sum of counts + plus) >> shift``."""

    counts: tuple[str, ...]
    shift: int  # log2(tile)
    plus: int = 0


@dataclass(frozen=True)
class Choice:
    """A constant that an enumerated operand chooses: ``values[operand]``, 0 beyond the last."""

    operand: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class Power:
    """The least power of two that is not below an operand: ``2**bit_length(operand - 1)``."""

    operand: str


#: An operand, a constant, or what is derived of operands.
Factor = str | int | Tiles | Choice | Power
#: A product of a constant and at most two operands.
Term = tuple[Factor, ...]
#: (operand, value): true of instructions in which the operand has the value.
Guard = tuple[str, int]


def value(factor: Factor, operands: Mapping[str, Any]) -> Any:
    """The value of a factor: an integer, or an array if the operands are arrays."""
    match factor:
        case str():
            return operands[factor]
        case Tiles(counts, shift, plus):
            return (sum(operands[count] for count in counts) + plus) >> shift
        case Choice(operand, values):
            return sum((operands[operand] == n) * constant for n, constant in enumerate(values))
        case Power(operand):
            width = isa.operand(Opcode.NORM, operand).width
            return 1 << sum((operands[operand] - 1) >> bit > 0 for bit in range(width))
        case _:
            return factor


@dataclass(frozen=True)
class Rule:
    """Legal if the sum of ``terms`` is at most ``most``, or at least ``least``.

    It counts for instructions of which any of ``when`` is true, for all if there is none. ``text``
    says what is wrong: a format of the operands, of ``value``, the sum, and of ``bound``.
    """

    text: str
    terms: tuple[Term, ...]
    most: int | Choice | None = None
    least: int | None = None
    when: tuple[Guard, ...] = ()

    def total(self, operands: Mapping[str, Any]) -> Any:
        """The sum of products, of one instruction or of arrays of them."""
        return sum(math.prod(value(f, operands) for f in term) for term in self.terms)

    def breaks(self, operands: Mapping[str, Any]) -> Any:
        """Whether an instruction, or each of many, breaks the rule."""
        total = self.total(operands)
        wrong = total < self.least if self.most is None else total > value(self.most, operands)
        if not self.when:
            return wrong
        counts = sum(operands[operand] == wanted for operand, wanted in self.when)
        return wrong & (counts > 0)

    def explain(self, operands: Mapping[str, int]) -> str:
        """What is wrong with an instruction that breaks the rule."""
        bound = self.least if self.most is None else value(self.most, operands)
        shown = {name: getattr(one, "name", one) for name, one in operands.items()}
        return self.text.format(**shown, value=self.total(operands), bound=bound)


class _Maker:
    """Makes the rules of one opcode."""

    def __init__(self, cfg: Config, opcode: Opcode) -> None:
        self.cfg, self.opcode = cfg, opcode
        self._log2_tile = cfg.tile.bit_length() - 1
        # of counts that are stored less one, so these are less one, too
        self.key_tiles = Tiles(("keys",), self._log2_tile)
        self.blocks = Tiles(("rows",), self._log2_tile)

    def _stored_less_one(self, count: Factor) -> bool:
        if count == "rows":
            return self.opcode not in (Opcode.LOAD, Opcode.STORE)
        return count == "keys" or isinstance(count, Tiles)

    def axis(self, count: Factor, stride: Factor) -> tuple[Term, ...]:
        """``(count - 1) * stride``."""
        if isinstance(count, int):
            return ((count - 1, stride),)
        less = () if self._stored_less_one(count) else ((-1, stride),)
        return ((count, stride), *less)

    def some(self, count: str) -> Rule:
        """A count that may not be 0."""
        return Rule(f"{count}={{value}} must be at least 1", ((count,),), least=1)

    def upto(self, count: str, limit: str) -> Rule:
        """A count, stored less one, that the configuration limits."""
        text = f"{count}={{value}} exceeds {limit}={{bound}}"
        return Rule(text, ((count,), (1,)), most=getattr(self.cfg.geometry, limit))

    def known(self, operand: str, last: IntEnum) -> Rule:
        """An enumerated operand of whose numbers those up to ``last`` mean something here."""
        names = ", ".join(item.name for item in type(last) if item <= last)
        return Rule(f"{operand}={{{operand}}} is none of {names}", ((operand,),), most=int(last))

    def only(self, flag: str, operand: str, wanted: IntEnum) -> Rule:
        """A flag that goes with one value of an enumerated operand."""
        others = Choice(operand, tuple(int(item != wanted) for item in type(wanted)))
        text = f"{flag} is for {wanted.name}, not {{{operand}}}"
        return Rule(text, ((others,),), most=0, when=((flag, 1),))

    def missing(self, what: str, *when: Guard) -> Rule:
        """What the configuration has not built."""
        return Rule(f"{what} is not built in {self.cfg.name}", ((1,),), most=0, when=when)

    def inside(
        self,
        memory: str,
        sizes: int | Choice,
        address: str,
        *axes: tuple[Factor, Factor],
        when: tuple[Guard, ...] = (),
    ) -> Rule:
        """``address + sum of (count - 1) * stride`` is in the memory."""
        terms = ((address,), *(term for axis in axes for term in self.axis(*axis)))
        if isinstance(sizes, Choice):
            last = tuple(size - 1 for size in sizes.values)
            most: int | Choice = dataclasses.replace(sizes, values=last)
        else:
            most = sizes - 1
        where = f"{address}={{{address}}}: {memory} address {{value}}"
        return Rule(f"{where} is beyond the last one, {{bound}}", terms, most=most, when=when)

    def act(self, address: str, *axes: tuple[Factor, Factor], **options: Any) -> Rule:
        """Words of the activation scratchpad."""
        return self.inside("ACT", self.cfg.act_words, address, *axes, **options)

    def stat(self, address: str, *axes: tuple[Factor, Factor], **options: Any) -> Rule:
        """Words of the stationary scratchpad."""
        return self.inside("STAT", self.cfg.memories.stat_words, address, *axes, **options)

    def rowstat(self, entry: str, *when: Guard) -> Rule:
        """An entry of the row statistics for each row."""
        entries = self.cfg.memories.rowstat_entries
        return self.inside("rowstat", entries, entry, ("rows", 1), when=when)

    def select(self) -> Rule:
        """An entry of the selection memory for each query block."""
        return self.inside("selection", self.cfg.query_blocks, "select", (self.blocks, 1))

    def apart(self, stride: str, words: str | Tiles, *when: Guard) -> Rule:
        """Rows that are written do not overlap: what they hold would depend on the order."""
        less_one = isinstance(words, Tiles)
        what = "the key tiles of a row" if less_one else f"{words}={{{words}}}"
        text = f"{stride}={{{stride}}} is less than {what}: rows overlap"
        return Rule(text, ((stride,), (-1, words)), least=int(less_one), when=when)

    def shape(self) -> Iterator[Rule]:
        """Rows, keys and depth of one attention head, as far as the opcode has them."""
        for count, limit in (("rows", "max_rows"), ("keys", "max_keys")):
            yield self.upto(count, limit)
        if self.opcode != Opcode.SOFTMAX:
            yield self.some("d_tiles")

    def result(self, words: str) -> Iterator[Rule]:
        """Parameters and output of the epilogue, ``words`` n tiles a row."""
        cfg = self.cfg
        sizes = dict.fromkeys(OutMode, cfg.act_words)
        sizes[OutMode.STAT8] = cfg.memories.stat_words
        memory, finish = Choice("out_mode", tuple(sizes.values())), ("finish", 1)
        axes = ("rows", "out_stride"), (words, 1)
        yield self.known("out_mode", OutMode.STAT8)
        yield self.stat("param", (words, RECORD_BYTES), (RECORD_BYTES, 1), when=(finish,))
        yield self.inside("{out_mode}", memory, "out_addr", *axes, when=(finish,))
        yield self.apart("out_stride", words, finish)
        yield self.rowstat("out_rowstat", ("stats", 1))

    def fits(self) -> Rule:
        """The elements of a row, which fit its words."""
        text = "count={count} exceeds the elements of words={words}"
        return Rule(text, (("count",), (-self.cfg.tile, "words")), most=0)

    def observed(self, words: str, stride: str) -> Iterator[Rule]:
        """Key summaries of rows that are written to STAT."""
        when = (("observe", 1),)
        if not self.cfg.observes:
            yield self.missing("a key filter that looks at keys", *when)
        last = self.cfg.tile - 1
        yield Rule("phase={value} is beyond {bound}", (("phase",),), most=last, when=when)
        plus = 0 if self._stored_less_one("rows") else -1
        tiles = Tiles(("rows", "phase"), self._log2_tile, plus)
        axes = (tiles, stride), (words, 1)
        yield self.inside("key summary", self.cfg.key_summaries, "summary", *axes, when=when)


def _load(make: _Maker) -> Iterator[Rule]:
    cfg = make.cfg
    sizes = {
        Memory.ACT: cfg.act_words,
        Memory.STAT: cfg.memories.stat_words,
        Memory.VPARAM: cfg.geometry.max_hidden * RECORD_BYTES // cfg.tile,
        Memory.TABLE: table_words(cfg.tile),
    }
    yield make.some("rows")
    yield make.some("words")
    yield make.only("wide", "memory", Memory.ACT)
    yield make.only("stats", "memory", Memory.ACT)
    yield make.only("observe", "memory", Memory.STAT)
    yield make.only("packed", "memory", Memory.STAT)
    text = "packed rows cannot be observed"
    yield Rule(text, (("observe",),), most=0, when=(("packed", 1),))
    if not cfg.blocks.packed:
        yield make.missing("block 'packed'", ("packed", 1))
    if not cfg.blocks.norm:
        yield make.missing("block 'norm'", ("memory", Memory.VPARAM))
    if not cfg.blocks.activation:
        yield make.missing("block 'activation'", ("memory", Memory.TABLE))
    memory = Choice("memory", tuple(sizes.values()))
    yield make.inside("{memory}", memory, "addr", ("rows", "stride"), ("words", 1))
    yield make.rowstat("rowstat", ("stats", 1))
    yield make.apart("stride", "words", ("observe", 1))
    yield from make.observed("words", "stride")


def _store(make: _Maker) -> Iterator[Rule]:
    sizes = Choice("memory", (make.cfg.act_words, make.cfg.memories.stat_words))
    yield make.some("rows")
    yield make.some("words")
    yield make.known("memory", Memory.STAT)
    yield make.only("wide", "memory", Memory.ACT)
    yield make.inside("{memory}", sizes, "addr", ("rows", "stride"), ("words", 1))


def _matmul(make: _Maker) -> Iterator[Rule]:
    tile = make.cfg.tile
    yield make.upto("rows", "max_rows")
    yield make.some("k_tiles")
    yield make.some("n_tiles")
    yield make.known("row_scale", RowScale.RECIPROCAL)
    yield Rule(
        "row_scale {row_scale} needs a_mode RAW",
        (("row_scale",),),
        most=int(RowScale.ROW_MAX),
        when=(("a_mode", AMode.DYNAMIC),),
    )
    yield make.only("halves", "a_mode", AMode.DYNAMIC)
    if not make.cfg.blocks.halves:
        yield make.missing("block 'halves'", ("halves", 1))
    text = "rows={value} in halves exceed {bound}, half of max_rows"
    most = make.cfg.geometry.max_rows // 2
    yield Rule(text, (("rows",), (1,)), most=most, when=(("halves", 1),))
    text = "n_tiles={value} must be 1 when accumulators stay open"
    yield Rule(text, (("n_tiles",),), most=1, when=(("accumulate", 1), ("finish", 0)))
    if not make.cfg.blocks.activation:
        yield make.missing("block 'activation'", ("activation", 1))
    yield make.act("a_addr", ("rows", "a_stride"), ("k_tiles", 1))
    scaled = tuple(("row_scale", int(scale)) for scale in RowScale if scale != RowScale.ONE)
    yield make.rowstat("a_rowstat", ("a_mode", AMode.DYNAMIC), *scaled)
    axes = ("k_tiles", "b_k"), ("n_tiles", "b_n"), (tile, "b_row")
    yield make.stat("b_addr", *axes)
    yield from make.result("n_tiles")
    yield make.only("observe", "out_mode", OutMode.STAT8)
    yield from make.observed("n_tiles", "out_stride")


def _scores(make: _Maker) -> Iterator[Rule]:
    yield from make.shape()
    yield make.known("filter", max(Filter))
    for kind in Filter:
        if kind not in make.cfg.key_filters:
            yield make.missing(f"filter {kind.name}", ("filter", kind))
        elif not parameters(FILTERS[kind.name.lower()]):
            text = f"filter {kind.name} has no parameter, got {{value}}"
            yield Rule(text, (("parameter",),), most=0, when=(("filter", kind),))
    yield make.act("q_addr", ("rows", "q_stride"), ("d_tiles", 1))
    yield _whole_tiles(make, "k_addr")
    yield make.act("s_addr", ("rows", "s_stride"), (make.key_tiles, 1))
    yield make.apart("s_stride", make.key_tiles)
    yield make.rowstat("rowstat")
    yield make.select()


def _whole_tiles(make: _Maker, address: str) -> Rule:
    """``d_tiles`` STAT words of every key, up to the end of the last key tile."""
    tile = make.cfg.tile
    terms = ((address,), (tile, make.key_tiles, "d_tiles"), (tile, "d_tiles"), (-1,))
    return dataclasses.replace(make.stat(address), terms=terms)


def _context(make: _Maker) -> Iterator[Rule]:
    slots = 2 * make.cfg.geometry.acc_slots
    yield from make.shape()
    text = "{value} open accumulators exceed the {bound} slots"
    groups = (make.blocks, "d_tiles"), ("d_tiles",)
    yield Rule(text, groups, most=slots, when=(("accumulate", 1), ("finish", 0)))
    yield make.act("p_addr", ("rows", "p_stride"), (make.key_tiles, 1))
    yield _whole_tiles(make, "v_addr")
    yield make.rowstat("p_rowstat", ("finish", 1))
    yield make.select()
    yield from make.result("d_tiles")


def _softmax(make: _Maker) -> Iterator[Rule]:
    yield from make.shape()
    yield make.act("addr", ("rows", "stride"), (make.key_tiles, 1))
    yield make.apart("stride", make.key_tiles)
    yield make.rowstat("rowstat")
    yield make.rowstat("out_rowstat")
    yield make.select()


def _norm(make: _Maker) -> Iterator[Rule]:
    cfg = make.cfg
    yield make.upto("rows", "max_rows")
    yield make.some("count")
    text = "count={value} is less than {bound}, the least that has a deviation"
    yield Rule(text, (("count",),), least=2, when=(("normalise", 1),))
    yield make.fits()
    text = "count={value} exceeds max_hidden={bound}"
    yield Rule(text, (("count",),), most=cfg.geometry.max_hidden)
    text = "neither normalise nor sum: nothing is written"
    yield Rule(text, (("normalise",), ("sum",)), least=1)
    yield from _inverse()
    flags = {"x": "residual", "out": "normalise", "sum": "sum"}
    for name in ("y", *flags):
        when = ((flags[name], 1),) if name in flags else ()
        yield make.act(f"{name}_addr", ("rows", f"{name}_stride"), ("words", 1), when=when)
    yield make.apart("out_stride", "words", ("normalise", 1))
    yield make.apart("sum_stride", "words", ("sum", 1))
    yield make.rowstat("rowstat")
    entries = cfg.geometry.max_hidden // cfg.tile
    yield make.inside("VPARAM", entries, "param", ("words", 1))


def _inverse() -> Iterator[Rule]:
    """``inverse_count`` is ``round(scale / count)``: the whole number next to it from below."""
    text = f"inverse_count={{inverse_count}} is not round(2**({_INVERSE_BITS} + "
    text += "bit_length(count - 1)) / count) for count={count}"
    twice = (2, "count", "inverse_count"), (-2 << _INVERSE_BITS, Power("count"))
    when = (("normalise", 1),)
    yield Rule(text, (*twice, (-1, "count")), most=0, when=when)
    yield Rule(text, (*twice, ("count",)), least=1, when=when)


def longest_row(cfg: Config) -> int:
    """Elements of the longest row that one ELEMENTWISE takes."""
    count, words = (isa.operand(Opcode.ELEMENTWISE, name).most for name in ("count", "words"))
    return min(count, words * cfg.tile)


def _elementwise(make: _Maker) -> Iterator[Rule]:
    yield make.upto("rows", "max_rows")
    yield make.some("count")
    yield make.fits()
    yield make.known("out_mode", OutMode.ACT8)
    yield make.known("operation", Operation.PRODUCT)
    for name in ("y", "x", "out"):
        yield make.act(f"{name}_addr", ("rows", f"{name}_stride"), ("words", 1))
    yield make.apart("out_stride", "words")
    yield make.rowstat("rowstat", ("stats", 1))


_MAKERS: dict[Opcode, Callable[[_Maker], Iterator[Rule]]] = {
    Opcode.LOAD: _load,
    Opcode.STORE: _store,
    Opcode.MATMUL: _matmul,
    Opcode.SCORES: _scores,
    Opcode.CONTEXT: _context,
    Opcode.SOFTMAX: _softmax,
    Opcode.NORM: _norm,
    Opcode.ELEMENTWISE: _elementwise,
}


@functools.cache
def rules(cfg: Config) -> Mapping[Opcode, tuple[Rule, ...]]:
    """The rules of every opcode that is built, but END. Their order numbers them, from 1."""
    makers = {opcode: make for opcode, make in _MAKERS.items() if cfg.has(opcode)}
    return {opcode: tuple(make(_Maker(cfg, opcode))) for opcode, make in makers.items()}
