"""Scales of products worked out by hand: the shift with the least error, and when there is none."""

import numpy as np
import pytest
from matches import multiply, rotary

from transept.host.front.errors import UnfitError
from transept.host.front.quantise.elementwise import (
    ProductScales,
    both_given,
    one_free,
    quantise_product,
    quantise_rotary,
)

ONE = np.ones(1)
NEED = 2 / 32767  # the step of a factor that reaches 1, with room for twice as much


def chosen(fixed, wanted, *, largest=(ONE, ONE, ONE), weight=ONE, widens=True, together=None):
    """The scales of a product whose second factor may have any."""
    return one_free(
        np.asarray(fixed, np.float64),
        np.asarray(wanted, np.float64),
        largest=tuple(np.asarray(part, np.float64) for part in largest),
        weight=np.asarray(weight, np.float64),
        widens=widens,
        together=together or (lambda channels: channels),
    )


def test_a_free_factor_is_as_fine_as_its_reach_allows():
    """Steps of 2**-12 are wanted; 12 shifts leave steps of 2**-14 to the factor."""
    found = chosen([2.0**-10], [2.0**-12])
    assert found.shift == 12
    assert found.free == pytest.approx([NEED])
    assert found.out == pytest.approx([NEED * 4])
    assert found.error == pytest.approx(np.hypot(NEED, 4 * NEED))


def test_or_it_is_clipped_where_the_product_has_a_scale():
    found = chosen([2.0**-10], [2.0**-12], widens=False)
    assert (found.shift, found.free.tolist(), found.out.tolist()) == (12, [2.0**-14], [2.0**-12])
    clipped = (NEED - 2.0**-14) * 32767
    assert found.error == pytest.approx(np.hypot(np.hypot(2.0**-14, clipped), 2.0**-12))


def test_a_product_is_shifted_by_15_at_most():
    found = chosen([2.0**-10], [2.0**-3])
    assert (found.shift, found.free.tolist(), found.out.tolist()) == (15, [2.0**-8], [2.0**-3])


def test_no_shift_may_be_the_best():
    found = chosen([2.0**-4], [2.0**-19])
    assert (found.shift, found.free) == (0, pytest.approx([NEED]))
    assert found.out == pytest.approx([NEED * 2.0**-4])


def test_channels_count_as_much_as_readers_make_of_them():
    """The first channel wants 12 shifts, the second one 5."""
    fixed, wanted, largest = [2.0**-10] * 2, [2.0**-12, 2.0**-19], ([1, 3], [1, 1], [1, 2])
    for weight, shift in (([1, 0], 12), ([0, 1], 5)):
        assert chosen(fixed, wanted, largest=largest, weight=weight, widens=False).shift == shift
    found = chosen(fixed, wanted, largest=largest, weight=[3, 4], widens=False)
    free, out = found.free, np.array(wanted)
    lost = np.hypot(np.hypot(free, np.maximum(NEED - free, 0) * 32767) * [1, 3], out)
    wanted_error = np.hypot(3 * lost[0], 4 * lost[1]) / np.hypot(3 * 1, 4 * 2)
    assert found.error == pytest.approx(wanted_error)


def test_channels_that_share_a_scale_widen_together():
    found = chosen(
        *([2.0**-10] * 2, [2.0**-24] * 2),
        largest=([1, 1], [1, 4], [1, 1]),
        weight=[1, 1],
        together=lambda channels: np.full(2, channels.max()),
    )
    assert found.out[0] == found.out[1] == pytest.approx(2.0**-10 * 4 * NEED * 2.0**found.shift)


@pytest.mark.parametrize(
    ("largest", "shift", "error"),
    [
        (1.0, 15, 2.0**-13),
        (0.9, 14, 2.0**-14 / 0.9),
        (2.0**-13, 2, 2.0**-26 / 2.0**-13),
        (1e-12, 0, 2.0**-28 / 1e-12),
        (4.0, 15, np.hypot(2.0**-13, 8 - 2.0**-13 * 32767) / 4),
    ],
)
def test_two_given_factors_have_the_finest_scale_that_their_product_fits(largest, shift, error):
    step = np.array([2.0**-14])
    found = both_given(step, step, largest=np.array([largest]), weight=ONE)
    assert (found.shift, found.free, found.out.tolist()) == (shift, None, [2.0 ** (shift - 28)])
    assert found.error == pytest.approx(error)


def test_the_channel_that_needs_most_decides_on_the_shift():
    y, x = np.array([2.0**-14, 2.0**-10]), np.array([2.0**-14, 2.0**-12])
    found = both_given(y, x, largest=np.array([0.9, 0.9]), weight=np.array([3.0, 4.0]))
    assert (found.shift, found.out.tolist()) == (14, [2.0**-14, 2.0**-8])
    assert found.error == pytest.approx(np.hypot(3 * 2.0**-14, 4 * 2.0**-8) / (5 * 0.9))


def test_what_nobody_reads_loses_nothing():
    assert both_given(ONE, ONE, largest=ONE, weight=0 * ONE).error == 0


def test_an_error_of_more_than_one_in_128_is_too_much():
    fine = ProductScales(0, None, ONE, 1 / 128)
    assert fine.checked("p") is fine
    message = "^there are no scales for its factors and its result$"
    with pytest.raises(UnfitError, match=message) as raised:
        ProductScales(0, None, ONE, 1.001 / 128).checked("p")
    assert raised.value.operator == "p"


def test_every_field_of_the_operators():
    found = quantise_product(multiply("y", "x", name="p"), 7)
    assert (found.name, found.inputs, found.outputs, found.shift) == ("p", ("y", "x"), ("p",), 7)
    found = quantise_rotary(rotary(3, name="r"))
    assert (found.name, found.inputs, found.outputs) == ("r", ("x", "cos", "sin"), ("r",))
    assert (found.heads, found.shift) == (3, 7)
