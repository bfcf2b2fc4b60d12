"""One static GEMM against an int64 NumPy product, and its cycles."""

import numpy as np
import pytest
from emulation import emulate
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.graph import GraphError
from transept.host.bench.gemm import DEFAULT_SHAPES, bench_gemm, check_shape
from transept.host.bench.product import gemm, reference

#: Cycles on the RTL, memory ``default``: what the first compiler's own program took, or less.
CYCLES = {
    "64x64x64": 1_660,
    "128x128x128": 9_139,
    "256x256x256": 67_053,
    "512x512x512": 527_166,
    "1x768x768": 47_747,
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


def test_weights_that_fit_are_read_once():
    _, b = operands(256, 256, 256, 0)
    product = gemm(PYNQ_Z2, 256, b)
    (row,) = bench_gemm(PYNQ_Z2, ["256x256x256"], device="emulator", seed=1, rate=12.8)
    program = len(product.executable.instructions)
    assert row["bytes_read"] == product.region.weights.size + 256 * 256 + program
    assert row["mismatches"] == 0
