"""A program that is legal, and more than a hundred ways to spoil it, each of another kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from bench import PAGE, Case, instruction

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.isa import (
    TOKEN_LIMIT,
    AMode,
    Engine,
    Filter,
    Instruction,
    Memory,
    Opcode,
    Operation,
    OutMode,
    RowScale,
    Window,
)
from transept.golden.layouts import RECORD_BYTES, table_words
from transept.golden.numerics.norm import inverse_count
from transept.golden.numerics.softmax import CONTEXT_KEYS
from transept.golden.registers import ErrorCode

__all__ = ["Illegal", "illegal", "legal", "skeleton"]

#: Bytes of the windows of data.
WINDOW = PAGE
BASES = {Window.PROGRAM: PAGE, Window.WEIGHTS: 3 * PAGE, Window.IO: 5 * PAGE}
BASES |= {Window.SCRATCH: 7 * PAGE}
DRAM = 9 * PAGE


class Illegal(NamedTuple):
    """One kind. says: what the verifier finds first; code: of the hardware, None if its watchdog
    has to end the run; index: of the instruction that is found."""

    name: str
    case: Case
    says: str
    code: ErrorCode | None
    index: int


def skeleton(config: Config) -> dict[str, Instruction]:
    """A legal program without END: one or two instructions of each opcode, all operands small."""
    tile = config.tile
    act, stat, scores, result = 0, 0, 200, 300
    channels, keys, values = 16 * tile, 24 * tile, 32 * tile
    rows = {"rows": tile - 1}
    head = {**rows, "keys": 2 * tile - 1, "select": 1}
    source = {"window": Window.WEIGHTS, "rows": 1}
    product = {
        **rows,
        "k_tiles": 2,
        "n_tiles": 1,
        "a_addr": act,
        "a_stride": 3,
        "b_addr": stat,
        "b_row": 1,
        "b_k": tile,
        "b_n": 2 * tile,
        "param": channels,
    }
    output = {"out_addr": result, "out_stride": 2, "finish": 1, "stats": 1, "out_rowstat": 40}
    norm = {
        **rows,
        "words": 2,
        "count": 2 * tile,
        "residual": 1,
        "centre": 1,
        "normalise": 1,
        "sum": 1,
        "y_addr": result,
        "y_stride": 2,
        "x_addr": act,
        "x_stride": 3,
        "out_addr": result + 50,
        "out_stride": 2,
        "sum_addr": result + 100,
        "sum_stride": 2,
        "rowstat": 30,
        "inverse_count": inverse_count(2 * tile),
    }
    elementwise = {
        **rows,
        "words": 2,
        "count": 2 * tile - 1,
        "shift": 3,
        "y_addr": result,
        "y_stride": 2,
        "x_addr": act,
        "x_stride": 3,
        "out_addr": result + 150,
        "out_stride": 2,
        "out_mode": OutMode.ACT8,
        "operation": Operation.PRODUCT,
        "stats": 1,
        "rowstat": 50,
    }
    units = {Memory.VPARAM: 2 * RECORD_BYTES, Memory.TABLE: table_words(tile)}
    return {
        "vparam": _of(Opcode.LOAD, source, memory=Memory.VPARAM, words=units[Memory.VPARAM]),
        "table": _of(Opcode.LOAD, source, memory=Memory.TABLE, words=units[Memory.TABLE]),
        "stat": _of(
            Opcode.LOAD,
            source,
            memory=Memory.STAT,
            rows=10 * tile,
            words=4,
            stride=4,
            observe=int(config.observes),
            summary=2,
        ),
        "load": _of(Opcode.LOAD, source, rows=tile, words=2, pitch=2, stride=3, stats=1),
        "open": _of(Opcode.MATMUL, product),
        "close": _of(Opcode.MATMUL, product, accumulate=1, **output),
        "matmul": _of(
            Opcode.MATMUL,
            product,
            **output | {"n_tiles": 2, "activation": 1, "row_scale": RowScale.ROW_MAX},
        ),
        "scores": _of(
            Opcode.SCORES,
            head,
            d_tiles=2,
            q_stride=3,
            k_addr=keys,
            s_addr=scores,
            s_stride=2,
            multiplier=1 << 15,
            channel_shift=10,
            row_shift=15,
        ),
        "softmax": _of(Opcode.SOFTMAX, head, addr=scores, stride=2, out_rowstat=20),
        "context": _of(
            Opcode.CONTEXT,
            head,
            d_tiles=2,
            p_addr=scores,
            p_stride=2,
            v_addr=values,
            p_rowstat=20,
            param=channels,
            **output,
        ),
        "norm": _of(Opcode.NORM, norm),
        "elementwise": _of(Opcode.ELEMENTWISE, elementwise),
        "store": _of(
            Opcode.STORE,
            {"window": Window.IO, "rows": tile, "words": 2, "pitch": 4},
            wide=1,
            addr=result,
            stride=2,
        ),
    }


def _of(opcode: Opcode, common: dict[str, Any], **operands: Any) -> Instruction:
    return instruction(opcode, **{**common, **operands})


def _chained(program: list[Instruction]) -> list[Instruction]:
    """Each instruction waits for the one before it."""
    tokens = [i.engine for i in program]
    return [
        Instruction(
            i.opcode,
            i.operands,
            i.wait | {tokens[n - 1]} if n else i.wait,
            i.signal | {tokens[n + 1]} if n + 1 < len(program) else i.signal,
        )
        for n, i in enumerate(program)
    ]


def _case(text: bytes, *, size: int | None = None, **sizes: int) -> Case:
    """The program in windows of their own; no byte of data is -128."""
    rng = np.random.default_rng(1)
    dram = rng.integers(0, 256, DRAM, np.uint8)
    dram[dram == 0x80] = 0
    base = BASES[Window.PROGRAM]
    dram[base : base + len(text)] = np.frombuffer(text, np.uint8)
    limits = {window: sizes.get(window.name.lower(), WINDOW) for window in Window}
    limits[Window.PROGRAM] = len(text) if size is None else size
    windows = {window: (BASES[window], limit) for window, limit in limits.items()}
    return Case([], dram, windows)


def legal(config: Config) -> Case:
    """The program that nothing has spoilt."""
    program = [*_chained(list(skeleton(config).values())), instruction(Opcode.END)]
    return _case(isa.encode_program(program))


def illegal(config: Config) -> list[Illegal]:
    """Every kind; only the instruction ``index`` is illegal, and in one way."""
    return [*_operands(config), *_bits(config), *_orders(config), *_flow(config)]


def _operands(config: Config) -> Iterator[Illegal]:
    """One instruction with other operands."""
    good = skeleton(config)
    for place, changes, says in _changes(config):
        wrong = Instruction(good[place].opcode, {**good[place].operands, **changes})
        program = [wrong if name == place else i for name, i in good.items()]
        text = isa.encode_program([*_chained(program), instruction(Opcode.END)])
        name = f"{place} {' '.join(f'{key}={int(one)}' for key, one in changes.items())}"
        code = ErrorCode.WINDOW if says.startswith("window") else ErrorCode.ILLEGAL_INSTRUCTION
        yield Illegal(name, _case(text), says, code, list(good).index(place))


def _beyond(place: str, memory: str, size: int, *addresses: str) -> Iterator[tuple]:
    """Addresses behind the last word, and just too far for what the instruction does."""
    for address in addresses:
        for first in (size, size - 1):
            yield place, {address: first}, f"{address}={first}: {memory} address"


def _strides(place: str, memory: str, *names: str) -> Iterator[tuple]:
    """The longest strides there are."""
    for name in names:
        yield place, {name: (1 << 12) - 1}, f"{memory} address"


def _changes(config: Config) -> Iterator[tuple[str, dict[str, int], str]]:
    """(instruction of the skeleton, operands, what the verifier says)."""
    yield from _changed_transfers(config)
    yield from _changed_shapes(config)
    yield from _changed_products(config)
    yield from _changed_attention(config)
    yield from _changed_norm(config)
    yield from _changed_elementwise(config)


def _changed_transfers(config: Config) -> Iterator[tuple[str, dict[str, int], str]]:
    tile, far = config.tile, (1 << 16) - 1
    units, words = config.geometry.max_hidden * RECORD_BYTES // tile, table_words(tile)
    for place in ("load", "store"):
        yield place, {"rows": 0}, "rows=0 must be at least 1"
        yield place, {"words": 0}, "words=0 must be at least 1"
        yield place, {"addr": far}, "ACT address"
        yield place, {"stride": far}, "ACT address"
        yield place, {"rows": far, "pitch": 0} | ({"stats": 0} if place == "load" else {}), "ACT"
        yield (
            place,
            {"words": 3 * tile * tile, "rows": 1, "stride": 0, "addr": config.act_words - 9},
            "ACT",
        )
        yield from _beyond(place, "ACT", config.act_words, "addr")
        for offset in sorted({1, 2, 3, tile - 1, tile + 1}):
            yield place, {"offset": offset}, f"window .*: offset {offset} is no multiple of {tile}"
        for offset in (WINDOW, WINDOW - tile, (1 << 32) - tile):
            yield place, {"offset": offset}, f"window .*: offset {offset} .* exceeds its limit"
        yield place, {"pitch": far}, "window .* exceeds its limit"
    yield from _beyond("load", "rowstat", config.memories.rowstat_entries, "rowstat")
    yield "load", {"rowstat": far}, "rowstat address"
    yield "load", {"observe": 1}, "observe is for STAT, not ACT"
    yield "load", {"packed": 1}, "packed is for STAT, not ACT"
    yield "vparam", {"packed": 1}, "packed is for STAT, not VPARAM"
    yield "stat", {"packed": 1}, "packed rows cannot be observed"
    packed = {"packed": 1, "observe": 0, "rows": 1, "words": 64, "offset": WINDOW - 37 * tile}
    yield "stat", packed, f"window .* {38 * tile} bytes exceeds its limit"
    for place in ("stat", "vparam", "table"):
        for flag in ("wide", "stats"):
            yield place, {flag: 1}, f"{flag} is for ACT, not {place.upper()}"
    yield from _beyond("stat", "STAT", config.memories.stat_words, "addr")
    yield from _beyond("vparam", "VPARAM", units, "addr")
    yield from _beyond("table", "TABLE", words, "addr")
    yield "vparam", {"words": units + 1}, "VPARAM address"
    yield "table", {"words": words + 1}, "TABLE address"
    for phase in (tile, 63):
        yield "stat", {"phase": phase}, f"phase={phase} is beyond"
    yield "stat", {"stride": 3}, "stride=3 is less than words=4: rows overlap"
    yield from _beyond("stat", "key summary", config.key_summaries, "summary")
    for memory in (Memory.VPARAM, Memory.TABLE):
        says = f"memory={memory.name} is none of ACT, STAT"
        yield "store", {"memory": memory, "wide": 0}, says
    yield "store", {"memory": Memory.STAT}, "wide is for ACT, not STAT"
    narrow = {"memory": Memory.STAT, "wide": 0, "addr": config.memories.stat_words}
    yield "store", narrow, "STAT address"


def _changed_shapes(config: Config) -> Iterator[tuple[str, dict[str, int], str]]:
    geometry = config.geometry
    for place in ("matmul", "scores", "softmax", "context", "norm", "elementwise"):
        for rows in (geometry.max_rows, 255):
            yield place, {"rows": rows}, f"rows={rows + 1} exceeds max_rows={geometry.max_rows}"
    for place in ("scores", "softmax", "context"):
        for keys in (geometry.max_keys, (1 << 16) - 1):
            yield place, {"keys": keys}, f"keys={keys + 1} exceeds max_keys={geometry.max_keys}"
        for select in (config.query_blocks, 255):
            yield place, {"select": select}, f"select={select}: selection address {select}"
    for place, count in (("matmul", "k_tiles"), ("matmul", "n_tiles"), ("open", "k_tiles")):
        yield place, {count: 0}, f"{count}=0 must be at least 1"
    for place in ("scores", "context"):
        yield place, {"d_tiles": 0}, "d_tiles=0 must be at least 1"


def _changed_products(config: Config) -> Iterator[tuple[str, dict[str, int], str]]:
    tile, stat = config.tile, config.memories.stat_words
    entries, summaries = config.memories.rowstat_entries, config.key_summaries
    yield "matmul", {"row_scale": 3}, "row_scale=3 is none of ONE, ROW_MAX, RECIPROCAL"
    dynamic = {"a_mode": AMode.DYNAMIC, "row_scale": RowScale.RECIPROCAL}
    yield "matmul", dynamic, "row_scale RECIPROCAL needs a_mode RAW"
    yield "matmul", {"halves": 1}, "halves is for DYNAMIC, not RAW"
    half = config.geometry.max_rows // 2
    says = f"rows={half + 1} in halves exceed {half}, half of max_rows"
    in_halves = {"halves": 1, "a_mode": AMode.DYNAMIC, "row_scale": RowScale.ONE}
    yield "matmul", in_halves | {"rows": half}, says
    for place in ("open", "close"):
        yield place, {"n_tiles": 2}, "n_tiles=2 must be 1 when accumulators stay open"
    for place in ("matmul", "context"):
        yield place, {"out_mode": 3}, "out_mode=3 is none of ACT16, ACT8, STAT8"
        yield place, {"out_stride": 1}, "out_stride=1 is less than .*: rows overlap"
        yield place, {"out_mode": OutMode.STAT8, "out_addr": stat}, "STAT8 address"
        yield from _beyond(place, "ACT16", config.act_words, "out_addr")
        yield from _beyond(place, "STAT", stat, "param")
        yield from _beyond(place, "rowstat", entries, "out_rowstat")
        yield from _strides(place, "ACT16", "out_stride")
    yield from _beyond("matmul", "ACT", config.act_words, "a_addr")
    yield from _beyond("matmul", "STAT", stat, "b_addr")
    yield from _beyond("matmul", "rowstat", entries, "a_rowstat")
    yield from _strides("matmul", "ACT", "a_stride")
    yield from _strides("matmul", "STAT", "b_k", "b_n")
    yield "matmul", {"b_row": 255, "b_addr": stat - 2 * tile * tile}, "STAT address"
    yield "matmul", {"observe": 1}, "observe is for STAT8, not ACT16"
    watched = {"observe": 1, "out_mode": OutMode.STAT8}
    yield "matmul", watched | {"phase": tile}, f"phase={tile} is beyond"
    for _, changes, says in _beyond("matmul", "key summary", summaries, "summary"):
        yield "matmul", watched | changes, says


def _changed_attention(config: Config) -> Iterator[tuple[str, dict[str, int], str]]:
    tile, act, stat = config.tile, config.act_words, config.memories.stat_words
    entries, overlap = config.memories.rowstat_entries, "stride=1 is less than the key tiles"
    for kind in range(len(Filter), 16):
        yield "scores", {"filter": kind}, f"filter={kind} is none of DENSE"
    for kind in (Filter.DENSE, Filter.CAUSAL):
        says = f"filter {kind.name} has no parameter, got {1 << 23}"
        yield "scores", {"filter": kind, "parameter": 1 << 23}, says
    yield from _beyond("scores", "ACT", act, "q_addr", "s_addr")
    yield from _beyond("scores", "STAT", stat, "k_addr")
    yield from _beyond("scores", "rowstat", entries, "rowstat")
    yield from _strides("scores", "ACT", "q_stride", "s_stride")
    yield "scores", {"s_stride": 1}, overlap
    yield from _beyond("softmax", "ACT", act, "addr")
    yield from _beyond("softmax", "rowstat", entries, "rowstat", "out_rowstat")
    yield from _strides("softmax", "ACT", "stride")
    yield "softmax", {"stride": 1}, overlap
    yield from _beyond("context", "ACT", act, "p_addr")
    yield from _beyond("context", "STAT", stat, "v_addr")
    yield from _beyond("context", "rowstat", entries, "p_rowstat")
    yield from _strides("context", "ACT", "p_stride")
    slots = 2 * config.geometry.acc_slots
    many = {"d_tiles": slots + 1, "out_stride": slots + 1, "finish": 0}
    yield "context", many, f"{slots + 1} open accumulators exceed the {slots} slots"
    for place, stride in (("softmax", "stride"), ("context", "p_stride")):
        yield place, {"select": 0}, f"selection entry 0 holds nothing, not the tiles of {2 * tile}"
        for keys in (2 * tile - 2, 2 * tile):
            says = f"selection entry 1 holds {2 * tile} keys, not the tiles of {keys + 1} keys"
            yield place, {"keys": keys, stride: 3}, says
        yield place, {"rows": tile}, "selection entry 2 holds nothing"


def _changed_norm(config: Config) -> Iterator[tuple[str, dict[str, int], str]]:
    tile, hidden = config.tile, config.geometry.max_hidden
    inverse = inverse_count(2 * tile)
    yield "norm", {"count": 0}, "count=0 must be at least 1"
    yield "norm", {"count": 1}, "count=1 is less than 2"
    yield "norm", {"count": 2 * tile + 1}, "exceeds the elements of words=2"
    yield "norm", {"words": 0}, "exceeds the elements of words=0"
    yield "norm", {"count": hidden + 1, "words": hidden // tile + 1}, f"exceeds max_hidden={hidden}"
    yield "norm", {"normalise": 0, "sum": 0}, "neither normalise nor sum"
    for wrong in (0, inverse - 1, inverse + 1, 2 * inverse - 1):
        yield "norm", {"inverse_count": wrong}, f"inverse_count={wrong} is not"
    for name in ("y", "x", "out", "sum"):
        yield from _beyond("norm", "ACT", config.act_words, f"{name}_addr")
        yield from _strides("norm", "ACT", f"{name}_stride")
    for name in ("out", "sum"):
        yield "norm", {f"{name}_stride": 1}, f"{name}_stride=1 is less than words=2: rows overlap"
    yield from _beyond("norm", "rowstat", config.memories.rowstat_entries, "rowstat")
    yield from _beyond("norm", "VPARAM", hidden // tile, "param")


def _changed_elementwise(config: Config) -> Iterator[tuple[str, dict[str, int], str]]:
    tile, entries = config.tile, config.memories.rowstat_entries
    yield "elementwise", {"count": 0}, "count=0 must be at least 1"
    says = f"count={2 * tile + 1} exceeds the elements of words=2"
    yield "elementwise", {"count": 2 * tile + 1}, says
    yield "elementwise", {"words": 0}, "exceeds the elements of words=0"
    yield "elementwise", {"out_mode": OutMode.STAT8}, "out_mode=STAT8 is none of ACT16, ACT8"
    for operation in (2, 127):
        says = f"operation={operation} is none of SUM, PRODUCT"
        yield "elementwise", {"operation": operation}, says
    names = ("y", "x", "out")
    addresses, strides = ([f"{name}_{what}" for name in names] for what in ("addr", "stride"))
    yield from _beyond("elementwise", "ACT", config.act_words, *addresses)
    yield from _strides("elementwise", "ACT", *strides)
    yield "elementwise", {"out_stride": 1}, "out_stride=1 is less than words=2: rows overlap"
    yield from _beyond("elementwise", "rowstat", entries, "rowstat")


def _bits(config: Config) -> Iterator[Illegal]:
    """Bits that mean nothing."""
    good = skeleton(config)
    names, program = list(good), [*_chained(list(good.values())), instruction(Opcode.END)]

    def spoilt(name: str, index: int, flips: int, says: str) -> Illegal:
        words = [int.from_bytes(isa.encode(i), "little") for i in program]
        words[index] ^= flips
        text = b"".join(word.to_bytes(isa.INSTRUCTION_BYTES, "little") for word in words)
        return Illegal(name, _case(text), says, ErrorCode.ILLEGAL_INSTRUCTION, index)

    at = names.index("matmul")
    for opcode in (9, 10, 0x63, 0x83, 0xFF):
        says = f"unknown opcode {opcode:#04x}"
        yield spoilt(f"opcode {opcode}", at, opcode ^ Opcode.MATMUL, says)
    _, wait, signal = isa.HEADER
    low = isa.HEADER[0].width
    for field in (wait, signal):
        for bit in range(len(Engine), field.width):
            says = f"{field.name}=.* names engines that there are not"
            yield spoilt(f"{field.name} bit {bit}", at, 1 << low + bit, says)
        yield spoilt(f"END {field.name}", len(names), 1 << low, "END takes and gives no tokens")
        low += field.width
    seen = set()
    for index, i in enumerate(program):
        used = isa.FORMATS[i.opcode].used
        if i.opcode in seen or used == 8 * isa.INSTRUCTION_BYTES:
            continue
        seen.add(i.opcode)
        for bit in sorted({used, (used + 255) // 2, 255}):
            says = f"reserved bits are set, from bit {used} up"
            yield spoilt(f"{i.opcode.name} bit {bit}", index, 1 << bit, says)


def _changed(i: Instruction, **operands: int) -> Instruction:
    return Instruction(i.opcode, {**i.operands, **operands}, i.wait, i.signal)


def _orders(config: Config) -> Iterator[Illegal]:
    """Instructions that lack what others should have left, or find what they should not."""
    good = skeleton(config)
    attention = [good[name] for name in ("stat", "scores", "softmax")]
    part = _changed(good["context"], finish=0)
    more = _changed(part, accumulate=1)
    keys = {"keys": config.geometry.max_keys - 1}
    strides = {"s_stride": config.key_tiles}, {"stride": config.key_tiles}
    strides += ({"p_stride": config.key_tiles},)
    long = [
        _changed(i, **keys, **stride, **({} if i is good["softmax"] else {"d_tiles": 1}))
        for i, stride in zip((good["scores"], good["softmax"], part), strides, strict=True)
    ]
    chunks = CONTEXT_KEYS // config.geometry.max_keys
    halves = {"a_mode": AMode.DYNAMIC, "halves": 1}
    in_halves = _changed(good["open"], **halves), _changed(good["close"], **halves)
    nothing, opened = "accumulate without open accumulators", "accumulators of an earlier .* open"
    orders = {
        "accumulate without open": ([good["close"]], nothing),
        "opened twice": ([good["open"]] * 2, opened),
        "MATMUL while open": ([good["open"], good["matmul"]], opened),
        "SCORES while open": ([good["open"], good["scores"]], opened),
        "CONTEXT while open": ([*attention, good["open"], good["context"]], opened),
        "other rows": ([good["open"], _changed(good["close"], rows=1)], "accumulate has 2 rows"),
        "in halves": ([good["open"], in_halves[1]], "accumulate has .* rows in halves and"),
        "not in halves": ([in_halves[0], good["close"]], "open accumulators are .* in halves and"),
        "CONTEXT accumulates without open": ([*attention, more], nothing),
        "CONTEXT opened twice": ([*attention, part, part], opened),
        "other d_tiles": ([*attention, part, _changed(more, d_tiles=1)], "rows and 1 tiles"),
        "CONTEXT after MATMUL": ([*attention, good["open"], more], "2 tiles of CONTEXT"),
        "MATMUL after CONTEXT": ([*attention, part, good["close"]], "1 tiles of MATMUL"),
        "too many keys": (
            [*attention[:1], *long, *[_changed(long[-1], accumulate=1)] * chunks],
            f"keys in one row exceed the {CONTEXT_KEYS}",
        ),
        "nothing recorded": ([good["softmax"]], "holds nothing"),
    }
    for name, (program, says) in orders.items():
        text = isa.encode_program([*_chained(program), instruction(Opcode.END)])
        code = ErrorCode.ILLEGAL_INSTRUCTION
        yield Illegal(name, _case(text), says, code, len(program) - 1)


def _flow(config: Config) -> Iterator[Illegal]:
    """Tokens, END and windows."""
    good = list(skeleton(config).values())
    chained, end = _chained(good), instruction(Opcode.END)
    for giver in (Engine.STORE, Engine.VECTOR):
        first = Instruction(good[3].opcode, good[3].operands, frozenset({giver}))
        says = f"waits for a token that {giver.name} has not given"
        text = isa.encode_program([first, end])
        yield Illegal(f"no token of {giver.name}", _case(text), says, None, 0)
    last = chained[-1]
    twice = Instruction(last.opcode, last.operands, last.wait, last.signal)
    says = "waits for a token that VECTOR has not given"
    text = isa.encode_program([*chained, twice, end])
    yield Illegal("a token taken twice", _case(text), says, None, len(good))
    give = Instruction(good[3].opcode, good[3].operands, signal=frozenset({Engine.STORE}))
    most = TOKEN_LIMIT - config.engines.queue_depth
    text = isa.encode_program([*[give] * (TOKEN_LIMIT + 1), end])
    says = f"more than {most} tokens from LOAD to STORE"
    case = _case(text, weights=WINDOW)
    yield Illegal("too many tokens", case, says, ErrorCode.TOKEN_OVERFLOW, most)

    text = isa.encode_program(chained)
    yield Illegal("no END", _case(text), "no END in", ErrorCode.WINDOW, len(chained))
    whole = isa.encode_program([*chained, end])
    for cut in (1, 31, 32, len(whole)):
        short = _case(whole, size=len(whole) - cut)
        index = len(chained) if cut < len(whole) else 0
        yield Illegal(f"program cut by {cut}", short, "no END in", ErrorCode.WINDOW, index)
    names = list(skeleton(config))
    for window, place in ((Window.WEIGHTS, "vparam"), (Window.IO, "store")):
        for size in (0, 1, config.tile):
            case = _case(whole, **{window.name.lower(): size})
            says = f"window {window.name}: offset 0 .* exceeds its limit {size}"
            name = f"{window.name} of {size} bytes"
            yield Illegal(name, case, says, ErrorCode.WINDOW, names.index(place))
