"""Rounding with feedback, by hand; how much better it is stands in ``test_quantise``."""

import numpy as np
import pytest
import torch

from transept.host.front.quantise.rounding import feedback, round_weights

#: Of two channels; the mean of its diagonal is 2.5, of which a hundredth is added.
MOMENTS, ONE = torch.tensor([[1.0, 2], [2, 4]]), np.ones(2)
SHARE = 2 / 1.025


def test_the_larger_channel_comes_first_and_the_other_one_makes_good():
    known = feedback(MOMENTS, ONE)
    assert known.order.tolist() == [0, 1]  # from its end
    assert known.share == pytest.approx(np.array([[1, 0], [SHARE, 1]]), abs=1e-6)


def test_moments_count_in_steps():
    known = feedback(MOMENTS, np.array([0.5, 2]))
    assert known.order.tolist() == [1, 0]  # of [[4, 2], [2, 1]]
    assert known.share == pytest.approx(np.array([[1, 0], [SHARE, 1]]), abs=1e-6)


def test_moments_stay_as_they_are():
    moments = MOMENTS.clone()
    feedback(moments, np.array([0.5, 2]))
    assert torch.equal(moments, MOMENTS)


@pytest.mark.parametrize(
    ("weight", "rounded"),
    [
        ([0.3, 0.4], [1, 0]),  # 0.3 + 0.4 * 1.95
        ([0.3, 0.6], [0, 1]),  # 0.3 - 0.4 * 1.95
        ([0.0, 200.0], [127, 127]),
        ([0.0, -200.0], [-127, -127]),
        ([3.0, 5.0], [3, 5]),
    ],
)
def test_an_error_is_made_good_by_what_follows(weight, rounded):
    assert round_weights(np.array([weight]), feedback(MOMENTS, ONE)).tolist() == [rounded]


def test_rows_are_rounded_by_themselves():
    weight = np.array([[0.3, 0.4], [0.3, 0.6], [3.0, 5.0]])
    assert round_weights(weight, feedback(MOMENTS, ONE)).tolist() == [[1, 0], [0, 1], [3, 5]]
