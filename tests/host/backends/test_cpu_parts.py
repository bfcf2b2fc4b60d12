"""What kernels of the CPU backend are made of: each is its golden function, at every extreme."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from operators import channel, table

from transept.golden.numerics import polynomial, softmax
from transept.golden.numerics.requantise import ONE, activation, quantise_row, requantise
from transept.host.backends.cpu import product
from transept.host.backends.cpu.product import Weights, has_int8_products, products
from transept.host.backends.cpu.reciprocals import reciprocals, right_shift, roots
from transept.host.backends.cpu.requantise import Requantiser
from transept.host.backends.cpu.rows import Activation, quantise_rows
from transept.host.backends.cpu.softmax import Scores, levels, row_sums
from transept.host.bench.gpu import attention_op


@pytest.fixture(params=["int8", "float32"])
def way(request, monkeypatch):
    """How int8 is multiplied: as this CPU can, and as any other."""
    if request.param == "float32":
        monkeypatch.setattr(product, "has_int8_products", lambda: False)
        monkeypatch.delattr(torch, "_int_mm")
    return request.param


# --- products
@pytest.mark.parametrize("k", [1, 2, 15, 16, 17, 48, 1039, 1040, 1041, 2081, 4096])
def test_products_of_weights(k, way):
    rng = np.random.default_rng(k)
    for n in (1, 2, 17):
        for weight in (rng.choice([-127, 127], (n, k)), np.full((n, k), -127)):
            weights = Weights(weight.astype(np.int8))
            for m in (1, 3, 33):
                for x in (rng.choice([-127, 127], (m, k)), np.full((m, k), 127)):
                    found = weights.product(torch.tensor(x, dtype=torch.int8))
                    assert np.array_equal(found.numpy(), x @ weight.T)


@pytest.mark.parametrize(("rows", "depth", "columns"), [(3, 5, 2), (130, 64, 128), (64, 2100, 33)])
def test_products_of_heads(rows, depth, columns, way):
    rng = np.random.default_rng(depth)
    a, b = (
        rng.choice([-127, 127], (2, 3, rows, depth)),
        rng.choice([-127, 127], (2, 3, depth, columns)),
    )
    a[0, 0], b[0, 0] = 127, -127
    found = products(*(torch.tensor(x, dtype=torch.int8) for x in (a, b)))
    assert np.array_equal(found.numpy(), a @ b)


def test_a_cpu_without_int8_instructions_has_no_int8_products(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert not has_int8_products.__wrapped__()


def test_int8_products_that_saturate_are_none(monkeypatch):
    def saturating(x, y):
        pairs = x.double().unflatten(1, (-1, 2))[:, None] * y.T.double().unflatten(1, (-1, 2))
        return pairs.sum(-1).clamp(-(1 << 14), 1 << 14).sum(-1).int()

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx_vnni": True})
    monkeypatch.setattr(torch, "_int_mm", lambda x, y: (x.double() @ y.double()).int())
    assert has_int8_products.__wrapped__()
    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not has_int8_products.__wrapped__()


# --- rows and activations
def test_rows_of_every_maximum():
    row_max = torch.arange(32768)
    steps = torch.linspace(-1, 1, 41).mul(row_max[:, None]).round().long()
    found = quantise_rows(steps.to(torch.int16))
    assert torch.equal(found.elements.long(), quantise_row(steps, row_max))
    assert torch.equal(found.multiplier[:, 0].long(), row_max.clip(256))
    assert found.low is None


@pytest.mark.parametrize("bits", [8, 16])
def test_activations_of_every_number(bits):
    x = torch.arange(-32767, 32768).view(-1, 5)
    for seed in range(3):
        curve = table(np.random.default_rng(seed))
        wanted = activation(x.numpy(), curve)
        found = Activation(curve, bits)(x.double())
        assert found.dtype == (torch.int8 if bits == 8 else torch.int16)
        limit = (1 << bits - 1) - 1
        assert np.array_equal(found.numpy(), wanted.clip(-limit, limit))
        assert np.abs(wanted).max() == 32767


# --- the requantiser
@st.composite
def requantisers(draw):
    """Parameters within their limits, and accumulators as large as is told."""
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 3))

    def several(low, high):
        return draw(st.lists(st.integers(low, high), min_size=n, max_size=n))

    bias = draw(st.sampled_from([0, 100, (1 << 23) - 1]))
    constants = channel(n, several(0, 65535), several(0, 31), several(-bias, bias))
    largest = draw(st.sampled_from([100, 1 << 18, (1 << 24) - 1, 1 << 24, 1 << 26]))
    exponents = draw(st.sampled_from([0, 7, 23]))
    numbers = st.one_of(st.integers(-largest, largest), st.sampled_from([-largest, largest]))
    acc = draw(st.lists(numbers, min_size=n * m, max_size=n * m))
    row = draw(st.lists(st.integers(0, 65536 if exponents else 32768), min_size=m, max_size=m))
    exponent = draw(st.lists(st.integers(0, exponents), min_size=m, max_size=m))
    shifts = {
        "row_shift": draw(st.integers(0, 63)),
        "out_shift": draw(st.integers(0, 15)),
        "bits": draw(st.sampled_from([8, 16])),
    }
    return constants, largest, exponents, np.reshape(acc, (m, n)), row, exponent, shifts


@settings(max_examples=600, deadline=None)
@given(requantisers())
def test_the_requantiser(drawn):
    constants, largest, exponents, acc, row, exponent, shifts = drawn
    row, exponent = np.array(row), np.array(exponent)
    wanted = requantise(acc, constants, row, exponent, pre=0, **shifts)
    largest = np.full(acc.shape[1], largest)
    kernel = Requantiser(constants, **shifts, largest=largest, most=65536, exponent=exponents)
    scale = torch.tensor(row * 2.0**-exponent)[:, None]
    assert np.array_equal(kernel(torch.tensor(acc, dtype=torch.float64), scale).numpy(), wanted)


def requantised(acc, constants, row, **shifts):
    """Of one row: golden, and by a kernel that knows of no bound."""
    wanted = requantise(np.array([acc]), constants, np.array([row]), np.array([0]), pre=0, **shifts)
    largest = np.full(len(acc), 1 << 26)
    kernel = Requantiser(constants, **shifts, largest=largest, most=65536)
    found = kernel(torch.tensor([acc]).double(), torch.tensor([[float(row)]]).double())
    return wanted[0].tolist(), found[0].tolist()


def test_the_third_saturation_is_seen_at_the_lower_end_alone():
    """Where the last rounding meets a tie: -32766.5 rounds up, so that the result is no limit."""
    constants = channel(2, 32768, 15, [0, 767])
    shifts = {"row_shift": 0, "out_shift": 9, "bits": 16}
    wanted, found = requantised([-(1 << 23) - 5] * 2, constants, 2, **shifts)
    assert wanted == found == [-32767, -32766]
    wanted, found = requantised([(1 << 23) + 5] * 2, constants, 2, **shifts)
    assert wanted == found == [32767, 32767]


def test_a_bias_far_above_the_last_place_of_its_product():
    """Of 2**39 + 3, a little more than 1/2: beside the bias float64 has no room for it."""
    constants = channel(1, 32768, 15, 31_900 * 256 - 128)
    shifts = {"row_shift": 40, "out_shift": 8, "bits": 16}
    wanted, found = requantised([-8_626_733], constants, 63_727, **shifts)
    assert wanted == found == [31_899]


# --- reciprocals
def test_roots():
    rng = np.random.default_rng(0)
    bits = np.repeat(np.arange(62), 400)
    v = (1 << bits) + (rng.random(len(bits)) * (1 << bits)).astype(np.int64)
    # all ones behind the first 17 bits: a float64 of them would round up
    ends = (rng.integers(1 << 16, 1 << 17, (2000, 1)) + 1 << np.arange(30, 45)) - 1
    v = torch.tensor(np.concatenate([v, 1 << np.arange(62), ends.flatten()]))
    mantissa, exponent = polynomial.rsqrt(v)
    assert torch.equal(roots(v), mantissa * 2.0 ** -exponent.double())


def test_powers_of_two():
    assert right_shift(torch.tensor([0, 1, 63])).tolist() == [1.0, 0.5, 2.0**-63]


def test_reciprocals():
    for most in (1, 254, 254 * 512, 254 * 4096, (1 << 24) - 1):
        n = torch.cat([torch.arange(min(most, 3000) + 1), torch.linspace(0, most, 1000).long()])
        mantissa, exponent = polynomial.reciprocal(n)
        assert torch.equal(reciprocals(n.double(), most), mantissa * 2.0 ** -exponent.double())


# --- scores and levels
def test_levels_at_every_distance():
    """Any error of torch's power would show here: 65,535 distances, each with every dither."""
    score = torch.arange(32767, -32768, -1)[:, None].expand(-1, 4).reshape(1, -1)
    found = levels(score.float())
    assert torch.equal(found.long(), softmax.levels(score, score[:, :1]))
    assert torch.equal(row_sums(found).long(), found.long().sum(-1, keepdim=True))


def test_levels_of_rows_of_any_length():
    rng = np.random.default_rng(0)
    for keys in (1, 2, 3, 5, 17, 100):
        score = torch.tensor(rng.integers(-600, 600, (3, keys)))
        wanted = softmax.levels(score, score.amax(-1, keepdim=True))
        assert torch.equal(levels(score.float()).long(), wanted)


def test_sums_of_more_levels_than_float32_holds():
    level = torch.full((1, 70_001), 254.0)
    level[0, -1] = 1
    assert row_sums(level).item() == 254 * 70_000 + 1


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 128),
    st.lists(st.integers(0, 65535), min_size=2, max_size=2),
    st.lists(st.integers(0, 31), min_size=2, max_size=2),
    st.integers(0, 63),
    st.lists(st.floats(-1, 1), min_size=12, max_size=12),
)
@example(8, [40_000, 65_535], [10, 0], 15, [0.3, -0.001] * 6)
def test_scores(depth, multiplier, shift, row_shift, shares):
    op = dataclasses.replace(
        attention_op(2, depth, 6),
        score_multiplier=np.array(multiplier),
        score_shift=np.array(shift),
        score_row_shift=row_shift,
    )
    acc = np.rint(np.reshape(shares, (2, 2, 3)) * depth * 127**2).astype(np.int64)
    found = Scores(op, depth)(torch.tensor(acc)[None].double(), slice(0, 2))
    ones, last = np.full(2, ONE), {"row_shift": row_shift, "out_shift": 0, "bits": 16}
    for head in range(2):
        constants = channel(3, multiplier[head], shift[head])
        wanted = requantise(acc[head], constants, ones, ones * 0, pre=0, **last)
        assert np.array_equal(found[0, head].numpy(), wanted)


def test_long_numbers_have_no_list(monkeypatch):
    """Of 24 bits it would take more than a gigabyte."""
    monkeypatch.setattr("transept.host.backends.cpu.reciprocals._list", None)
    found = reciprocals(torch.arange(1, 4), (1 << 24) - 1)
    assert found.tolist() == [65536, 32768, 21845.5]
