"""Norms and sums as integers, worked out by hand."""

import numpy as np
import pytest
from matches import add, norm

from transept.host.front.quantise.norm import quantise_add, quantise_norm, sum_exponent

Y, X, KEPT = np.array([-10, -8, -3]), np.array([-9, -7, -1]), np.array([-5, -4, -5])


def lists(parameters):
    return [part.tolist() for part in vars(parameters).values()]


@pytest.mark.parametrize(
    ("largest", "exponent"), [(4194303.5, 0), (4194304.0, 1), (1.0, -21), (0.9, -22)]
)
def test_a_sum_has_room_for_twice_its_range_in_24_bits(largest, exponent):
    for op in (add(), norm([1.0] * 4), norm([1.0] * 4, epsilon=1e-12)):
        assert sum_exponent(op, largest) == exponent


@pytest.mark.parametrize(
    ("epsilon", "count", "exponent"), [(0.9, 4, -20), (2.0, 4, -19), (2.0, 48, -15), (0.9, 48, -16)]
)
def test_an_epsilon_fits_32_bits_in_squared_steps(epsilon, count, exponent):
    """``epsilon * count**2 / 4**(exponent + 6)``."""
    assert sum_exponent(norm([1.0] * count, epsilon=epsilon), 1e-4) == exponent


def test_every_constant_of_a_norm_of_a_sum_that_is_kept():
    op = norm(
        *([1.0, 0.5, -2.0], [0.25, 0.0, -1.0]),
        inputs=("y", "x"),
        outputs=("out", "total"),
        epsilon=1e-3,
        centre=False,
    )
    found = quantise_norm(op, -10, Y, X, KEPT, np.array([2.0**-12, 2.0**-12, 2.0**-11]))
    names = (found.name, found.y, found.x, found.out, found.sum, found.centre)
    assert names == ("norm", "y", "x", "out", "total", False)
    assert found.out_shift == 16  # the largest gamma is 1.5 * 2**16, of 17 bits
    assert found.epsilon == round(1e-3 * 3**2 * 4**4)
    assert lists(found.parameters) == [
        [98304, 49152, -98304],  # weight * 3 / 4 / 2**11 / out_scale * 2**16
        [2**18, 0, -(2**19)],  # bias / out_scale * 2**8
        [0, 2, 7],
        [1, 3, 9],
        [5, 6, 5],
    ]


def test_a_norm_of_one_value():
    found = quantise_norm(
        norm([1.0, 0.5], epsilon=0.5), -10, Y[:2], None, None, np.full(2, 2.0**-12)
    )
    assert (found.x, found.sum, found.centre, found.epsilon) == (None, None, True, 512)
    assert (found.out_shift, lists(found.parameters)) == (
        *(15, [[65536, 32768], [0, 0], [0, 2], [0, 0], [0, 0]]),
    )


@pytest.mark.parametrize(
    ("weight", "bias", "shift", "gamma", "beta"),
    [
        (2.0**-30, 0.0, 40, 2048, 0),
        (0.0, 2.0**-30, 40, 0, 16384),
        (0.0, 0.0, 40, 0, 0),
        (1.0, 2.0**-5, 15, 65536, 16384),
        (1.0, 32.0, 13, 16384, 2**22),
        (2.0**14, 0.0, 8, 2**23, 0),
        (0.0, 2.0**20, 8, 0, 2**23 - 1),
    ],
)
def test_gamma_has_18_bits_and_beta_24(weight, bias, shift, gamma, beta):
    op = norm([weight, 0.0], [bias, 0.0])
    found = quantise_norm(op, -10, Y[:2], None, None, np.full(2, 2.0**-12))
    assert found.out_shift == shift
    assert lists(found.parameters)[:2] == [[gamma, 0], [beta, 0]]


def test_every_constant_of_a_sum():
    found = quantise_add(add(), -4, np.array([-4, -1]), np.array([-2, 11]), np.array([3, 4]))
    assert (found.name, found.y, found.x, found.sum) == ("sum", "y", "x", "sum")
    assert lists(found.parameters) == [[0, 0], [0, 0], [0, 3], [2, 15], [7, 8]]
