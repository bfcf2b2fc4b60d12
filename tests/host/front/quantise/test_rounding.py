"""Rounding with feedback, by hand; how much better it is stands in ``test_quantise``."""

import numpy as np
import pytest
import torch

from transept.host.front.quantise.rounding import feedback, round_weights

#: Of two channels; the mean of its diagonal is 2.5, of which a hundredth is added.
MOMENTS = torch.tensor([[1.0, 2], [2, 4]], dtype=torch.float64)
SHARE = 2 / 1.025


def test_the_larger_channel_comes_first_and_the_other_one_makes_good():
    known = feedback(MOMENTS)
    assert known.order.tolist() == [1, 0]
    assert known.share == pytest.approx(np.array([[1, SHARE], [0, 1]]), abs=1e-6)


def test_moments_stay_as_they_are():
    moments = MOMENTS.clone()
    feedback(moments)
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
    assert round_weights(np.array([weight]), feedback(MOMENTS)).tolist() == [rounded]


def test_rows_are_rounded_by_themselves():
    weight = np.array([[0.3, 0.4], [0.3, 0.6], [3.0, 5.0]])
    assert round_weights(weight, feedback(MOMENTS)).tolist() == [[1, 0], [0, 1], [3, 5]]
