"""The verifier: what is wrong with a program, found before anything runs.

Every instruction is checked against ``golden.rules``, its DRAM windows, and what the instructions
before it leave: tokens, open accumulators, recorded selections. What a verified program can still
do wrong depends on its data (an operand of -128, an accumulator beyond its bits) or on a token that
it forgot. Whole programs are checked as arrays, ten thousand instructions in a tenth of a second.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.isa import INSTRUCTION_BYTES, TOKEN_LIMIT, Engine, Opcode, Window
from transept.golden.layouts import packed_words
from transept.golden.numerics.softmax import CONTEXT_KEYS
from transept.golden.registers import ErrorCode, Unit
from transept.golden.rules import ENCODING, GROUPS, SELECTION, rules

__all__ = ["Finding", "Groups", "State", "verify"]

#: Findings of one kind; a broken program is not worth more.
MOST_OF_A_KIND = 100


@dataclass(frozen=True)
class Finding:
    """What is wrong with one instruction; ``index`` is its number in the program.

    code, rule, window, offset: what registers ERROR and ERROR_OFFSET say of it if it gets to the
    hardware. There a token that nobody gives is no error: the watchdog ends the wait.
    """

    index: int
    opcode: str  # empty if it has none that is known, or if there is no such instruction
    text: str
    code: ErrorCode = ErrorCode.ILLEGAL_INSTRUCTION
    rule: int = ENCODING
    window: Window = Window.PROGRAM
    offset: int = 0

    @property
    def unit(self) -> Unit:
        """Where the hardware finds it."""
        engine = isa.FORMATS[Opcode[self.opcode]].engine if self.opcode else None
        return Unit.CONTROL if engine is None else Unit[engine.name]

    def __str__(self) -> str:
        return f"instruction {self.index}{self.opcode and f' ({self.opcode})'}: {self.text}"


@dataclass(frozen=True)
class Groups:
    """Accumulators that wait for more products."""

    opcode: Opcode
    rows: int
    tiles: int
    keys: int = 0  # of CONTEXT, added up so far
    halves: int = 0  # of MATMUL

    def __str__(self) -> str:
        rows = f"{self.rows} rows{' in halves' if self.halves else ''}"
        return f"{rows} and {self.tiles} tiles of {self.opcode.name}"


@dataclass
class State:
    """What programs leave on chip for the next one; as it is after a reset.

    groups: the accumulators that are open; recorded: the number of keys of each entry of the
    selection memory that SCORES has written.
    """

    groups: Groups | None = None
    recorded: dict[int, int] = field(default_factory=dict)


def verify(
    program: bytes,
    config: Config,
    windows: Mapping[Window, int],
    state: State | None = None,
) -> list[Finding]:
    """Everything that is wrong with a program, in the order of its instructions; empty if legal.

    program: encoded instructions up to END; what follows END is never run and not looked at.
    windows: bytes of each DRAM window, those that are not set left out. state: what the program
    finds on chip, by default that of a reset; it becomes what the program leaves. Of each kind no
    more than MOST_OF_A_KIND are told, the first ones.
    """
    raw = np.frombuffer(program, np.uint8, len(program) // INSTRUCTION_BYTES * INSTRUCTION_BYTES)
    code = _Code(raw.reshape(-1, INSTRUCTION_BYTES))
    findings = [*_encoding(code, config), *_rules(code, config), *_windows(code, config, windows)]
    findings += _tokens(code, TOKEN_LIMIT - config.engines.queue_depth)
    order = _order(code, config, State() if state is None else state)
    findings += itertools.islice(order, MOST_OF_A_KIND)
    if not code.ends:
        text, end = f"no END in {code.count} instructions", code.count * INSTRUCTION_BYTES
        findings.append(Finding(code.count, "", text, ErrorCode.WINDOW, offset=end))
    return sorted(findings, key=lambda finding: finding.index)


def _first(wrong: npt.ArrayLike) -> list[int]:
    """The first places where something is wrong."""
    return np.flatnonzero(wrong)[:MOST_OF_A_KIND].tolist()


class _Code:
    """A program as arrays, END left out."""

    def __init__(self, raw: np.ndarray) -> None:
        opcodes = raw[:, 0]
        (ends,) = np.nonzero(opcodes == Opcode.END)
        self.ends = bool(ends.size)
        self.raw = raw[: ends[0] + 1 if self.ends else len(raw)]
        self.count = int(ends[0]) if self.ends else len(raw)
        self.opcodes = opcodes[: self.count]
        #: Numbers of the instructions of each opcode.
        self.where = {
            opcode: np.flatnonzero(opcodes[: len(self.raw)] == opcode) for opcode in Opcode
        }
        self._words = np.ascontiguousarray(self.raw).view("<u8")
        #: int64 operands of each opcode's instructions.
        self.operands = {
            opcode: {
                operand.name: self._extract(self.where[opcode], operand, low)
                for operand, low in isa.FORMATS[opcode].offsets()
            }
            for opcode in Opcode
        }
        every = np.arange(len(self.raw))
        _, wait, signal = isa.HEADER
        self.wait = self._extract(every, wait, isa.HEADER[0].width)
        self.signal = self._extract(every, signal, isa.HEADER[0].width + wait.width)

    def _extract(self, where: np.ndarray, operand: isa.Field, low: int) -> np.ndarray:
        word, shift = divmod(low, 64)
        bits = self._words[where, word] >> np.uint64(shift)
        if shift + operand.width > 64:
            bits |= self._words[where, word + 1] << np.uint64(64 - shift)
        return (bits & np.uint64((1 << operand.width) - 1)).astype(np.int64)

    def name(self, index: int) -> str:
        """The opcode of an instruction, if it is known."""
        number = int(self.raw[index, 0])
        return Opcode(number).name if number in set(Opcode) else ""

    def at(self, opcode: Opcode, position: int) -> dict[str, int]:
        """Operands of one instruction, enumerated ones as their members if they are any."""
        found = {}
        for operand in isa.FORMATS[opcode].fields:
            number = int(self.operands[opcode][operand.name][position])
            known = operand.enum is not None and number in set(operand.enum)
            found[operand.name] = operand.enum(number) if known else number  # type: ignore[misc]
        return found


def _encoding(code: _Code, config: Config) -> Iterator[Finding]:
    """Opcodes that are unknown or not built, reserved bits, tokens of engines that are not."""
    known = np.isin(code.opcodes, list(Opcode))
    for index in _first(~known):
        yield Finding(index, "", f"unknown opcode {int(code.opcodes[index]):#04x}")
    for opcode, where in code.where.items():
        if not config.has(opcode):
            for index in where[:MOST_OF_A_KIND].tolist():
                text = f"block {isa.FORMATS[opcode].block!r} is not built in {config.name}"
                yield Finding(index, opcode.name, text)
    bits = np.unpackbits(code.raw, axis=1, bitorder="little")
    for opcode, where in code.where.items():
        used = isa.FORMATS[opcode].used
        for at in _first(np.asarray(bits[where, used:].any(1))):
            yield Finding(int(where[at]), opcode.name, f"reserved bits are set, from bit {used} up")
    for name, masks in (("wait", code.wait), ("signal", code.signal)):
        ours = np.append(known, True)[: len(masks)]
        for index in _first(ours & (masks >> len(Engine) != 0)):
            text = f"{name}={int(masks[index]):#05x} names engines that there are not"
            yield Finding(index, code.name(index), text)
    if code.ends and (code.wait[-1] or code.signal[-1]):
        yield Finding(code.count, "END", "END takes and gives no tokens")


def _rules(code: _Code, config: Config) -> Iterator[Finding]:
    """The table."""
    for opcode, table in rules(config).items():
        where, operands = code.where[opcode], code.operands[opcode]
        if not where.size:
            continue
        for number, rule in enumerate(table, 1):
            broken = np.broadcast_to(rule.breaks(operands), where.shape)
            for position in _first(broken):
                text = rule.explain(code.at(opcode, position))
                yield Finding(int(where[position]), opcode.name, text, rule=number)


def _windows(code: _Code, config: Config, windows: Mapping[Window, int]) -> Iterator[Finding]:
    """Accesses to DRAM: aligned, and inside their window."""
    limits = np.array([windows.get(window, -1) for window in Window])
    for opcode in (Opcode.LOAD, Opcode.STORE):
        where, o = code.where[opcode], code.operands[opcode]
        words = o["words"] << o["wide"]
        if opcode == Opcode.LOAD:
            words = np.where(o["packed"] > 0, packed_words(o["words"]), words)
        size = config.tile * ((o["rows"] - 1) * o["pitch"] + words)
        moves = (o["rows"] > 0) & (o["words"] > 0)
        limit = limits[o["window"]]
        for wrong, text in (
            (o["offset"] % config.tile != 0, "offset {offset} is no multiple of {tile}"),
            (limit < 0, "it is not set"),
            (
                (limit >= 0) & moves & (o["offset"] + size > limit),
                "offset {offset} + {size} bytes exceeds its limit {limit}",
            ),
        ):
            for at in _first(wrong):
                facts = {"offset": o["offset"][at], "size": size[at], "limit": limit[at]}
                window = Window(int(o["window"][at]))
                yield Finding(
                    int(where[at]),
                    opcode.name,
                    f"window {window.name}: {text.format(tile=config.tile, **facts)}",
                    ErrorCode.WINDOW,
                    window=window,
                    offset=int(o["offset"][at]),
                )


def _tokens(code: _Code, most: int) -> Iterator[Finding]:
    """Tokens in program order: taken only if given before, and never too many.

    If program order never waits, no order of the engines does: they only take tokens of
    instructions that come before them. Engines may run ahead by what waits in front of the taker,
    ``queue_depth`` instructions, so that many fewer than the hardware counts are allowed.
    """
    engine_of = np.full(256, -1)
    for opcode, fmt in isa.FORMATS.items():
        engine_of[opcode] = -1 if fmt.engine is None else fmt.engine
    engine = engine_of[code.opcodes]
    wait, signal = code.wait[: code.count], code.signal[: code.count]
    for giver, taker in itertools.product(Engine, Engine):
        gives = (engine == giver) & (signal >> taker & 1 != 0)
        takes = (engine == taker) & (wait >> giver & 1 != 0)
        if not (gives.any() or takes.any()):
            continue
        left = gives.cumsum() - takes.cumsum()
        for wrong, kind, text in (
            (
                takes & (left - gives < 0),
                ErrorCode.NONE,
                f"waits for a token that {giver.name} has not given",
            ),
            (
                gives & (left > most),
                ErrorCode.TOKEN_OVERFLOW,
                f"more than {most} tokens from {giver.name} to {taker.name}",
            ),
        ):
            for index in np.flatnonzero(wrong)[:1].tolist():  # the first one, others follow of it
                yield Finding(index, code.name(index), text, kind)


def _order(code: _Code, config: Config, state: State) -> Iterator[Finding]:
    """Instructions that need something of those before them, in program order."""
    concerned = (Opcode.MATMUL, Opcode.SCORES, Opcode.CONTEXT, Opcode.SOFTMAX)
    numbers = [
        (int(index), opcode, position)
        for opcode in concerned
        for position, index in enumerate(code.where[opcode].tolist())
    ]
    columns = {
        opcode: {name: column.tolist() for name, column in code.operands[opcode].items()}
        for opcode in concerned
    }
    for index, opcode, position in sorted(numbers):
        operands = {name: column[position] for name, column in columns[opcode].items()}
        for text in _groups(opcode, operands, state):
            yield Finding(index, opcode.name, text, rule=GROUPS)
        for text in _selection(opcode, operands, config, state):
            yield Finding(index, opcode.name, text, rule=SELECTION)


def _groups(opcode: Opcode, o: Mapping[str, int], state: State) -> Iterator[str]:
    """Accumulators that stay open from one instruction to the next."""
    found = state.groups
    if opcode == Opcode.SOFTMAX:
        return
    if found is not None and not o.get("accumulate", 0):
        yield f"the accumulators of an earlier {found.opcode.name} are open"
    if opcode == Opcode.SCORES:
        return
    if opcode == Opcode.MATMUL:
        mine = Groups(opcode, o["rows"] + 1, 1, halves=o["halves"])
    else:
        mine = Groups(opcode, o["rows"] + 1, o["d_tiles"], o["keys"] + 1)
    if o["accumulate"]:
        if found is None:
            yield "accumulate without open accumulators"
        elif replace(found, keys=mine.keys) != mine:
            yield f"accumulate has {mine}, the open accumulators are {found}"
        else:
            mine = replace(mine, keys=mine.keys + found.keys)
    if mine.keys > CONTEXT_KEYS:
        yield f"{mine.keys} keys in one row exceed the {CONTEXT_KEYS} of its accumulators"
    state.groups = None if o["finish"] else mine


def _selection(opcode: Opcode, o: Mapping[str, int], config: Config, state: State) -> Iterator[str]:
    """Selections that SCORES records and SOFTMAX and CONTEXT read."""
    if opcode == Opcode.MATMUL:
        return
    keys, entries = o["keys"] + 1, range(o["select"], o["select"] + o["rows"] // config.tile + 1)
    if opcode == Opcode.SCORES:
        state.recorded.update(dict.fromkeys(entries, keys))
        return
    wrong = [entry for entry in entries if state.recorded.get(entry) != keys]
    if wrong:
        found = state.recorded.get(wrong[0])
        what = f"{found} keys" if found else "nothing"
        yield f"selection entry {wrong[0]} holds {what}, not the tiles of {keys} keys"
