"""One static GEMM against an int64 NumPy product, and its cycles."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from emulation import emulate
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transept.golden.config import KV260, PYNQ_Z2, TINY, preset
from transept.golden.graph import GraphError
from transept.golden.isa import Opcode
from transept.host.bench import gemm as module
from transept.host.bench.gemm import DEFAULT_SHAPES, bench_gemm, check_shape, read_bound
from transept.host.bench.product import OUT_SHIFT, _requantisation, gemm, reference
from transept.host.compiler.compile import compile_cut
from transept.host.compiler.cut import SIZINGS, TOGETHER, Policy, Spill, choose
from transept.host.runtime.session import Session

#: Cycles on the RTL, memory ``default``.
CYCLES = {
    "64x64x64": 1_670,
    "128x128x128": 9_159,
    "256x256x256": 67_073,
    "512x512x512": 526_785,
    "1x768x768": 47_760,
}
#: Share by which a prediction may be off; the smallest one is mostly memory.
PREDICTED, SMALLEST = 0.012, 0.06


def operands(m, n, k, seed):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(-127, 128, (m, k)).astype(np.int8),
        rng.integers(-127, 128, (k, n)).astype(np.int8),
    )


def emulated(product, a, **options):
    return emulate(product.region, product.executable, {"a": a[None]}, **options)["c"][0]


sizes = st.integers(1, 40)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, sizes, st.integers(0, 1 << 16))
@example(1, 1, 1, 0)
@example(33, 5, 200, 0)  # B in several blocks along k
@example(3, 200, 60, 0)  # B does not stay on chip
@example(70, 4, 4, 0)
def test_is_the_numpy_product(m, n, k, seed):
    a, b = operands(m, n, k, seed)
    product = gemm(TINY, m, b)
    want = reference(a, b, product)
    assert (emulated(product, a) == want).all()
    assert (emulated(product, a, seed=seed, order=np.random.default_rng(seed)) == want).all()


def test_extreme_operands_saturate():
    a, b = np.full((9, 60), 127, np.int8), np.full((60, 9), -127, np.int8)
    product = gemm(TINY, 9, b)
    got = emulated(product, a)
    assert (got == reference(a, b, product)).all()
    assert (got == -127).all()


def test_results_use_the_range():
    a, b = operands(40, 40, 40, 0)
    assert 20 < reference(a, b, gemm(TINY, 40, b)).std() < 80


@pytest.mark.parametrize(
    ("changes", "seed"),
    [({"tile": 8}, 0), ({"max_rows": 32}, 1), ({"stat_words": 128}, 2), ({"act_banks": (96,)}, 3)],
)
def test_other_hardware_gives_the_same_bits(changes, seed):
    a, b = operands(37, 30, 50, seed)
    product = gemm(TINY.replace(name="other", **changes), 37, b)
    assert (emulated(product, a) == reference(a, b, product)).all()


def test_weights_of_minus_128_are_refused():
    with pytest.raises(GraphError, match="weights of gemm hold -128, operands are -127 to 127"):
        gemm(TINY, 4, np.diag(np.full(4, -128)).astype(np.int8))


def test_weights_of_another_type_are_refused():
    with pytest.raises(GraphError, match=r"weights of gemm are float64\[4, 4\], must be int8"):
        gemm(TINY, 4, np.zeros((4, 4)))


def test_a_shape_of_more_than_two_minutes_is_refused():
    check_shape(PYNQ_Z2, "16384x1024x512")
    with pytest.raises(ValueError, match="needs 33,685,504 cycles or more"):
        check_shape(PYNQ_Z2, "16448x1024x512")


# --- cycles
def shape_of(text):
    return tuple(int(part) for part in text.split("x"))


@pytest.mark.parametrize("shape", DEFAULT_SHAPES)
def test_predicted_cycles(shape):
    m, n, k = shape_of(shape)
    _, b = operands(m, n, k, 0)
    executable = gemm(PYNQ_Z2, m, b).executable
    share = SMALLEST if shape == "64x64x64" else PREDICTED
    assert executable.predicted_cycles == pytest.approx(CYCLES[shape], rel=share)


@pytest.mark.slow
@pytest.mark.parametrize("shape", DEFAULT_SHAPES)
def test_cycles(shape):
    (row,) = bench_gemm(PYNQ_Z2, [shape], device="rtl", seed=1, rate=12.8)
    assert row["mismatches"] == 0
    assert row["cycles"] <= CYCLES[shape]


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "share"), [("256x256x256", 0.92), ("512x512x512", 0.98)])
def test_share_of_an_array_of_1024(shape, share):
    (row,) = bench_gemm(KV260, [shape], device="rtl", seed=1, rate=25.6, memory="wide")
    assert row["mismatches"] == 0
    assert row["utilisation"] >= share


def test_weights_that_fit_are_read_once():
    _, b = operands(256, 256, 256, 0)
    product = gemm(PYNQ_Z2, 256, b)
    (row,) = bench_gemm(PYNQ_Z2, ["256x256x256"], device="emulator", seed=1, rate=12.8)
    program = len(product.executable.instructions)
    assert row["bytes_read"] == product.region.weights.size + 256 * 256 + program
    assert row["mismatches"] == 0


# --- weights that do not fit
@pytest.mark.parametrize("tiles", TOGETHER)
@pytest.mark.parametrize(
    ("m", "n", "k", "changes", "several"),
    [
        (61, 57, 39, {}, False),
        (300, 60, 40, {}, True),  # the columns of the second wave come in reverse order
        (200, 30, 60, {"acc_slots": 1}, True),
        (100, 40, 60, {"stat_words": 160}, True),  # one column is used while another comes
    ],
)
def test_rows_that_take_weights_together(m, n, k, changes, several, tiles):
    config = TINY.replace(**({"stat_words": 400} | changes))
    a, b = operands(m, n, k, 0)
    product = gemm(config, m, b)
    region, shape = product.region, product.region.shape(1, {"rows": m})
    policy = Policy(1, False, Spill.NONE, 2, SIZINGS[0], 1.0, together=tiles)
    cut = choose(region.graph, config, shape, policy)
    waves = -(-m // (cut.rows[0] * cut.together))
    assert (waves > 1) == several
    executable = compile_cut(region.graph, config, shape, cut, region.image)
    columns = [i for i in executable.decoded() if i.opcode == Opcode.LOAD and not i.stride]
    assert len(columns) <= waves * -(-n // config.tile)
    assert waves == 1 or len(columns) < waves * -(-n // config.tile)  # some were still there
    want = reference(a, b, product)
    for order in (None, np.random.default_rng(1)):
        found = emulate(region, executable, {"a": a[None]}, order=order)
        assert (found["c"][0] == want).all()


@pytest.mark.parametrize(
    ("changes", "policy"),
    [
        ({"stat_words": 88}, {}),  # no room for two columns
        ({"act_banks": (100,)}, {}),  # nor for two blocks
        ({}, {"resident": True}),
    ],
)
def test_rows_that_cannot_take_weights_together(changes, policy):
    config = TINY.replace(**changes)
    _, b = operands(50, 40, 40, 0)
    region = gemm(config, 50, b).region
    wanted = dataclasses.replace(Policy(1, False, Spill.NONE, 2, SIZINGS[0], 1.0, 2.0), **policy)
    assert choose(region.graph, config, region.shape(1, {"rows": 50}), wanted) is None


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("pynq_z2", 1.22),
        ("pynq_z2_board", 1.22),
        ("kv260", 1.03),
        ("ulx3s", 1.29),
    ],
)
def test_bytes_of_a_product_whose_operands_do_not_fit(name, share):
    """Instructions too."""
    config = preset(name)
    _, b = operands(512, 512, 512, 0)
    executable = gemm(config, 512, b).executable
    loads = [i for i in executable.decoded() if i.opcode == Opcode.LOAD]
    read = sum(i.rows * i.words * config.tile * (1 + i.wide) for i in loads)
    assert read + len(executable.instructions) < share * read_bound(config, 512, 512, 512)


@pytest.mark.parametrize(
    ("held", "shape", "bound"),
    [(16, (8, 8, 8), 256), (1 << 20, (3, 5, 7), 56), (64, (64, 1, 1), 65), (64, (9, 9, 9), 182)],
)
def test_what_must_be_read_at_least(held, shape, bound):
    config = TINY.replace(act_banks=(held // 4,))
    assert read_bound(config, *shape) == bound


# --- figures
@pytest.mark.parametrize(
    ("shape", "good"),
    [
        ("65536x1020x4", False),
        ("65536x4x4", True),
        ("65537x4x4", False),
        ("1x1020x1020", True),
        ("1x1021x4", False),
        ("1x4x1021", False),
        ("1x1x1", True),
        ("0x1x1", False),
        ("1x0x1", False),
        ("1x1x0", False),
    ],
)
def test_limits_of_a_shape(monkeypatch, shape, good):
    """Up to 255 tiles of 4, and to 2**24 cycles here."""
    assert module.MAX_CYCLES == 1 << 25
    monkeypatch.setattr(module, "MAX_CYCLES", 65536 * 254)
    if good:
        check_shape(TINY, shape)
    else:
        with pytest.raises(ValueError, match=r"is outside 1 to|needs 16,711,680 cycles or more"):
            check_shape(TINY, shape)


def test_part_of_a_tile_takes_its_cycles(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "check_cycles", lambda *told: asked.append(told))
    check_shape(TINY, "7x9x13")
    assert asked == [("7x9x13", 7 * 3 * 4, TINY, 1 << 25)]


@pytest.mark.parametrize("device", ["rtl", "emulator"])
def test_figures_of_a_product(monkeypatch, device):
    """Two elements are made to differ."""
    results, operands = [], []
    run = Session.run

    def watched(session, region, inputs):
        results.append(run(session, region, inputs))
        return results[-1]

    def wrong(a, b, product):
        operands.append((a, b))
        c = reference(a, b, product)
        c[0, 0] += 1
        c[-1, -1] -= 1
        return c

    monkeypatch.setattr(Session, "run", watched)
    monkeypatch.setattr(module, "reference", wrong)
    found, again = bench_gemm(TINY, ["9x30x13"] * 2, device=device, seed=5, rate=5.5)
    report, ((a, b), _) = results[0].report, operands
    product = gemm(TINY, 9, b)
    moved = product.region.weights.size
    moved += sum(tensor.nbytes for tensor in product.executable.tensors.values())
    cycles = report.cycles if device == "rtl" else None
    assert found == {
        **{"shape": "9x30x13", "cycles": cycles, "ideal_cycles": -(-9 * 30 * 13 // 16)},
        "utilisation": cycles and 9 * 30 * 13 / 16 / cycles,
        "memory_bound_cycles": -(-moved * 2 // 11),
        "bytes_bound": 9 * 13 + 13 * 30,
        **{"bytes_read": report.bytes_read, "bytes_written": report.bytes_written},
        "mismatches": 2,
    }
    assert again == found
    rng = np.random.default_rng(5)
    assert (a == rng.integers(-127, 128, (9, 13))).all()
    assert (b == rng.integers(-127, 128, (13, 30))).all()


def test_where_no_product_runs_there_is_a_reason(monkeypatch):
    def run(session, region, inputs):
        session.notes[:] = ["no", "way"]
        return SimpleNamespace(report=None)

    monkeypatch.setattr(Session, "run", run)
    with pytest.raises(RuntimeError, match=r"^no; way$"):
        bench_gemm(TINY, ["4x4x4"], device="emulator", seed=1, rate=1.0)


@pytest.mark.parametrize(
    ("k", "row_shift"), [(2, 15), (4, 15), (5, 15), (20, 16), (64, 16), (768, 18), (4080, 19)]
)
def test_three_standard_deviations_of_a_product_are_127(k, row_shift):
    """Of the accumulator, whose products have a standard deviation of 127**2 / 3."""
    multiplier = round(2.0 ** (row_shift + OUT_SHIFT) / (127 * k**0.5))
    assert _requantisation(k) == (multiplier, row_shift)


def test_the_multiplier_of_the_smallest_product_is_clipped():
    assert _requantisation(1) == (0xFFFF, 15)
