"""Scales, tables and rounding: what is approximate, and by how much."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from transept.golden.numerics.requantise import activation
from transept.host.front.quantise.grids import multipliers, power_of_two
from transept.host.front.quantise.rounding import round_weights
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
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 96, generator=generator, dtype=torch.float64) * 20
    x = 1 + 0.05 * torch.randn(500, 96, generator=generator, dtype=torch.float64)
    rounded = round_weights(weight, x.T @ x)
    assert torch.equal(rounded, rounded.round())
    assert rounded.abs().max() <= 127
    nearest, together = (((q - weight) @ x.T).square().mean() for q in (weight.round(), rounded))
    assert together < nearest / 4


def test_without_moments_rounding_is_to_the_nearest():
    weight = torch.randn(4, 6, dtype=torch.float64) * 9
    assert torch.equal(
        round_weights(weight, torch.zeros(6, 6, dtype=torch.float64)), weight.round()
    )


def test_multipliers_have_sixteen_bits():
    real = np.array([1e-9, 0.001, 0.5, 0.99999, 1.0, 1.9])
    multiplier, shift = multipliers(real)
    assert multiplier.max() <= 0xFFFF
    assert (shift >= 0).all()
    assert (shift <= 31).all()
    close = real > 2.0**-15
    found = multiplier * 2.0**-shift
    assert np.abs(found[close] / real[close] - 1).max() < 2.0**-15
