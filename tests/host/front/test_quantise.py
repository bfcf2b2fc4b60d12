"""Scales, tables and rounding: what is approximate, and by how much."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from transept.golden.numerics.requantise import activation
from transept.host.front.quantise.grids import int24, multipliers, power_of_two
from transept.host.front.quantise.rounding import Feedback, feedback, round_weights
from transept.host.front.quantise.tables import fit_table

FUNCTIONS = {
    "gelu": functional.gelu,
    "silu": functional.silu,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "sine": torch.sin,
    "square": torch.square,
}


def fitted(function, reach):
    largest = function(torch.linspace(-2 * reach, 2 * reach, 999, dtype=torch.float64)).abs().max()
    return fit_table(function, reach, power_of_two(float(largest), 32767))


@pytest.mark.parametrize("reach", [0.3, 3, 11])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_table_is_the_function(name, reach):
    found = fitted(FUNCTIONS[name], reach)
    assert found.error < 0.002
    steps = np.arange(-32767, 32768, 7)
    steps = steps[np.abs(steps) * 2.0**found.in_exponent <= reach]
    wanted = FUNCTIONS[name](torch.as_tensor(steps * 2.0**found.in_exponent)).numpy()
    got = activation(steps, found.table) * 2.0**found.out_exponent
    assert np.abs(got - wanted).max() <= 0.002 * np.abs(wanted).max()


@pytest.mark.parametrize("slope", [50, 100, 200, 1000])
def test_a_steep_function_has_a_table(slope):
    """Whose constants leave few fractional bits."""
    assert fitted(lambda x: torch.tanh(slope * x), 1.0).error < 0.005


def test_beyond_its_range_a_table_goes_on():
    """Twice as far as calibration reached, straight lines are close to what has asymptotes."""
    found = fitted(functional.gelu, 4.0)
    steps = np.array([-32767, -30000, 30000, 32767])
    x = steps * 2.0**found.in_exponent
    got = activation(steps, found.table) * 2.0**found.out_exponent
    assert np.abs(got - np.maximum(x, 0)).max() < 0.02 * x.max()


@pytest.mark.parametrize("function", [torch.sqrt, torch.log])
def test_what_is_not_finite_has_an_infinite_error(function):
    assert fit_table(function, 1.0, -14).error == np.inf


def test_what_no_table_can_be_has_a_large_error():
    assert fitted(lambda x: torch.sin(40 * x), 30.0).error > 0.1


def test_rounding_makes_good_what_all_rows_share():
    """Rows that are nearly the same: to the nearest, their errors add up; together, they do not."""
    rng = np.random.default_rng(0)
    weight, x = rng.normal(0, 20, (8, 96)), rng.normal(1, 0.05, (500, 96))
    rounded = round_weights(weight, feedback(torch.as_tensor(x.T @ x).float(), np.ones(96)))
    assert (rounded == np.rint(rounded)).all()
    assert np.abs(rounded).max() <= 127
    nearest, together = (np.square((q - weight) @ x.T).mean() for q in (np.rint(weight), rounded))
    assert together < nearest / 4


def test_feedback_is_that_of_gptq():
    """Errors made good channel by channel with the factor of the inverse moments."""
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 20, (6, 70))
    x = torch.as_tensor(rng.normal(size=(200, 70)) * rng.uniform(0.2, 2, 70))
    scale = rng.uniform(0.5, 2, 70)
    known = feedback((x.T @ x).float(), scale)
    x /= torch.as_tensor(scale)
    moments, order = x.T @ x, known.order[::-1].copy()
    assert (np.diff(moments.diagonal().numpy()[order]) <= 0).all()
    damped = moments + 0.01 * moments.diagonal().mean() * torch.eye(70)
    inverse = torch.linalg.inv(damped[order][:, order])
    factor = torch.linalg.cholesky(inverse, upper=True).numpy()
    left, rounded = weight[:, order].copy(), np.empty_like(weight)
    for i, channel in enumerate(order):
        rounded[:, channel] = np.rint(left[:, i])
        error = (left[:, i] - rounded[:, channel]) / factor[i, i]
        left[:, i:] -= np.outer(error, factor[i, i:])
    assert (round_weights(weight, known) == rounded).mean() > 0.98  # float32 rounds a few otherwise


def test_rounding_follows_its_formula():
    """Weights and shares of few bits, so that sums are exact in any order."""
    rng = np.random.default_rng(2)
    weight, share = rng.integers(-2100, 2100, (5, 70)) / 16, rng.integers(-3, 4, (70, 70)) / 8
    order, wanted, rounded = rng.permutation(70), weight.copy(), np.empty_like(weight)
    for i, channel in reversed(list(enumerate(order))):
        rounded[:, channel] = np.clip(np.rint(wanted[:, channel]), -127, 127)
        error = weight[:, channel] - rounded[:, channel]
        wanted[:, order[:i]] += np.outer(error, share[i, :i])
    known = Feedback(order, share.astype(np.float32))
    assert (round_weights(weight, known) == rounded).all()


def test_without_moments_rounding_is_to_the_nearest():
    weight = np.random.default_rng(3).normal(0, 9, (4, 6))
    known = feedback(torch.zeros(6, 6), np.ones(6))
    assert (round_weights(weight, known) == np.rint(weight)).all()


def test_multipliers_have_sixteen_bits():
    real = np.array([1e-9, 0.001, 0.5, 0.99999, 1.0, 1.9])
    multiplier, shift = multipliers(real)
    assert multiplier.max() <= 0xFFFF
    assert (shift >= 0).all()
    assert (shift <= 31).all()
    close = real > 2.0**-15
    found = multiplier * 2.0**-shift
    assert np.abs(found[close] / real[close] - 1).max() < 2.0**-15


def test_numbers_of_24_bits():
    assert int24(np.array([1e9, -1e9, 8388607.4, 2.5, -2.6])).tolist() == [
        *(8388607, -8388607, 8388607, 2, -3)
    ]
