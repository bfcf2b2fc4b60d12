"""What the emulator refuses beyond what the verifier does, and what it leaves then."""

import numpy as np
import pytest
from bench import instruction

from transept.golden import isa
from transept.golden.config import TINY
from transept.golden.emulator import Emulator, EmulatorError
from transept.golden.isa import AMode, Instruction, Memory, Opcode, Window
from transept.golden.registers import ErrorCode
from transept.golden.verify import Finding, Groups, State

LOAD = {"window": Window.IO, "rows": 1, "words": 1}
MATMUL = {"k_tiles": 1, "n_tiles": 1, "finish": 1, "b_row": 1, "out_stride": 1}
OPEN = MATMUL | {"finish": 0}


def emulator(*program: Instruction) -> Emulator:
    """The program in a window of its own; IO has 256 zero bytes, WEIGHTS is not set."""
    text = isa.encode_program([*program, instruction(Opcode.END)])
    dram = np.zeros(4096, np.uint8)
    dram[: len(text)] = np.frombuffer(text, np.uint8)
    machine = Emulator(TINY, dram, {Window.PROGRAM: (0, len(text)), Window.IO: (3840, 256)})
    machine.chip.stat[:] = 0
    return machine


def test_the_int8_element_minus_128():
    machine = emulator(instruction(Opcode.LOAD, **LOAD))
    machine.dram.data[3842] = 0x80
    says = r"instruction 0 \(LOAD\): an int8 operand is -128"
    with pytest.raises(EmulatorError, match=says) as raised:
        machine.run()
    assert raised.value.finding is None


def test_the_stationary_operand_minus_128():
    machine = emulator(instruction(Opcode.MATMUL, **MATMUL))
    machine.chip.stat[2, 1] = -128
    with pytest.raises(EmulatorError, match="a stationary operand is -128"):
        machine.run()


@pytest.mark.parametrize("opcode", [Opcode.SCORES, Opcode.CONTEXT])
def test_keys_and_values_of_minus_128(opcode):
    apart = {"s_addr": 9, "s_stride": 1}
    if opcode == Opcode.CONTEXT:
        apart = {"out_addr": 9, "out_stride": 1, "param": 8, "finish": 1}
    machine = emulator(instruction(opcode, d_tiles=1, keys=2, **apart))
    machine.chip.selection[0] = np.arange(TINY.key_tiles) == 0
    machine.chip.state.recorded[0] = 3
    machine.chip.stat[3] = -128  # beyond the last key
    machine.run()
    machine.chip.stat[2, 3] = -128
    with pytest.raises(EmulatorError, match="a stationary operand is -128"):
        machine.run()


def test_an_accumulator_of_28_bits():
    start = instruction(Opcode.MATMUL, **(OPEN | {"k_tiles": 200}))
    again = instruction(Opcode.MATMUL, **(OPEN | {"k_tiles": 200, "accumulate": 1}))
    machine = emulator(start, *[again] * 6)
    machine.chip.stat[:, 0] = 127  # all other sums are 0
    machine.chip.act[:] = -127
    with pytest.raises(EmulatorError, match=r"instruction 5 .* exceeds 27 bits"):
        machine.run()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("halves", [0, 1])
def test_the_largest_sum_of_an_accumulator(sign, halves):
    """Either half has accumulators of its own."""
    dynamic = {"a_mode": AMode.DYNAMIC, "halves": 1} if halves else {}
    last = MATMUL | dynamic | {"accumulate": 1, "finish": 0}
    for start, fits in (((1 << 26) - 2, True), ((1 << 26) - 1, False)):
        machine = emulator(instruction(Opcode.MATMUL, **last))
        machine.chip.state.groups = Groups(Opcode.MATMUL, 1, 1, halves=halves)
        machine.chip.sums = np.zeros((1 + halves, 1, TINY.tile), np.int64)
        machine.chip.sums[0, 0, 2] = sign * start
        machine.chip.act[0], machine.chip.rowstat[0] = [0, 1, 0, 0], 256
        machine.chip.act[0] *= 2 if halves else 1  # a step of int8
        machine.chip.stat[1, 2] = sign
        if fits:
            machine.run()
            assert machine.chip.sums[0, 0].tolist() == [0, 0, sign * ((1 << 26) - 1), 0]
        else:
            says = r"instruction 0 \(MATMUL\): an accumulator exceeds 27 bits"
            with pytest.raises(EmulatorError, match=says):
                machine.run()


def test_one_program_goes_on_where_another_ended():
    last = instruction(Opcode.MATMUL, **(MATMUL | {"accumulate": 1}))
    machine = emulator(instruction(Opcode.MATMUL, **OPEN))
    machine.run()
    text = isa.encode(last) + isa.encode(instruction(Opcode.END))
    machine.dram.data[: len(text)] = np.frombuffer(text, np.uint8)
    machine.run()
    assert machine.chip.state == State()
    with pytest.raises(EmulatorError, match="accumulate without open accumulators"):
        machine.run()


@pytest.mark.parametrize("wrong", [{"rows": 0}, {}], ids=["program", "data"])
def test_after_an_error_nothing_is_open(wrong):
    """As after the soft reset that the hardware needs then."""
    machine = emulator(
        instruction(Opcode.MATMUL, **OPEN), instruction(Opcode.LOAD, **(LOAD | wrong))
    )
    machine.dram.data[3842] = 0x80
    with pytest.raises(EmulatorError):
        machine.run()
    assert machine.chip.state == State()
    assert machine.chip.sums is None


def test_a_load_that_nothing_could_hold_takes_no_memory():
    huge = {"rows": 65535, "words": 65535, "pitch": 0, "memory": Memory.ACT}
    with pytest.raises(EmulatorError, match="ACT address 65534 is beyond the last one, 1599"):
        emulator(instruction(Opcode.LOAD, **(LOAD | huge))).run()


def test_parts_of_the_window():
    machine = emulator(instruction(Opcode.LOAD, **LOAD))
    for options in ({"limit": 32}, {"offset": 64}, {"offset": 4000}):
        with pytest.raises(EmulatorError, match="no END in"):
            machine.run(**options)
    text = "window PROGRAM: offset 33 is no multiple of 4"
    with pytest.raises(EmulatorError, match=f"^instruction 0: {text}$") as raised:
        machine.run(offset=33)
    assert raised.value.finding == Finding(0, "", text, ErrorCode.WINDOW, offset=33)
    assert machine.run(limit=4096).bytes_fetched == 2 * isa.INSTRUCTION_BYTES
    assert machine.run(offset=32, limit=64).bytes_fetched == isa.INSTRUCTION_BYTES


def test_dram_and_windows():
    with pytest.raises(ValueError, match="DRAM must be uint8"):
        Emulator(TINY, np.zeros(4, np.int8), {})
    for base, limit in ((8, 9), (-1, 4), (0, -1)):
        with pytest.raises(
            ValueError, match=rf"window IO: base {base} \+ limit {limit} exceeds 16"
        ):
            Emulator(TINY, np.zeros(16, np.uint8), {Window.IO: (base, limit)})
    for data in (np.zeros(4, np.int16), np.zeros((2, 2), np.uint8)):
        with pytest.raises(ValueError, match=r"DRAM must be uint8\[n\], got "):
            Emulator(TINY, data, {})
    for base, limit in ((8, 8), (0, 16), (16, 0)):
        Emulator(TINY, np.zeros(16, np.uint8), {Window.IO: (base, limit)})
    with pytest.raises(EmulatorError, match="no END in 0 instructions"):
        Emulator(TINY, np.zeros(16, np.uint8), {}).run()
