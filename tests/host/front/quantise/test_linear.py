"""Linear layers as integers, worked out by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from matches import linear

from transept.host.front.quantise.linear import check_finite, quantise_linear


def facts(op):
    """All of an operator, arrays as lists."""
    return {
        name: [part.tolist() for part in dataclasses.asdict(value).values()]
        if dataclasses.is_dataclass(value)
        else getattr(value, "tolist", lambda value=value: value)()
        for name, value in ((f.name, getattr(op, f.name)) for f in dataclasses.fields(op))
    }


def test_every_constant_of_a_layer():
    """Rows of real weights, in steps: [2, -2], [0.125, 0.125] and nothing.

    One step of the first row's weights times one of int8 is 2 / 127**2; the largest sum, 127 * 254
    of them, is 4, or 1,024 steps of 2**-8: 13 more bits are less than 2**24.
    """
    op = linear([[1.0, -0.25], [0.25, 0.0625], [0.0, 0.0]], [0.5, -3.0, 0.0], outputs=("y",))
    assert facts(quantise_linear(op, None, np.array([0.5, 2.0]), np.array([0.25, 1.0, 1.0]))) == {
        "name": "linear",
        "x": "x",
        "y": "y",
        "weight": [[127, -127], [127, 127], [0, 0]],
        "channel": [
            [round(2**28 / 127**2 * 2), round(2**28 / 127**2 * 2), 0],
            [7, 11, 31],
            [512, -768, 0],
        ],
        "row_shift": 13,
        "out_shift": 8,
        "table": None,
        "halves": False,
        "packed": None,
    }


@pytest.mark.parametrize(("weight", "row_shift", "shift"), [(2.0**18, 0, 3), (2.0**-30, 40, 11)])
def test_shifts_of_rows_end_at_0_and_40(weight, row_shift, shift):
    op = quantise_linear(linear([[weight]], [0.5]), None, np.ones(1), np.ones(1))
    assert op.row_shift == row_shift
    assert [part.tolist() for part in dataclasses.astuple(op.channel)] == [[33286], [shift], [128]]


def test_weights_that_are_not_finite_are_named():
    fine, bad = torch.ones(3), torch.tensor([1.0, -torch.inf, torch.nan])
    check_finite("up", fine, fine)
    for tensors in ((bad, fine), (fine, bad)):
        with pytest.raises(ValueError, match=r"^weights of up hold -inf; only finite weights can"):
            check_finite("up", *tensors)
