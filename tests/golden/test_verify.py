"""The verifier refuses every kind of illegal program by name, and no legal one."""

import re
import time

import numpy as np
import programs
import pytest
from bench import instruction
from illegal import illegal, legal, skeleton

from transept.golden import isa
from transept.golden.config import PYNQ_Z2, TINY, Blocks, Filters
from transept.golden.emulator import Emulator, EmulatorError
from transept.golden.isa import AMode, Engine, Filter, Instruction, Memory, Opcode, Window
from transept.golden.registers import ErrorCode, Unit
from transept.golden.verify import Finding, Groups, State, verify

KINDS = {kind.name: kind for kind in illegal(TINY)}


def found(case, config=TINY):
    """What the verifier says of a case."""
    base, size = case.windows[Window.PROGRAM]
    sizes = {window: limit for window, (_, limit) in case.windows.items()}
    return verify(case.dram[base : base + size].tobytes(), config, sizes)


@pytest.mark.parametrize("config", [TINY, PYNQ_Z2], ids=lambda config: config.name)
def test_what_is_spoilt_was_legal(config):
    assert found(legal(config), config) == []


def test_there_are_enough_kinds():
    assert len(KINDS) > 200


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_refused_by_name(name):
    kind = KINDS[name]
    first = found(kind.case)[0]
    assert first.index == kind.index
    assert first.code == (kind.code or ErrorCode.NONE)
    assert re.search(kind.says, first.text), first


@pytest.mark.parametrize("name", KINDS)
def test_the_emulator_refuses_it_before_anything_runs(name):
    kind = KINDS[name]
    dram = kind.case.dram.copy()
    with pytest.raises(EmulatorError, match=kind.says):
        Emulator(TINY, dram, kind.case.windows).run()
    assert np.array_equal(dram, kind.case.dram)


#: No optional block.
BARE = TINY.replace(
    name="bare",
    blocks=Blocks(
        attention=False, activation=False, norm=False, elementwise=False, halves=False, packed=False
    ),
    filters=Filters(names=(), estimate_multipliers=2),
)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("scores", "block 'attention' is not built in bare"),
        ("softmax", "block 'attention' is not built in bare"),
        ("context", "block 'attention' is not built in bare"),
        ("norm", "block 'norm' is not built in bare"),
        ("elementwise", "block 'elementwise' is not built in bare"),
        ("vparam", "block 'norm' is not built in bare"),
        ("table", "block 'activation' is not built in bare"),
        ("matmul", "block 'activation' is not built in bare"),
        ("stat", "a key filter that looks at keys is not built in bare"),
    ],
)
def test_what_is_not_built(place, says):
    places = list(skeleton(TINY))
    assert says in [f.text for f in found(legal(TINY), BARE) if f.index == places.index(place)]


def test_what_is_built_is_legal():
    wrong = {finding.index for finding in found(legal(TINY), BARE)}
    places = [place for n, place in enumerate(skeleton(TINY)) if n not in wrong]
    assert places == ["load", "open", "close", "store"]


@pytest.mark.parametrize("kind", Filter)
def test_a_filter_that_is_not_built(kind):
    some = TINY.replace(name="some", filters=Filters(names=("causal",), estimate_multipliers=2))
    program = [
        instruction(Opcode.SCORES, d_tiles=1, s_stride=1, filter=kind),
        instruction(Opcode.END),
    ]
    texts = [f.text for f in verify(isa.encode_program(program), some, {})]
    assert texts == [f"filter {kind.name} is not built in some"] * (kind != Filter.CAUSAL)


CROWDS = {
    "opcode": (b"\x63" + bytes(31), TINY, "unknown opcode"),
    "block": (isa.encode(instruction(Opcode.SOFTMAX)), BARE, "is not built"),
    "reserved": (b"\x02" + bytes(30) + b"\x80", TINY, "reserved bits"),
    "masks": (b"\x02\x00\x00\x80" + bytes(28), TINY, "names engines"),
    "rule": (isa.encode(instruction(Opcode.LOAD)), TINY, "rows=0"),
    "window": (isa.encode(instruction(Opcode.LOAD)), TINY, "is not set"),
    "order": (isa.encode(instruction(Opcode.SOFTMAX)), TINY, "holds nothing"),
}


@pytest.mark.parametrize("kind", CROWDS)
def test_of_each_kind_the_first_hundred_are_told(kind):
    code, config, says = CROWDS[kind]
    told = [f.index for f in verify(code * 102, config, {}) if says in f.text]
    assert told == list(range(100))


def test_of_tokens_the_first_wrong_one_is_told():
    """More would follow of it."""
    wait = isa.encode(Instruction(Opcode.NORM, instruction(Opcode.NORM).operands, {Engine.LOAD}))
    told = [f for f in verify(wait * 3, TINY, {}) if "token" in f.text]
    text = "waits for a token that LOAD has not given"
    assert told == [Finding(0, "NORM", text, ErrorCode.NONE)]


def test_tokens_among_instructions_without():
    load = instruction(Opcode.LOAD, window=Window.IO, rows=1, words=1)
    give = Instruction(Opcode.LOAD, load.operands, signal={Engine.STORE})
    take = Instruction(Opcode.LOAD, load.operands, wait={Engine.VECTOR})
    own = Instruction(Opcode.LOAD, load.operands, wait={Engine.LOAD}, signal={Engine.LOAD})
    end, most = instruction(Opcode.END), 255 - TINY.engines.queue_depth
    for program, index, text, code in (
        ([load, take], 1, "waits for a token that VECTOR has not given", ErrorCode.NONE),
        ([load, own], 1, "waits for a token that LOAD has not given", ErrorCode.NONE),
        (
            [load, *[give] * (most + 1)],
            most + 1,
            f"more than {most} tokens from LOAD to STORE",
            ErrorCode.TOKEN_OVERFLOW,
        ),
        ([load, *[give] * most], None, "", None),
    ):
        found = verify(isa.encode_program([*program, end]), TINY, {Window.IO: 64})
        assert found == [Finding(index, "LOAD", text, code)] * (index is not None)


def test_tokens_of_engines_that_are_none():
    """Told of opcodes that are known."""
    code = b"".join(
        head.to_bytes(4, "little") + bytes(28) for head in (0x20007, 0x20000003, 0x20063, 0x20000)
    )
    told = [str(f) for f in verify(code, TINY, {}) if "engines" in f.text]
    assert told == [
        "instruction 0 (NORM): wait=0x200 names engines that there are not",
        "instruction 1 (MATMUL): signal=0x200 names engines that there are not",
        "instruction 3 (END): wait=0x200 names engines that there are not",
    ]


def test_an_unknown_opcode_waits_for_nobody():
    code = (0x63 | 0x1F << 8 | 0x1F << 20).to_bytes(4, "little") + bytes(28)
    told = [f.text for f in verify(code + bytes(32), TINY, {})]
    assert told == ["unknown opcode 0x63"]


def test_a_window_that_is_not_set():
    case = legal(TINY)
    windows = {window: place for window, place in case.windows.items() if window != Window.IO}
    assert "window IO: it is not set" in [f.text for f in found(case._replace(windows=windows))]


def test_findings_come_in_order_and_say_where():
    program = isa.encode_program([instruction(Opcode.LOAD), instruction(Opcode.NORM)])
    said = [str(finding) for finding in verify(program + b"\x63" + bytes(31), TINY, {})]
    assert said[0] == "instruction 0 (LOAD): rows=0 must be at least 1"
    assert said[1] == "instruction 0 (LOAD): words=0 must be at least 1"
    assert "instruction 1 (NORM): neither normalise nor sum: nothing is written" in said
    assert said[-2:] == [
        "instruction 2: unknown opcode 0x63",
        "instruction 3: no END in 3 instructions",
    ]


def of(opcode, **operands):
    """What the verifier says of one instruction, IO of 64 bytes and all else unset."""
    size = operands.pop("size", 64)
    state = operands.pop("state", None)
    program = isa.encode_program([instruction(opcode, **operands), instruction(Opcode.END)])
    return verify(program, TINY, {Window.IO: size}, state)


MOVED = {"window": Window.IO, "rows": 3, "offset": 8, "stride": 64}


@pytest.mark.parametrize(
    ("opcode", "operands", "size"),
    [
        (Opcode.LOAD, {"words": 2, "pitch": 5}, 4 * (10 + 2)),
        (Opcode.LOAD, {"words": 2, "pitch": 5, "wide": 1}, 4 * (10 + 4)),
        (Opcode.LOAD, {"words": 40, "pitch": 5, "packed": 1, "memory": Memory.STAT}, 4 * (10 + 27)),
        (Opcode.LOAD, {"words": 7, "pitch": 0}, 4 * 7),
        (Opcode.LOAD, {"words": 1, "pitch": 5}, 4 * 11),
        (Opcode.LOAD, {"words": 2, "pitch": 65535, "rows": 1}, 4 * 2),
        (Opcode.STORE, {"words": 2, "pitch": 5}, 4 * (10 + 2)),
        (Opcode.STORE, {"words": 2, "pitch": 5, "wide": 1}, 4 * (10 + 4)),
    ],
)
def test_a_window_to_its_last_byte(opcode, operands, size):
    moved = MOVED | operands
    assert of(opcode, size=8 + size, **moved) == []
    text = f"window IO: offset 8 + {size} bytes exceeds its limit {7 + size}"
    where = {"code": ErrorCode.WINDOW, "window": Window.IO, "offset": 8}
    assert of(opcode, size=7 + size, **moved) == [Finding(0, opcode.name, text, **where)]


@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.STORE])
@pytest.mark.parametrize(
    ("count", "others"), [("rows", {"words": 20}), ("words", {"rows": 3, "pitch": 65535})]
)
def test_what_moves_nothing_leaves_no_window(opcode, count, others):
    found = of(opcode, window=Window.IO, **{count: 0} | others)
    assert [str(f) for f in found] == [
        f"instruction 0 ({opcode.name}): {count}=0 must be at least 1"
    ]


def test_findings_say_what_the_registers_do():
    moved = {"window": Window.SCRATCH, "rows": 1, "words": 1}
    for operands, expected in (
        (
            {"offset": 4},
            Finding(0, "LOAD", "window SCRATCH: it is not set", ErrorCode.WINDOW, 0, 3, 4),
        ),
        (
            {"offset": 6, "window": Window.IO},
            Finding(
                0, "LOAD", "window IO: offset 6 is no multiple of 4", ErrorCode.WINDOW, 0, 2, 6
            ),
        ),
        (
            {"wide": 1, "memory": Memory.STAT, "window": Window.IO},
            Finding(0, "LOAD", "wide is for ACT, not STAT", ErrorCode.ILLEGAL_INSTRUCTION, 3),
        ),
    ):
        assert of(Opcode.LOAD, **moved | operands) == [expected]
    nothing = "selection entry 0 holds nothing, not the tiles of 1 keys"
    illegal = ErrorCode.ILLEGAL_INSTRUCTION
    assert of(Opcode.SOFTMAX, stride=1) == [Finding(0, "SOFTMAX", nothing, illegal, 255)]
    closed = "accumulate without open accumulators"
    product = {"k_tiles": 1, "n_tiles": 1, "accumulate": 1}
    assert of(Opcode.MATMUL, **product) == [Finding(0, "MATMUL", closed, illegal, 254)]
    assert verify(b"", TINY, {}) == [
        Finding(0, "", "no END in 0 instructions", ErrorCode.WINDOW, 0, Window.PROGRAM, 0)
    ]
    assert verify(isa.encode(instruction(Opcode.LOAD, rows=1, words=1)), TINY, {})[-1] == Finding(
        1, "", "no END in 1 instructions", ErrorCode.WINDOW, 0, Window.PROGRAM, 32
    )


@pytest.mark.parametrize(
    ("opcode", "unit"),
    [("", Unit.CONTROL), ("END", Unit.CONTROL), ("LOAD", Unit.LOAD), ("NORM", Unit.VECTOR)],
)
def test_where_the_hardware_finds_it(opcode, unit):
    assert Finding(0, opcode, "").unit is unit


def test_what_is_meant_if_nothing_is_said():
    illegal = ErrorCode.ILLEGAL_INSTRUCTION
    assert Finding(1, "", "") == Finding(1, "", "", illegal, 0, Window.PROGRAM, 0)
    assert Groups(Opcode.CONTEXT, 2, 3) == Groups(Opcode.CONTEXT, 2, 3, keys=0, halves=0)


def test_open_accumulators_are_described():
    open_ones = Groups(Opcode.MATMUL, 4, 1, halves=1)
    text = "accumulate has 2 rows and 1 tiles of MATMUL, the open accumulators are "
    found = of(
        Opcode.MATMUL, rows=1, k_tiles=1, n_tiles=1, accumulate=1, state=State(groups=open_ones)
    )
    assert [f.text for f in found] == [f"{text}4 rows in halves and 1 tiles of MATMUL"]


def test_keys_of_a_row_that_accumulators_hold():
    context = {"d_tiles": 1, "accumulate": 1, "state": None}
    for keys, says in ((4095, []), (4096, ["4097 keys in one row exceed the 4096 of its"])):
        state = State(Groups(Opcode.CONTEXT, 1, 1, keys), {0: 1})
        found = of(Opcode.CONTEXT, **context | {"state": state})
        assert [f.text.removesuffix(" accumulators") for f in found] == says
        assert state.groups == Groups(Opcode.CONTEXT, 1, 1, keys + 1)


def test_what_a_program_leaves():
    state = State()
    of(Opcode.SCORES, rows=7, keys=8, select=2, d_tiles=1, s_stride=3, state=state)
    assert state == State(None, {2: 9, 3: 9})
    of(Opcode.SCORES, rows=4, keys=0, select=3, d_tiles=1, s_stride=1, state=state)
    assert state == State(None, {2: 9, 3: 1, 4: 1})
    product = {"k_tiles": 1, "n_tiles": 1, "a_mode": AMode.DYNAMIC, "halves": 1, "rows": 2}
    assert of(Opcode.MATMUL, **product, state=state) == []
    assert state.groups == Groups(Opcode.MATMUL, 3, 1, halves=1)
    assert of(Opcode.MATMUL, **product, accumulate=1, finish=1, out_stride=1, state=state) == []
    assert state.groups is None


def test_what_follows_end_is_not_looked_at():
    end = isa.encode(instruction(Opcode.END))
    assert verify(end + b"\xff" * 64, TINY, {}) == []


def test_bytes_that_are_no_instruction():
    assert [f.index for f in verify(bytes(31), TINY, {})] == [0]


@pytest.mark.parametrize("name", programs.CASES)
def test_legal_programs_are_legal(name):
    for seed in range(12):
        for config in (TINY, PYNQ_Z2):
            case = programs.CASES[name](config, np.random.default_rng(seed))
            assert found(case, config) == []


def test_ten_thousand_instructions_take_no_time():
    rng, parts = np.random.default_rng(1), []
    while sum(map(len, parts)) < 10_000 * isa.INSTRUCTION_BYTES:
        for make in programs.CASES.values():
            case = make(TINY, rng)
            base, size = case.windows[Window.PROGRAM]
            parts.append(case.dram[base : base + size - isa.INSTRUCTION_BYTES].tobytes())
    program = b"".join(parts) + bytes(isa.INSTRUCTION_BYTES)
    noise = rng.integers(0, 256, len(program), np.uint8)
    noise[:: isa.INSTRUCTION_BYTES] = rng.integers(1, 8, len(program) // isa.INSTRUCTION_BYTES)
    windows = dict.fromkeys(Window, 1 << 30)
    start = time.process_time()
    assert verify(program, TINY, windows) == []
    assert verify(noise.tobytes(), TINY, windows)
    assert time.process_time() - start < 2  # about 0.1 s and 0.3 s
