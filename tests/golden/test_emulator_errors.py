"""What the emulator refuses, and that it says where."""

import numpy as np
import pytest
from bench import instruction

from transept.golden import isa
from transept.golden.config import TINY, Blocks, Config, Filters
from transept.golden.emulator import Emulator, EmulatorError
from transept.golden.isa import Engine, Filter, Instruction, Memory, Opcode, OutMode, Window
from transept.golden.numerics.norm import inverse_count

LOAD = {"window": Window.IO, "rows": 1, "words": 1}
MATMUL = {"k_tiles": 1, "n_tiles": 1, "finish": 1, "b_row": 1}
NORM = {"words": 2, "count": 8, "inverse_count": inverse_count(8), "centre": 1, "normalise": 1}
HEAD = {"d_tiles": 1, "finish": 1}
OBSERVE = {"memory": Memory.STAT, "observe": 1}
TO_STAT = {"out_mode": OutMode.STAT8, "observe": 1}


def emulator(*program: Instruction, end: bool = True, config: Config = TINY) -> Emulator:
    """The program in a window of its own; IO has 256 zero bytes, WEIGHTS is not set."""
    text = isa.encode_program([*program, *[instruction(Opcode.END)] * end])
    dram = np.zeros(4096, np.uint8)
    dram[: len(text)] = np.frombuffer(text, np.uint8)
    machine = Emulator(config, dram, {Window.PROGRAM: (0, len(text)), Window.IO: (3840, 256)})
    machine.chip.stat[:] = 0
    return machine


@pytest.mark.parametrize(
    ("opcode", "operands", "message"),
    [
        (Opcode.LOAD, {"offset": 256}, r"window IO: offset 256 \+ 4 bytes exceeds its limit 256"),
        (Opcode.LOAD, {"rows": 3, "pitch": 32}, r"offset 0 \+ 260 bytes exceeds its limit 256"),
        (Opcode.LOAD, {"words": 33, "wide": 1}, r"offset 0 \+ 264 bytes exceeds its limit 256"),
        (Opcode.LOAD, {"offset": 2}, "window IO: offset 2 is no multiple of 4"),
        (Opcode.LOAD, {"window": Window.WEIGHTS}, "window WEIGHTS is not set"),
        (Opcode.LOAD, {"addr": 1600}, "ACT address 1600 is beyond the last one, 1599"),
        (Opcode.LOAD, {"addr": 1590, "rows": 2, "stride": 10}, "ACT address 1600"),
        (Opcode.LOAD, {"memory": Memory.STAT, "addr": 1024}, "STAT address 1024"),
        (Opcode.LOAD, {"memory": Memory.VPARAM, "addr": 256}, "VPARAM address 256"),
        (Opcode.LOAD, {"memory": Memory.TABLE, "addr": 130}, "TABLE address 130"),
        (Opcode.LOAD, {"memory": Memory.STAT, "wide": 1}, "wide and stats are for ACT, not STAT"),
        (Opcode.LOAD, {"stats": 1, "rowstat": 128}, "rowstat address 128"),
        (Opcode.LOAD, {"observe": 1}, "observe is for STAT, not ACT"),
        (Opcode.LOAD, OBSERVE | {"phase": 4}, "phase=4 is beyond tile=4"),
        (Opcode.LOAD, OBSERVE | {"summary": 256}, "key summary address 256"),
        (Opcode.LOAD, OBSERVE | {"words": 2, "summary": 255}, "key summary address 256"),
        (
            Opcode.LOAD,
            OBSERVE | {"rows": 2, "phase": 3, "stride": 9, "summary": 247},
            "key summary address 256",
        ),
        (
            Opcode.LOAD,
            OBSERVE | {"rows": 2, "words": 3, "pitch": 3, "stride": 2},
            "stride=2 is less than the 3 words of a row",
        ),
        (Opcode.STORE, {"offset": 256}, r"window IO: offset 256 \+ 4 bytes"),
        (Opcode.STORE, {"offset": 6}, "offset 6 is no multiple of 4"),
        (Opcode.STORE, {"addr": 1600}, "ACT address 1600"),
        (Opcode.STORE, {"memory": Memory.STAT, "addr": 1024}, "STAT address 1024"),
        (Opcode.STORE, {"memory": Memory.STAT, "wide": 1}, "wide is for ACT, not STAT"),
        (Opcode.STORE, {"memory": Memory.VPARAM}, "VPARAM cannot be stored, ACT and STAT can"),
        (Opcode.STORE, {"memory": Memory.TABLE}, "TABLE cannot be stored, ACT and STAT can"),
        (Opcode.MATMUL, {"rows": 16}, "rows=17 exceeds max_rows=16"),
        (Opcode.MATMUL, {"k_tiles": 0}, "k_tiles=0 and n_tiles=1 must be at least 1"),
        (Opcode.MATMUL, {"n_tiles": 0}, "k_tiles=1 and n_tiles=0 must be at least 1"),
        (Opcode.MATMUL, {"n_tiles": 2, "finish": 0}, "n_tiles=2 must be 1"),
        (Opcode.MATMUL, {"accumulate": 1}, "accumulate without open accumulators"),
        (Opcode.MATMUL, {"a_addr": 1600}, "ACT address 1600"),
        (Opcode.MATMUL, {"b_addr": 1021}, "STAT address 1024"),
        (Opcode.MATMUL, {"param": 1017}, "STAT address 1024"),
        (Opcode.MATMUL, {"out_addr": 1600}, "ACT address 1600"),
        (Opcode.MATMUL, {"a_mode": 1, "a_rowstat": 128}, "rowstat address 128"),
        (
            Opcode.MATMUL,
            {"rows": 1, "n_tiles": 3, "out_stride": 2},
            "out_stride=2 is less than the 3 words of a row",
        ),
        (Opcode.MATMUL, {"observe": 1}, "observe is for STAT8, not ACT16"),
        (Opcode.MATMUL, TO_STAT | {"phase": 5}, "phase=5 is beyond tile=4"),
        (Opcode.MATMUL, TO_STAT | {"summary": 256}, "key summary address 256"),
        (Opcode.SCORES, {"keys": 64}, "keys=65 exceeds max_keys=64"),
        (Opcode.SCORES, {"d_tiles": 0}, "d_tiles=0 must be at least 1"),
        (
            Opcode.SCORES,
            {"rows": 1, "keys": 8, "s_stride": 2},
            "s_stride=2 is less than the 3 words of a row",
        ),
        (Opcode.SCORES, {"parameter": 3}, "filter DENSE has no parameter, got 3"),
        (Opcode.SCORES, {"k_addr": 1021}, "STAT address 1024"),
        (Opcode.SCORES, {"select": TINY.query_blocks}, "selection address"),
        (Opcode.CONTEXT, {}, "hold no tiles of 1 keys"),
        (Opcode.CONTEXT, {"d_tiles": 0}, "d_tiles=0 must be at least 1"),
        (Opcode.CONTEXT, {"keys": 64}, "keys=65 exceeds max_keys=64"),
        (Opcode.SOFTMAX, {}, "hold no tiles of 1 keys"),
        (Opcode.NORM, {"count": 1}, "count=1 is outside 2 to 8"),
        (Opcode.NORM, {"count": 9}, "count=9 is outside 2 to 8"),
        (Opcode.NORM, {"inverse_count": 5}, f"inverse_count=5 is not {inverse_count(8)}"),
        (Opcode.NORM, {"param": 31}, "VPARAM address 263"),
        (Opcode.NORM, {"normalise": 0}, "neither normalise nor sum: nothing is written"),
        (Opcode.NORM, {"normalise": 0, "sum": 1, "count": 0}, "count=0 is outside 1 to 8"),
        (Opcode.NORM, {"sum": 1, "sum_addr": 1599}, "ACT address 1600"),
        (Opcode.NORM, {"rows": 1, "out_stride": 1}, "out_stride=1 is less than the 2 words"),
        (
            Opcode.NORM,
            {"rows": 1, "out_stride": 2, "sum": 1, "sum_stride": 1},
            "sum_stride=1 is less than the 2 words",
        ),
    ],
)
def test_illegal_operands(opcode, operands, message):
    usual = {
        Opcode.LOAD: LOAD,
        Opcode.STORE: LOAD,
        Opcode.MATMUL: MATMUL,
        Opcode.SCORES: {"d_tiles": 1},
        Opcode.CONTEXT: HEAD,
        Opcode.SOFTMAX: {},
        Opcode.NORM: NORM,
    }
    good = instruction(Opcode.LOAD, **LOAD)
    wrong = instruction(opcode, **(usual[opcode] | operands))
    machine = emulator(good, wrong)
    machine.chip.selection[:] = False
    with pytest.raises(EmulatorError, match=rf"instruction 1 \({opcode.name}\): .*{message}"):
        machine.run()


def test_a_load_without_rows_does_nothing():
    machine = emulator(instruction(Opcode.LOAD, **(LOAD | {"rows": 0, "offset": 4000})))
    assert machine.run().bytes_read == 0


def test_the_int8_element_minus_128():
    machine = emulator(instruction(Opcode.LOAD, **LOAD))
    machine.dram.data[3842] = 0x80
    with pytest.raises(EmulatorError, match="an int8 operand is -128"):
        machine.run()


def test_the_stationary_operand_minus_128():
    machine = emulator(instruction(Opcode.MATMUL, **MATMUL))
    machine.chip.stat[2, 1] = -128
    with pytest.raises(EmulatorError, match="a stationary operand is -128"):
        machine.run()


@pytest.mark.parametrize("opcode", [Opcode.SCORES, Opcode.CONTEXT])
def test_keys_and_values_of_minus_128(opcode):
    apart = {"s_addr": 9} if opcode == Opcode.SCORES else {"out_addr": 9, "param": 8, "finish": 1}
    machine = emulator(instruction(opcode, d_tiles=1, keys=2, **apart))
    machine.chip.selection[0] = np.arange(TINY.key_tiles) == 0
    machine.chip.stat[3] = -128  # beyond the last key
    machine.run()
    machine.chip.stat[2, 3] = -128
    with pytest.raises(EmulatorError, match="a stationary operand is -128"):
        machine.run()


def test_open_accumulators():
    start = instruction(Opcode.MATMUL, **(MATMUL | {"finish": 0}))
    longer = instruction(Opcode.MATMUL, **(MATMUL | {"accumulate": 1, "rows": 1}))
    found = "accumulate has 2 rows and 1 tiles of MATMUL, the open accumulators are 1 rows and 1"
    with pytest.raises(EmulatorError, match=found):
        emulator(start, longer).run()
    for other in (start, instruction(Opcode.SCORES, d_tiles=1)):
        with pytest.raises(EmulatorError, match="of an earlier MATMUL are open"):
            emulator(start, other).run()


def contexts(*changes: dict) -> Emulator:
    """CONTEXT instructions on one recorded tile."""
    program = [instruction(Opcode.CONTEXT, **({"d_tiles": 1} | change)) for change in changes]
    machine = emulator(*program)
    machine.chip.selection[:] = np.arange(TINY.key_tiles) == 0
    return machine


def test_open_accumulators_of_context():
    more, last = {"accumulate": 1}, {"accumulate": 1, "finish": 1, "param": 8, "out_addr": 9}
    contexts({}, more, last).run()
    with pytest.raises(EmulatorError, match="accumulate without open accumulators"):
        contexts(last).run()
    wider = "accumulate has 1 rows and 2 tiles of CONTEXT, the open accumulators are 1 rows and 1"
    with pytest.raises(EmulatorError, match=wider):
        contexts({}, more | {"d_tiles": 2}).run()
    with pytest.raises(EmulatorError, match="of an earlier CONTEXT are open"):
        contexts({}, {}).run()
    with pytest.raises(EmulatorError, match="12 open accumulators exceed the 8 slots"):
        contexts({"rows": 15, "d_tiles": 3}).run()
    matmul = instruction(Opcode.MATMUL, **(MATMUL | {"accumulate": 1}))
    machine = emulator(instruction(Opcode.CONTEXT, d_tiles=1), matmul)
    machine.chip.selection[:] = np.arange(TINY.key_tiles) == 0
    with pytest.raises(EmulatorError, match=r"1 tiles of MATMUL, .* 1 tiles of CONTEXT"):
        machine.run()


def test_more_keys_than_an_accumulator_holds():
    more = {"accumulate": 1, "keys": 63}
    contexts({"keys": 63}, *[more] * 63).run()
    with pytest.raises(EmulatorError, match="4160 keys in one row exceed the 4096"):
        contexts({"keys": 63}, *[more] * 64).run()


def test_an_accumulator_of_28_bits():
    start = instruction(Opcode.MATMUL, **(MATMUL | {"k_tiles": 200, "finish": 0}))
    again = instruction(Opcode.MATMUL, **(MATMUL | {"k_tiles": 200, "finish": 0, "accumulate": 1}))
    machine = emulator(start, *[again] * 6)
    machine.chip.stat[:] = 127
    machine.chip.act[:] = -127
    with pytest.raises(EmulatorError, match=r"instruction 5 .* exceeds 27 bits"):
        machine.run()


def test_programs_that_do_not_end():
    with pytest.raises(EmulatorError, match="no END in 1 instructions up to byte 32"):
        emulator(instruction(Opcode.LOAD, **LOAD), end=False).run()
    machine = emulator(instruction(Opcode.LOAD, **LOAD))
    with pytest.raises(EmulatorError, match="no END in 1 instructions up to byte 32"):
        machine.run(limit=32)
    with pytest.raises(EmulatorError, match="no END in 0 instructions"):
        machine.run(offset=64)
    with pytest.raises(EmulatorError, match="offset 33 is no multiple of 4"):
        machine.run(offset=33)


def test_undecodable_instructions():
    machine = emulator(instruction(Opcode.LOAD, **LOAD))
    machine.dram.data[32] = 99
    with pytest.raises(EmulatorError, match="instruction 1: unknown opcode 0x63"):
        machine.run()


def test_tokens():
    def load(wait=(), signal=()):
        return Instruction(
            Opcode.LOAD,
            instruction(Opcode.LOAD, **LOAD).operands,
            frozenset(wait),
            frozenset(signal),
        )

    with pytest.raises(EmulatorError, match=r"instruction 0 \(LOAD\): .* GEMM has not given"):
        emulator(load(wait=[Engine.GEMM])).run()
    own = {"wait": [Engine.LOAD], "signal": [Engine.LOAD]}
    with pytest.raises(EmulatorError, match=r"instruction 2 \(LOAD\): .* LOAD has not given"):
        emulator(load(signal=[Engine.LOAD]), load(wait=[Engine.LOAD]), load(**own)).run()
    assert emulator(load(signal=[Engine.LOAD, Engine.STORE]), load(**own)).run().tokens_left == 2


def test_what_is_not_built():
    """The configuration has neither attention, nor activation, nor norm."""
    bare = TINY.replace(
        name="bare",
        blocks=Blocks(attention=False, activation=False, norm=False),
        filters=Filters(names=(), estimate_multipliers=2),
    )
    programs = {
        "SCORES needs block 'attention', which bare has not built": (Opcode.SCORES, {}),
        "CONTEXT needs block 'attention'": (Opcode.CONTEXT, {}),
        "SOFTMAX needs block 'attention'": (Opcode.SOFTMAX, {}),
        "NORM needs block 'norm'": (Opcode.NORM, NORM),
        "VPARAM needs block 'norm'": (Opcode.LOAD, LOAD | {"memory": Memory.VPARAM}),
        "TABLE needs block 'activation'": (Opcode.LOAD, LOAD | {"memory": Memory.TABLE}),
        "activation needs block 'activation'": (Opcode.MATMUL, MATMUL | {"activation": 1}),
        "observe needs a key filter that looks at keys": (Opcode.LOAD, LOAD | OBSERVE),
    }
    for message, (opcode, operands) in programs.items():
        with pytest.raises(EmulatorError, match=message):
            emulator(instruction(opcode, **operands), config=bare).run()
    emulator(instruction(Opcode.MATMUL, **MATMUL), config=bare).run()


def test_a_filter_that_is_not_built():
    some = TINY.replace(name="some", filters=Filters(names=("causal",), estimate_multipliers=2))
    for kind in Filter:
        machine = emulator(instruction(Opcode.SCORES, d_tiles=1, filter=kind), config=some)
        if kind == Filter.CAUSAL:
            machine.run()
            continue
        message = f"SCORES needs key filter {kind.name}, which some has not built"
        with pytest.raises(EmulatorError, match=message):
            machine.run()


def test_dram_and_windows():
    with pytest.raises(ValueError, match="DRAM must be uint8"):
        Emulator(TINY, np.zeros(4, np.int8), {})
    with pytest.raises(ValueError, match=r"window IO: base 8 \+ limit 9 exceeds 16 bytes"):
        Emulator(TINY, np.zeros(16, np.uint8), {Window.IO: (8, 9)})
    with pytest.raises(EmulatorError, match="no END in 0 instructions up to byte 0"):
        Emulator(TINY, np.zeros(16, np.uint8), {}).run()
