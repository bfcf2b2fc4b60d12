"""Every opcode against plain loops over Python integers, on random memories, one row at a time.

The whole on-chip state is compared, so that an instruction writes what it must and nothing else.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
from bench import instruction

from transept.golden import isa, layouts
from transept.golden.config import TINY
from transept.golden.emulator import Emulator
from transept.golden.emulator.memory import OnChip
from transept.golden.isa import (
    AMode,
    Filter,
    Memory,
    Opcode,
    Operation,
    OutMode,
    RowScale,
    Window,
)
from transept.golden.numerics.fixed import Clipping
from transept.golden.numerics.norm import (
    NormParameters,
    inverse_count,
    normalise,
    residual_sum,
    rounded_sum,
)
from transept.golden.numerics.polynomial import reciprocal
from transept.golden.numerics.requantise import (
    SEGMENTS,
    ActivationTable,
    activation,
    quantise_halves,
    quantise_row,
)
from transept.golden.numerics.softmax import MASKED, levels

TILE = TINY.tile
PROGRAM_BYTES = 1024
DRAM_BYTES = 8192


def emulator(seed: int) -> Emulator:
    """Random memories without operands of -128."""
    rng = np.random.default_rng(seed)
    dram = rng.integers(0, 256, PROGRAM_BYTES + DRAM_BYTES, np.uint8)
    dram[PROGRAM_BYTES:][dram[PROGRAM_BYTES:] == 0x80] = 0
    windows = {Window.PROGRAM: (0, PROGRAM_BYTES), Window.IO: (PROGRAM_BYTES, DRAM_BYTES)}
    machine = Emulator(TINY, dram, windows, seed)
    machine.chip.stat[machine.chip.stat == -128] = 0
    machine.chip.act[machine.chip.act & 0xFF == 0x80] = 0
    machine.chip.rowstat[:] = rng.integers(0, 32768, TINY.memories.rowstat_entries)
    return machine


def run(machine: Emulator, *program: isa.Instruction) -> OnChip:
    """Run the instructions and return the on-chip state from before."""
    before = copy.deepcopy(machine.chip)
    text = isa.encode_program([*program, instruction(Opcode.END)])
    machine.dram.data[: len(text)] = np.frombuffer(text, np.uint8)
    machine.run()
    return before


def same(machine: Emulator, expected: OnChip) -> None:
    """Every on-chip memory is the expected one."""
    for name in ("act", "stat", "rowstat", "vparam", "table", "selection", "summaries", "tallies"):
        assert (getattr(machine.chip, name) == getattr(expected, name)).all(), name


def round_shift(x: int, shift: int) -> int:
    return (2 * x + (1 << shift)) // (2 << shift)


class Element:
    """Saturates one element on its way and remembers whether it was clipped."""

    def __init__(self) -> None:
        self.clipped = False

    def saturate(self, x: int, bits: int) -> int:
        limit = 2 ** (bits - 1) - 1
        self.clipped |= abs(x) > limit
        return max(-limit, min(limit, x))


def low_byte(x: int) -> int:
    return (int(x) + 128) % 256 - 128


def requantise(
    element: Element, acc, multiplier, shift, bias, row, *, pre, row_shift, out_shift, bits
) -> int:
    a = element.saturate(round_shift(int(acc), pre), 25)
    v = element.saturate(round_shift(a * int(multiplier), int(shift)), 25)
    z = element.saturate(round_shift(v * int(row[0]), row_shift + int(row[1])), 25)
    return element.saturate(round_shift(z + int(bias), out_shift), bits)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("memory", "wide"), [*((memory, 0) for memory in Memory), (Memory.ACT, 1)])
def test_load(seed, memory, wide):
    rng = np.random.default_rng(seed)
    machine = emulator(seed)
    table = memory == Memory.TABLE
    rows, words = (2, 3) if table else (int(rng.integers(1, 6)), int(rng.integers(1, 5)))
    stride, pitch = words + int(rng.integers(0, 3)), (words << wide) + int(rng.integers(-1, 3))
    i = instruction(
        Opcode.LOAD,
        window=Window.IO,
        offset=TILE * int(rng.integers(0, 20)),
        pitch=max(0, pitch),
        rows=rows,
        words=words,
        memory=memory,
        wide=wide,
        stats=int(memory == Memory.ACT),
        addr=int(rng.integers(0, 100)),
        stride=stride,
        rowstat=5,
    )
    expected = run(machine, i)
    target = (expected.act, expected.stat, expected.vparam, expected.table)[memory]
    data = machine.dram.data[PROGRAM_BYTES:].tobytes()
    signed = memory in (Memory.ACT, Memory.STAT)
    for m in range(rows):
        row = []
        for w in range(words):
            for lane in range(TILE):
                at = i.offset + m * i.pitch * TILE + ((w * TILE + lane) << wide)
                value = int.from_bytes(data[at : at + 1 + wide], "little", signed=signed)
                target[i.addr + m * stride + w, lane] = value
                row.append(abs(value))
        if memory == Memory.ACT:
            expected.rowstat[5 + m] = max(row)
    same(machine, expected)


@pytest.mark.parametrize("seed", range(8))
def test_load_shows_keys_to_the_filters(seed):
    rng = np.random.default_rng(seed)
    machine = emulator(seed)
    rows, words = int(rng.integers(1, 11)), int(rng.integers(1, 4))
    phase, stride = int(rng.integers(0, TILE)), words + int(rng.integers(0, 2))
    i = instruction(
        Opcode.LOAD,
        window=Window.IO,
        pitch=words,
        rows=rows,
        words=words,
        memory=Memory.STAT,
        addr=40,
        stride=stride,
        observe=1,
        phase=phase,
        summary=7,
    )
    expected = run(machine, i)
    data = machine.dram.data[PROGRAM_BYTES:].view(np.int8).reshape(-1, TILE)
    for m in range(rows):
        expected.stat[40 + m * stride : 40 + m * stride + words] = data[m * words : (m + 1) * words]
    observe(expected, i, data[: rows * words].reshape(rows, words, TILE), stride)
    same(machine, expected)


def observe(expected: OnChip, i: isa.Instruction, words: np.ndarray, stride: int) -> None:
    """Row by row: the first row of a key tile begins its summary."""
    for m, row in enumerate(words.astype(np.int64)):
        number, place = divmod(i.phase + m, TILE)
        for n, word in enumerate(row):
            entry = i.summary + n + number * stride
            total = word if place == 0 else expected.summaries[entry] + word
            expected.summaries[entry] = (total + 512) % 1024 - 512


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("wide", [0, 1])
def test_store(seed, wide):
    rng = np.random.default_rng(seed)
    machine = emulator(seed)
    rows, words = (int(value) for value in rng.integers(1, 6, 2))
    i = instruction(
        Opcode.STORE,
        window=Window.IO,
        offset=TILE * int(rng.integers(0, 20)),
        pitch=(words << wide) + int(rng.integers(0, 3)),
        rows=rows,
        words=words,
        wide=wide,
        addr=int(rng.integers(0, 100)),
        stride=int(rng.integers(0, 9)),
    )
    dram = machine.dram.data[PROGRAM_BYTES:].copy()
    same(machine, run(machine, i))
    for m in range(rows):
        for w in range(words):
            for lane in range(TILE):
                at = i.offset + m * i.pitch * TILE + ((w * TILE + lane) << wide)
                value = int(machine.chip.act[i.addr + m * i.stride + w, lane]) & 0xFFFF
                dram[at] = value & 0xFF
                if wide:
                    dram[at + 1] = value >> 8
    assert (machine.dram.data[PROGRAM_BYTES:] == dram).all()


def test_store_of_the_stationary_memory():
    machine = emulator(1)
    machine.chip.stat[9, 1] = -128
    shape = {"window": Window.IO, "rows": 3, "words": 2, "pitch": 5, "addr": 8, "stride": 4}
    i = instruction(Opcode.STORE, memory=Memory.STAT, **shape)
    dram = machine.dram.data[PROGRAM_BYTES:].copy().view(np.int8).reshape(-1, TILE)
    same(machine, run(machine, i))
    for m in range(3):
        dram[5 * m : 5 * m + 2] = machine.chip.stat[8 + 4 * m : 10 + 4 * m]
    assert (machine.dram.data[PROGRAM_BYTES:].view(np.int8) == dram.reshape(-1)).all()


def row_scale(chip: OnChip, mode: RowScale, entry: int) -> tuple[int, int]:
    statistic = int(chip.rowstat[entry])
    if mode == RowScale.ONE:
        return 1 << 15, 0
    if mode == RowScale.ROW_MAX:
        return max(256, min(32767, statistic)), 0
    mantissa, exponent = reciprocal(np.array([statistic % (1 << 24)]))
    return mantissa[0], exponent[0]


def finish(chip: OnChip, expected: OnChip, i: isa.Instruction, acc: list, rows: list) -> None:
    """The epilogue of MATMUL and CONTEXT, word by word."""
    activate = i.opcode == Opcode.MATMUL and i.activation
    for m, sums in enumerate(acc):
        row = []
        for n in range(len(sums) // TILE):
            for lane in range(TILE):
                data = chip.stat[i.param + 8 * n : i.param + 8 * (n + 1)].tobytes()
                record = data[8 * lane : 8 * lane + 8]
                element = Element()
                y = requantise(
                    element,
                    sums[n * TILE + lane],
                    int.from_bytes(record[:2], "little"),
                    record[2] & 31,
                    int.from_bytes(record[3:6], "little", signed=True),
                    rows[m],
                    pre=i.pre,
                    row_shift=i.row_shift,
                    out_shift=i.out_shift,
                    bits=16 if activate or i.out_mode == OutMode.ACT16 else 8,
                )
                if activate:
                    table = layouts.unpack_table(chip.table.reshape(-1))
                    clipping = Clipping()
                    y = int(activation(np.array([y]), table, clipping)[0])
                    element.clipped |= bool(clipping.elements[0])
                    y = y if i.out_mode == OutMode.ACT16 else element.saturate(y, 8)
                expected.tallies[i.tally] += element.clipped
                target = expected.stat if i.out_mode == OutMode.STAT8 else expected.act
                target[i.out_addr + m * i.out_stride + n, lane] = y
                row.append(abs(y))
        if i.stats:
            before = [int(chip.rowstat[i.out_rowstat + m])] if i.stats_keep else []
            expected.rowstat[i.out_rowstat + m] = max(row + before)


def moderate_table(rng: np.random.Generator) -> np.ndarray:
    """A table over most of int16 whose results are around the limits of int8."""
    c2, c1, c0 = (rng.integers(-limit, limit + 1, SEGMENTS) for limit in (40, 40, 150))
    table = ActivationTable(-16384, 9, 10, 8, c0, c1, c2)
    return layouts.pack_table(table, TILE).view(np.uint8).reshape(-1, TILE)


@pytest.mark.parametrize("seed", range(48))
def test_matmul(seed):
    rng = np.random.default_rng(seed)
    machine = emulator(seed)
    rows, k_tiles, n_tiles = (int(value) for value in rng.integers(1, 4, 3))
    row_scale_mode = RowScale(seed // 3 % 3)
    a_mode = AMode.RAW if row_scale_mode == RowScale.RECIPROCAL else AMode(seed % 2)
    i = instruction(
        Opcode.MATMUL,
        rows=rows - 1,
        k_tiles=k_tiles,
        n_tiles=n_tiles,
        finish=1,
        a_addr=3,
        a_stride=int(rng.integers(0, 9)),
        a_mode=a_mode,
        halves=int(a_mode == AMode.DYNAMIC and seed % 4 == 1),
        a_rowstat=7,
        b_addr=50,
        b_row=int(rng.integers(1, 9)),
        b_k=int(rng.integers(0, 30)),
        b_n=int(rng.integers(0, 30)),
        b_transposed=int(rng.integers(0, 2)),
        param=400,
        out_addr=600,
        out_stride=3,
        out_mode=OutMode(seed % 3),
        activation=int(rng.integers(0, 2)),
        row_scale=row_scale_mode,
        stats=int(rng.integers(0, 2)),
        stats_keep=int(rng.integers(0, 2)),
        out_rowstat=60,
        pre=int(rng.integers(0, 3)),
        row_shift=int(rng.integers(0, 20)),
        out_shift=int(rng.integers(0, 10)),
        observe=int(seed % 3 == OutMode.STAT8),
        phase=int(rng.integers(0, TILE)),
        summary=20,
        tally=int(rng.integers(0, 64)),
    )
    machine.chip.table[:] = moderate_table(rng)
    machine.chip.rowstat[8:10] = -5, 40000  # they count as 256 and 32767
    before = run(machine, i)
    expected = copy.deepcopy(before)
    acc = []
    for m in range(rows):
        a = before.act[3 + m * i.a_stride : 3 + m * i.a_stride + k_tiles].reshape(-1)
        a, most = a.astype(np.int64), np.array(before.rowstat[7 + m])
        a, low = quantise_halves(a, most) if i.halves else (a, a * 0)
        if i.a_mode == AMode.DYNAMIC and not i.halves:
            a = quantise_row(a, most)
        sums = []
        for n in range(n_tiles * TILE):
            total = lower = 0
            for k in range(k_tiles * TILE):
                word, lane = (n, k) if i.b_transposed else (k, n)
                at = 50 + k // TILE * i.b_k + n // TILE * i.b_n + word % TILE * i.b_row
                weight = int(before.stat[at, lane % TILE])
                total += low_byte(a[k]) * weight
                lower += int(low[k]) * weight
            sums.append(total + lower // 128)
        acc.append(sums)
    finish(before, expected, i, acc, [row_scale(before, i.row_scale, 7 + m) for m in range(rows)])
    if i.observe:
        words = [expected.stat[600 + 3 * m : 600 + 3 * m + n_tiles] for m in range(rows)]
        observe(expected, i, np.array(words), 3)
    same(machine, expected)


def test_rows_are_quantised_anew_when_anything_differs():
    """Other maxima, two halves instead of one row, other rows, and one row again."""
    shape = {"rows": 1, "k_tiles": 2, "a_stride": 2, "a_mode": AMode.DYNAMIC, "finish": 1}
    shape |= {"n_tiles": 1, "b_addr": 50, "b_row": 1, "b_k": 4, "param": 400, "out_stride": 1}
    shape |= {"row_shift": 15}
    program = [
        instruction(Opcode.MATMUL, **shape | changes, out_addr=600 + 2 * n)
        for n, changes in enumerate(
            (
                {"a_addr": 3, "a_rowstat": 7},
                {"a_addr": 3, "a_rowstat": 9},
                {"a_addr": 3, "a_rowstat": 9, "halves": 1},
                {"a_addr": 9, "a_rowstat": 9, "halves": 1},
                {"a_addr": 9, "a_rowstat": 9},
                {"a_addr": 9, "a_rowstat": 9},
            )
        )
    ]
    machine = emulator(3)
    machine.chip.rowstat[7:11] = 20000, 25000, 9000, 300
    machine.chip.stat[400:408] = np.tile([0, 64, 20, 0, 0, 0, 0, 0], 4).reshape(8, 4)
    alone = []
    for i in program:
        single = copy.deepcopy(machine)
        run(single, i)
        alone.append(single.chip.act[i.out_addr : i.out_addr + 2].tolist())
    run(machine, *program)
    assert machine.chip.act[600:612].reshape(6, 2, TILE).tolist() == alone
    assert len(set(map(str, alone))) == 5


def test_load_of_four_bit_weights():
    """Of every row 32 words are unpacked from 19, and eight are as they are."""
    machine = emulator(2)
    where = {"window": Window.IO, "offset": 8, "pitch": 30, "memory": Memory.STAT, "packed": 1}
    i = instruction(Opcode.LOAD, rows=2, words=40, addr=30, stride=50, **where)
    expected = run(machine, i)
    for m in range(2):
        row = machine.dram.data[PROGRAM_BYTES + 8 + 30 * TILE * m :][: 27 * TILE].reshape(27, TILE)
        words = layouts.unpack_four_bit(row[:19], TILE)
        expected.stat[30 + 50 * m : 62 + 50 * m] = words
        expected.stat[62 + 50 * m : 70 + 50 * m] = row[19:].view(np.int8)
    same(machine, expected)


@pytest.mark.parametrize("wide", [0, 1])
@pytest.mark.parametrize("pitch", [0, 1, 3])
def test_of_rows_that_overlap_in_dram_the_last_one_stays(pitch, wide):
    machine = emulator(5)
    shape = {"rows": 4, "words": 3, "pitch": pitch, "wide": wide, "addr": 8, "stride": 3}
    dram = machine.dram.data[PROGRAM_BYTES:].copy()
    run(machine, instruction(Opcode.STORE, window=Window.IO, **shape))
    for m in range(4):
        row = machine.chip.act[8 + 3 * m : 11 + 3 * m].astype("<i2" if wide else np.int8)
        data = np.frombuffer(row.tobytes(), np.uint8)
        dram[pitch * TILE * m :][: len(data)] = data
    assert (machine.dram.data[PROGRAM_BYTES:] == dram).all()


def head(seed: int, opcode: Opcode, **operands: int) -> tuple[Emulator, isa.Instruction, list]:
    """An instruction of attention on random memories, and the recorded tiles of its blocks."""
    rng = np.random.default_rng(seed)
    machine = emulator(seed)
    rows, keys = int(rng.integers(1, 11)), int(rng.integers(1, 30))
    tiles = -(-keys // TILE)
    kept = rng.random((-(-rows // TILE), TINY.key_tiles)) < 0.5
    kept[:, tiles:] = False
    kept[:, rng.integers(0, tiles)] = True
    machine.chip.selection[1 : 1 + len(kept)] = kept
    machine.chip.state.recorded = dict.fromkeys(range(1, 1 + len(kept)), keys)
    i = instruction(opcode, rows=rows - 1, keys=keys - 1, select=1, **operands)
    return machine, i, [np.flatnonzero(block).tolist() for block in kept]


@pytest.mark.parametrize("kind", Filter)
@pytest.mark.parametrize("seed", range(24))
def test_scores(seed, kind):
    rng = np.random.default_rng([seed, 1])  # other draws than those of ``head``
    threshold, before_reach, after_reach = int(rng.integers(-50, 50)) * 1000, 6, 3
    parameter = {
        Filter.TILE_THRESHOLD: threshold % (1 << 24),
        Filter.WINDOW: before_reach | after_reach << 12,
    }.get(kind, 0)
    machine, i, _ = head(
        seed,
        Opcode.SCORES,
        position=int(rng.choice([rng.integers(0, 30), 65530])),
        key_base=int(rng.choice([0, rng.integers(0, 40), 65520])),
        d_tiles=2,
        q_addr=9,
        q_stride=3,
        k_addr=100,
        s_addr=500,
        s_stride=9,
        rowstat=20,
        stats_keep=int(rng.integers(0, 2)),
        filter=kind,
        parameter=parameter,
        multiplier=50000,
        channel_shift=12,
        row_shift=int(rng.choice([20, 14])),
        tally=int(rng.integers(0, 64)),
    )
    before = run(machine, i)
    expected = copy.deepcopy(before)
    rows, keys = i.rows + 1, i.keys + 1
    q = [[low_byte(v) for v in before.act[9 + 3 * m : 11 + 3 * m].reshape(-1)] for m in range(rows)]
    k = before.stat[100 : 100 + 2 * 32].reshape(32, -1).tolist()
    for block in range(-(-rows // TILE)):
        first, part = block * TILE, q[block * TILE : (block + 1) * TILE]
        position = i.position + first
        kept = []
        for tile in range(-(-keys // TILE)):
            at = i.key_base + tile * TILE
            sums = before.summaries[25 + 2 * tile : 27 + 2 * tile].reshape(-1).tolist()
            total = sum(a * b for x in part for a, b in zip(x, sums, strict=True))
            keep = {
                Filter.DENSE: True,
                Filter.CAUSAL: at <= position + TILE - 1,
                Filter.WINDOW: position - before_reach < at + TILE
                and at <= position + TILE - 1 + after_reach,
                Filter.TILE_THRESHOLD: (tile + 1) * TILE > keys or total // 16 >= threshold,
            }[kind]
            kept += [tile] * keep
        computed = kept or [0]
        expected.selection[1 + block] = [tile in computed for tile in range(TINY.key_tiles)]
        for m in range(first, first + len(part)):
            row = [int(before.rowstat[20 + m])] * i.stats_keep
            for key in (tile * TILE + lane for tile in computed for lane in range(TILE)):
                acc = sum(a * b for a, b in zip(q[m], k[key], strict=True))
                shifts = {"pre": 0, "row_shift": i.row_shift, "out_shift": 0, "bits": 16}
                element = Element()
                score = requantise(element, acc, 50000, 12, 0, (1 << 15, 0), **shifts)
                ahead = i.key_base + key - i.position - m
                seen = {
                    Filter.CAUSAL: ahead <= 0,
                    Filter.WINDOW: -before_reach <= ahead <= after_reach,
                }.get(kind, True)
                if key >= keys or not seen or key // TILE not in kept:
                    score = MASKED
                else:
                    expected.tallies[i.tally] += element.clipped
                expected.act[500 + 9 * m + key // TILE, key % TILE] = score
                row.append(score)
            expected.rowstat[20 + m] = max(row)
    same(machine, expected)


@pytest.mark.parametrize("seed", range(16))
def test_softmax(seed):
    where = {"out_rowstat": 60, "keep": seed % 2}
    machine, i, kept = head(seed, Opcode.SOFTMAX, addr=500, stride=9, rowstat=20, **where)
    chip, rng = machine.chip, np.random.default_rng(seed)
    for m in range(i.rows + 1):
        lanes = [(500 + 9 * m + tile, lane) for tile in kept[m // TILE] for lane in range(TILE)]
        for at in lanes:
            chip.act[at] = MASKED if rng.random() < 0.2 or m == 3 else rng.integers(-1500, 1500)
        chip.rowstat[20 + m] = max(chip.act[at] for at in lanes)
    before = run(machine, i)
    expected = copy.deepcopy(before)
    for m in range(i.rows + 1):
        maximum = np.array(before.rowstat[20 + m])
        total = int(before.rowstat[60 + m]) * i.keep
        for word in (500 + 9 * m + tile for tile in kept[m // TILE]):
            level = levels(before.act[word].astype(np.int64), maximum)
            expected.act[word] = level - 127
            total += level.sum()
        expected.rowstat[60 + m] = total
    assert i.keep or i.rows < 3 or expected.rowstat[63] == 0
    same(machine, expected)


def test_of_a_maximum_16_bits_count():
    machine, i, _ = head(4, Opcode.SOFTMAX, addr=500, stride=9, rowstat=20, out_rowstat=60)
    machine.chip.act[500:700] = -700
    machine.chip.rowstat[20:40] = -700
    beyond = copy.deepcopy(machine)
    beyond.chip.rowstat[20:40] = (1 << 16) - 700
    run(machine, i)
    run(beyond, i)
    assert (machine.chip.act == beyond.chip.act).all()
    assert (machine.chip.rowstat[60:80] == beyond.chip.rowstat[60:80]).all()
    assert machine.chip.rowstat[60] >= 254


def test_a_sum_may_replace_its_maximum():
    machine, i, kept = head(4, Opcode.SOFTMAX, addr=500, stride=9, rowstat=20, out_rowstat=20)
    machine.chip.rowstat[20 : 21 + i.rows] = 32767
    run(machine, i)
    assert (machine.chip.rowstat[20 : 21 + i.rows] < 255 * TILE * len(kept[0])).all()


@pytest.mark.parametrize("seed", range(4))
def test_sums_have_24_bits(seed):
    machine, i, _ = head(seed, Opcode.SOFTMAX, addr=500, stride=9, out_rowstat=60, keep=1)
    machine.chip.act[500:700] = 100
    machine.chip.rowstat[: i.rows + 1], machine.chip.rowstat[60:90] = 100, (1 << 23) - 1
    run(machine, i)
    assert (machine.chip.rowstat[60 : 61 + i.rows] < -(1 << 22)).all()


@pytest.mark.parametrize("seed", range(16))
def test_context(seed):
    rng = np.random.default_rng(seed)
    machine, i, kept = head(
        seed,
        Opcode.CONTEXT,
        d_tiles=2,
        p_addr=500,
        p_stride=9,
        v_addr=100,
        p_rowstat=20,
        param=400,
        out_addr=700,
        out_stride=3,
        out_mode=OutMode(seed % 3),
        stats=int(rng.integers(0, 2)),
        stats_keep=int(rng.integers(0, 2)),
        out_rowstat=60,
        finish=1,
        row_shift=int(rng.choice([12, 6])),
        tally=int(rng.integers(0, 64)),
    )
    machine.chip.stat[100 + 2 * (i.keys + 1) : 200] = -128  # rows beyond the last key
    before = run(machine, i)
    expected = copy.deepcopy(before)
    acc = []
    for m in range(i.rows + 1):
        sums = [0] * (2 * TILE)
        for key in (tile * TILE + lane for tile in kept[m // TILE] for lane in range(TILE)):
            p = low_byte(before.act[500 + 9 * m + key // TILE, key % TILE])
            for d, v in enumerate(before.stat[100 + 2 * key : 102 + 2 * key].reshape(-1)):
                sums[d] += (p + 127) * int(v)
        acc.append(sums)
    scales = [row_scale(before, RowScale.RECIPROCAL, 20 + m) for m in range(i.rows + 1)]
    finish(before, expected, i, acc, scales)
    same(machine, expected)


@pytest.mark.parametrize("write", ["out", "sum", "both", "both in place"])
@pytest.mark.parametrize("seed", range(12))
def test_norm(seed, write):
    rng = np.random.default_rng(seed)
    machine = emulator(seed)
    rows, count = int(rng.integers(1, 6)), int(rng.integers(2, 21))
    words = -(-count // TILE) + int(rng.integers(0, 2))
    i = instruction(
        Opcode.NORM,
        rows=rows - 1,
        words=words,
        count=count,
        residual=int(rng.integers(0, 2)),
        centre=int(rng.integers(0, 2)),
        normalise=int(write != "sum"),
        sum=int(write != "out"),
        y_addr=3,
        y_stride=7,
        x_addr=100,
        x_stride=8,
        out_addr=3 if write == "both in place" else 300,
        out_stride=7,
        sum_addr=100 if write == "both in place" or seed % 2 else 400,
        sum_stride=8,
        rowstat=40,
        param=2,
        inverse_count=inverse_count(count),
        epsilon=int(rng.integers(0, 1 << 32)),
        out_shift=int(rng.integers(0, 20)),
        tally=int(rng.integers(0, 64)),
    )
    before = run(machine, i)
    expected = copy.deepcopy(before)
    records = [before.vparam.reshape(-1, 8)[2 * TILE + c].tobytes() for c in range(count)]
    parameters = NormParameters(
        np.array([(int.from_bytes(r[:3], "little") + (1 << 17)) % (1 << 18) for r in records])
        - (1 << 17),
        np.array([int.from_bytes(r[3:6], "little", signed=True) for r in records]),
        np.array([r[6] & 15 for r in records]),
        np.array([r[7] & 15 for r in records]),
        np.array([r[6] >> 4 for r in records]),
    )
    for m in range(rows):
        y, x = (
            before.act[at : at + words].reshape(1, -1)[:, :count].astype(np.int64)
            for at in (3 + 7 * m, 100 + 8 * m)
        )
        clipping, results = Clipping(), []
        z = residual_sum(y, x if i.residual else None, parameters, clipping)
        if i.sum:
            results.append((i.sum_addr + 8 * m, rounded_sum(z, parameters, clipping)))
        if i.normalise:
            options = {"epsilon": i.epsilon, "out_shift": i.out_shift, "centre": bool(i.centre)}
            row = normalise(z, parameters, **options, clip=clipping)
            results.append((i.out_addr + 7 * m, row))
        for at, row in results:
            padded = np.zeros(words * TILE, np.int64)
            padded[:count] = row[0]
            expected.act[at : at + words] = padded.reshape(words, TILE)
        expected.rowstat[40 + m] = np.abs(row).max()
        expected.tallies[i.tally] += clipping.elements.sum()
    same(machine, expected)


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("out_mode", [OutMode.ACT16, OutMode.ACT8])
@pytest.mark.parametrize("seed", range(6))
def test_elementwise(seed, out_mode, operation):
    rng = np.random.default_rng(seed)
    machine = emulator(seed)
    machine.chip.act[:] = rng.integers(-32767, 32768, machine.chip.act.shape)
    rows, count = int(rng.integers(1, 6)), int(rng.integers(1, 21))
    words = -(-count // TILE) + int(rng.integers(0, 2))
    i = instruction(
        Opcode.ELEMENTWISE,
        rows=rows - 1,
        words=words,
        count=count,
        shift=int(rng.integers(0, 16)),
        y_addr=3,
        y_stride=7,
        x_addr=100,
        x_stride=8 * (seed % 2),
        out_addr=3 if seed % 3 else 300,
        out_stride=7,
        tally=int(rng.integers(0, 64)),
        out_mode=out_mode,
        stats=seed // 2 % 2,
        operation=operation,
        rowstat=40,
    )
    before = run(machine, i)
    expected = copy.deepcopy(before)
    for m in range(rows):
        y, x = (before.act[at : at + words].reshape(-1) for at in (3 + 7 * m, 100 + i.x_stride * m))
        row = [0] * (words * TILE)
        for c in range(count):
            element, a, b = Element(), int(y[c]), int(x[c])
            total = a * b if operation == Operation.PRODUCT else a + b
            row[c] = element.saturate(round_shift(total, i.shift), 8 if out_mode else 16)
            expected.tallies[i.tally] += element.clipped
        at = i.out_addr + 7 * m
        expected.act[at : at + words] = np.array(row).reshape(words, TILE)
        if i.stats:
            expected.rowstat[40 + m] = max(map(abs, row))
    same(machine, expected)


def test_tallies_begin_anew_with_a_run():
    machine = emulator(0)
    machine.chip.tallies[5] = 7
    run(machine)
    assert not machine.chip.tallies.any()
