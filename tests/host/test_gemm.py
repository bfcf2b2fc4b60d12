"""One static GEMM against an int64 NumPy product."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_models import emulate

from transept.golden.config import TINY
from transept.host.compile import CompileError
from transept.host.gemm import compile_gemm, reference


def operands(m, n, k, seed, low=-127):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(low, 128, (m, k)).astype(np.int8),
        rng.integers(-127, 128, (k, n)).astype(np.int8),
    )


sizes = st.integers(1, 40)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, sizes, st.integers(0, 1 << 16))
@example(1, 1, 1, 0)
@example(33, 5, 200, 0)  # B in several blocks along k
@example(3, 200, 60, 0)  # B does not stay on chip
@example(70, 4, 4, 0)
def test_is_the_numpy_product(m, n, k, seed):
    a, b = operands(m, n, k, seed)
    gemm = compile_gemm(TINY, m, n, k, b)
    want = reference(a, b, gemm)
    assert (emulate(gemm.launch, a) == want).all()
    order = np.random.default_rng(seed)
    assert (emulate(gemm.launch, a, seed=seed, order=order) == want).all()


def test_extreme_operands_saturate():
    a, b = np.full((9, 60), 127, np.int8), np.full((60, 9), -127, np.int8)
    gemm = compile_gemm(TINY, 9, 9, 60, b)
    got = emulate(gemm.launch, a)
    assert (got == reference(a, b, gemm)).all()
    assert (got == -127).all()


def test_results_use_the_range():
    a, b = operands(40, 40, 40, 0)
    gemm = compile_gemm(TINY, 40, 40, 40, b)
    assert 20 < reference(a, b, gemm).std() < 80


@pytest.mark.parametrize(
    ("changes", "seed"),
    [({"tile": 8}, 0), ({"max_rows": 32}, 1), ({"stat_words": 128}, 2), ({"act_banks": (96,)}, 3)],
)
def test_other_hardware_gives_the_same_bits(changes, seed):
    a, b = operands(37, 30, 50, seed)
    gemm = compile_gemm(TINY.replace(name="other", **changes), 37, 30, 50, b)
    assert (emulate(gemm.launch, a) == reference(a, b, gemm)).all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 4, 4), "M=0 must be at least 1"),
        ((4, -1, 4), "N=-1 must be at least 1"),
        ((4, 4, 0), "K=0 must be at least 1"),
        ((1, 4, 1021), "K=1021 and N=4 must be at most 1020"),
    ],
)
def test_shapes_that_do_not_fit(shape, message):
    m, n, k = shape
    with pytest.raises(CompileError, match=message):
        compile_gemm(TINY, m, n, k, np.zeros((max(k, 0), max(n, 0)), np.int8))


def test_a_row_must_fit_twice():
    small = TINY.replace(name="small", act_banks=(64,))
    with pytest.raises(CompileError, match=r"130 words does not fit twice into 64 .* of small"):
        compile_gemm(small, 1, 260, 260, np.zeros((260, 260), np.int8))


def test_weights_of_minus_128_are_refused():
    with pytest.raises(ValueError, match="weights -128 to 0 are outside -127 to 127"):
        compile_gemm(TINY, 4, 4, 4, np.diag(np.full(4, -128)).astype(np.int8))


@pytest.mark.parametrize("b", [np.zeros((4, 5), np.int8), np.zeros((4, 4))], ids=["shape", "type"])
def test_b_must_be_int8_k_by_n(b):
    with pytest.raises(CompileError, match=r"B is .*\[4, [45]\], must be int8\[4, 4\]"):
        compile_gemm(TINY, 4, 4, 4, b)
