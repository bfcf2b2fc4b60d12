"""Whole programs: random interleavings, memories with other first contents, and cuts of the work
that must not change a bit."""

import itertools
from dataclasses import replace

import numpy as np
import programs
import pytest
from bench import instruction
from hazards import unordered, unwritten
from mixtures import mixture

from transept.golden import isa
from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.emulator import Emulator
from transept.golden.isa import Engine, Filter, Opcode, Window

TILE = TINY.tile
CONFIGS = pytest.mark.parametrize("config", [TINY, PYNQ_Z2], ids=lambda config: config.name)


def image(case: programs.Case, config=TINY, seed: int = 0, order=None) -> np.ndarray:
    """DRAM after a run."""
    dram = case.dram.copy()
    Emulator(config, dram, case.windows, seed).run(order=order)
    return dram


@CONFIGS
@pytest.mark.parametrize("name", programs.CASES)
def test_neither_timing_nor_first_contents_matter(config, name):
    for seed in range(6):
        case = programs.CASES[name](config, np.random.default_rng(seed))
        expected = image(case, config)
        order = np.random.default_rng(seed)
        assert (image(case, config, seed=seed + 1, order=order) == expected).all()
        assert (expected != case.dram).any()


@pytest.mark.parametrize("seed", range(12))
def test_mixtures_have_the_tokens_that_they_need(seed):
    case = mixture(TINY, np.random.default_rng(seed), parts=2)
    assert unordered(case.program[:-1], TINY) == unwritten(case.program[:-1], TINY) == []
    expected = image(case)
    for other in range(3):
        order = np.random.default_rng(other)
        assert (image(case, seed=other + 1, order=order) == expected).all()


def test_memories_start_with_random_bits():
    """Every bit is there, of every memory, and another seed has others."""

    def chip(**options):
        return Emulator(PYNQ_Z2, np.zeros(16, np.uint8), {}, **options).chip

    first = chip()
    for name, least, most in (
        ("act", -(1 << 15), (1 << 15) - 1),
        ("stat", -128, 127),
        ("rowstat", -(1 << 23), (1 << 23) - 1),
        ("vparam", 0, 255),
        ("table", 0, 255),
        ("selection", 0, 1),
        ("summaries", -(1 << 11), (1 << 11) - 1),
    ):
        found = getattr(first, name)
        off = 0.02 if found.size * 8 < most - least else 0 if most < 256 else 1e-3
        assert least <= found.min() <= least * (1 - off), name
        assert most >= found.max() >= most * (1 - off), name
        assert (found == getattr(chip(seed=0), name)).all()
        assert (found != getattr(chip(seed=1), name)).any()
    assert first.vparam.shape == (1024 * 8 // 16, 16)
    assert first.table.shape == (33, 16)
    assert first.selection.shape == (32, 64)
    assert not first.tallies.any()


def test_a_missing_token_is_found():
    """Without the tokens from STORE to GEMM a product overwrites what has not been stored."""
    case = programs.overlapped(TINY, np.random.default_rng(0), rows=8, k_tiles=2, chunks=8)
    loose = [
        replace(i, wait=i.wait - {Engine.STORE}, signal=i.signal - {Engine.GEMM})
        if Engine.STORE in i.wait or i.opcode == Opcode.STORE
        else i
        for i in case.program
    ]
    assert loose != case.program
    text = np.frombuffer(isa.encode_program(loose), np.uint8)
    start = case.windows[Window.PROGRAM][0]
    case.dram[start : start + len(text)] = text
    expected = image(case)[start + len(text) :]
    found = [
        (image(case, order=np.random.default_rng(seed))[start + len(text) :] != expected).any()
        for seed in range(10)
    ]
    assert any(found)


def test_statistics():
    case = programs.matmul(
        TINY, np.random.default_rng(0), rows=5, k_tiles=3, n_tiles=2, activation=0, out_mode=0
    )
    dram = case.dram.copy()
    statistics = Emulator(TINY, dram, case.windows).run()
    assert sum(statistics.instructions.values()) == len(case.program)
    assert statistics.instructions[Opcode.END] == 1
    assert statistics.bytes_fetched == 32 * len(case.program)
    moved = {Opcode.LOAD: 0, Opcode.STORE: 0}
    macs = 0
    for i in case.program:
        if i.opcode in moved:
            moved[i.opcode] += i.rows * i.words * TINY.tile << i.wide
        elif i.opcode == Opcode.MATMUL:
            macs += (i.rows + 1) * i.k_tiles * i.n_tiles * TINY.macs
    assert statistics.bytes_read == moved[Opcode.LOAD]
    assert statistics.bytes_written == moved[Opcode.STORE]
    assert statistics.macs == macs
    assert statistics.tokens_left == 0


@pytest.mark.parametrize("kind", [Filter.DENSE, Filter.CAUSAL])
def test_work_of_attention_is_that_of_its_tiles(kind):
    """Of SCORES and of CONTEXT, for every row each tile that is recorded for its block."""
    shape = {"rows": 14, "keys": 22, "d_tiles": 2, "cuts": [], "position": 0, "way": "load"}
    case = programs.context(TINY, np.random.default_rng(3), filter=kind, **shape)
    machine = Emulator(TINY, case.dram.copy(), case.windows)
    statistics = machine.run()
    first = next(i.select for i in case.program if i.opcode == Opcode.SCORES)
    tiles = sum(int(machine.chip.selection[first + m // TILE].sum()) for m in range(14))
    assert tiles == (14 * 6 if kind == Filter.DENSE else 4 * 1 + 4 * 2 + 4 * 3 + 2 * 4)
    products = (i for i in case.program if i.opcode == Opcode.MATMUL)
    others = sum((i.rows + 1) * i.k_tiles * i.n_tiles * TINY.macs for i in products)
    assert statistics.macs - others == 2 * tiles * 2 * TILE**2


@CONFIGS
@pytest.mark.parametrize("seed", range(5))
def test_cuts_along_k(config, seed):
    """Accumulating over any partition of the k tiles gives the same bits."""
    options = {"k_tiles": 6, "rows": 7}
    cases = [
        programs.split(config, np.random.default_rng(seed), cuts=cuts, **options)
        for cuts in ([], [3], [1, 2], [1, 2, 3, 4, 5])
    ]
    results = []
    for case in cases:
        base, limit = case.windows[Window.IO]
        results.append(image(case, config)[base : base + limit])
    for result in results[1:]:
        assert (result == results[0]).all()


def _after(case: programs.Case, opcode: Opcode, *replacements: isa.Instruction) -> Emulator:
    """The state after the program up to its last ``opcode``, replaced by other instructions."""
    last = max(n for n, i in enumerate(case.program) if i.opcode == opcode)
    body = [replace(i, wait=frozenset(), signal=frozenset()) for i in case.program[:last]]
    text = isa.encode_program([*body, *replacements, instruction(Opcode.END)])
    dram = np.concatenate([case.dram, np.frombuffer(text, np.uint8)])
    windows = case.windows | {Window.PROGRAM: (len(case.dram), len(text))}
    machine = Emulator(TINY, dram, windows)
    machine.run()
    return machine


def _part(i: isa.Instruction, **changes: int) -> isa.Instruction:
    return isa.Instruction(i.opcode, {**i.operands, **changes})


@pytest.mark.parametrize("seed", range(6))
def test_cuts_along_rows_and_n(seed):
    rng = np.random.default_rng(seed)
    case = programs.matmul(TINY, rng, rows=11, n_tiles=4, stats=1, out_mode=seed % 3)
    big = next(i for i in case.program if i.opcode == Opcode.MATMUL)
    first = next(n for n, i in enumerate(case.program) if i.opcode == Opcode.MATMUL)
    case = case._replace(program=case.program[: first + 1])
    whole = _after(case, Opcode.MATMUL, _part(big)).chip
    rows = [
        _part(
            big,
            rows=count - 1,
            a_addr=big.a_addr + at * big.a_stride,
            a_rowstat=big.a_rowstat + at,
            out_addr=big.out_addr + at * big.out_stride,
            out_rowstat=big.out_rowstat + at,
        )
        for at, count in ((0, 3), (3, 1), (4, 7))
    ]
    columns = [
        _part(
            big,
            n_tiles=count,
            b_addr=big.b_addr + at * big.b_n,
            param=big.param + 8 * at,
            out_addr=big.out_addr + at,
            stats_keep=int(big.stats_keep or at > 0),
        )
        for at, count in ((0, 1), (1, 3))
    ]
    for parts in (rows, columns):
        chip = _after(case, Opcode.MATMUL, *parts).chip
        for name in ("act", "stat", "rowstat"):
            assert (getattr(chip, name) == getattr(whole, name)).all(), name


def _head_parts(case: programs.Case, cuts: list[int]) -> list[isa.Instruction]:
    """SCORES, SOFTMAX and CONTEXT of a case, for the rows between the cuts."""
    score, soft, context = (
        next(i for i in case.program if i.opcode == opcode)
        for opcode in (Opcode.SCORES, Opcode.SOFTMAX, Opcode.CONTEXT)
    )
    parts = []
    for at, end in itertools.pairwise(cuts):
        rows, row = end - at - 1, at * score.s_stride
        parts += [
            _part(
                score,
                rows=rows,
                position=score.position + at,
                q_addr=score.q_addr + at * score.q_stride,
                s_addr=score.s_addr + row,
                rowstat=score.rowstat + at,
                select=0,
            ),
            _part(
                soft,
                rows=rows,
                addr=soft.addr + row,
                rowstat=soft.rowstat + at,
                out_rowstat=soft.out_rowstat + at,
                select=0,
            ),
            _part(
                context,
                rows=rows,
                p_addr=context.p_addr + row,
                p_rowstat=context.p_rowstat + at,
                out_addr=context.out_addr + at * context.out_stride,
                out_rowstat=context.out_rowstat + at,
                select=0,
            ),
        ]
    return parts


def _head(
    seed: int, kind: Filter, **options: int
) -> tuple[programs.Case, list[isa.Instruction], isa.Instruction]:
    """An attention head of one instruction each, its program up to SCORES, and its CONTEXT."""
    rng = np.random.default_rng(seed)
    fixed = {"rows": 14, "filter": kind, "out_mode": 0, "stats": 1, "stats_keep": 0, "cuts": []}
    case = programs.context(TINY, rng, **(fixed | options))
    score = next(n for n, i in enumerate(case.program) if i.opcode == Opcode.SCORES)
    loads = [i for i in case.program[score:] if i.opcode == Opcode.LOAD]
    context = next(i for i in case.program if i.opcode == Opcode.CONTEXT)
    return case, [*case.program[:score], *loads, case.program[score]], context


def _compare(case: programs.Case, before: list, context: isa.Instruction, ways: list) -> None:
    """The same context rows and statistics, whichever way they are computed."""
    case = case._replace(program=before)
    machines = [_after(case, Opcode.SCORES, *way) for way in ways]
    outputs = [
        machine.chip.act[context.out_addr : context.out_addr + 14 * context.d_tiles]
        for machine in machines
    ]
    sums = [machine.chip.rowstat[context.out_rowstat :][:14] for machine in machines]
    for output, total in zip(outputs[1:], sums[1:], strict=True):
        assert (output == outputs[0]).all()
        assert (total == sums[0]).all()


@pytest.mark.parametrize("kind", Filter)
@pytest.mark.parametrize("seed", range(4))
def test_cuts_of_attention(seed, kind):
    """Blocks of query rows; a threshold decides for whole blocks, so its cuts are theirs."""
    case, before, context = _head(seed, kind)
    cuts = [[0, 14], [0, 4, 8, 14]]
    if kind != Filter.TILE_THRESHOLD:
        cuts += [[0, 1, 7, 14], list(range(15))]
    _compare(case, before, context, [_head_parts(case, cut) for cut in cuts])


def _key_parts(case: programs.Case, cuts: list[int]) -> list[isa.Instruction]:
    """SCORES, SOFTMAX and CONTEXT of a case, for the keys between the cuts."""
    score, soft, context = (
        next(i for i in case.program if i.opcode == opcode)
        for opcode in (Opcode.SCORES, Opcode.SOFTMAX, Opcode.CONTEXT)
    )
    rows, blocks = score.rows + 1, -(-(score.rows + 1) // TILE)
    tiles = [-(-(end - at) // TILE) for at, end in itertools.pairwise(cuts)]
    stride, sums = sum(tiles), TINY.memories.rowstat_entries - rows
    addr = TINY.act_words - rows * stride
    parts = {opcode: [] for opcode in (Opcode.SCORES, Opcode.SOFTMAX, Opcode.CONTEXT)}
    for n, (at, end) in enumerate(itertools.pairwise(cuts)):
        place = addr + sum(tiles[:n])
        common = {"keys": end - at - 1, "select": n * blocks}
        parts[Opcode.SCORES].append(
            _part(
                score,
                **common,
                key_base=score.key_base + at,
                k_addr=score.k_addr + at * score.d_tiles,
                s_addr=place,
                s_stride=stride,
                stats_keep=int(n > 0),
            )
        )
        parts[Opcode.SOFTMAX].append(
            _part(soft, **common, addr=place, stride=stride, out_rowstat=sums, keep=int(n > 0))
        )
        parts[Opcode.CONTEXT].append(
            _part(
                context,
                **common,
                accumulate=int(n > 0),
                finish=int(end == cuts[-1]),
                p_addr=place,
                p_stride=stride,
                p_rowstat=sums,
                v_addr=context.v_addr + at * context.d_tiles,
            )
        )
    return list(itertools.chain(*parts.values()))


@pytest.mark.parametrize("kind", Filter)
@pytest.mark.parametrize("seed", range(8))
def test_cuts_of_keys(seed, kind):
    """Scores, exponentials and context of a row, part by part, are those of the whole row. Cuts
    are those of tiles: the dither of levels repeats every four keys."""
    rng = np.random.default_rng([seed, 5])
    keys = int(rng.integers(9, 25))
    case, before, context = _head(seed, kind, keys=keys, position=5)
    inner = range(TILE, keys, TILE)
    ways = [[0, keys]]
    for count in (1, 2, 3):
        cuts = rng.choice(inner, min(count, len(inner)), False)
        ways.append([0, *sorted(cuts.tolist()), keys])
    _compare(case, before, context, [_key_parts(case, cuts) for cuts in ways])
