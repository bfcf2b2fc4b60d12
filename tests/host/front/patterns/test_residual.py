"""Sums of a layer and what was there before."""

import pytest
import torch
from matches import Calls, matched
from torch.nn.functional import linear

from transept.host.front.matches import AddMatch

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
W = torch.randn(8, 8, generator=torch.Generator().manual_seed(2))


def sums(function):
    return [op for op in matched(Calls(function, w=W), X).matches if isinstance(op, AddMatch)]


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x, w: linear(x, w) + x, ("w", "%inputs_0")),
        (lambda x, w: x + linear(x, w), ("w", "%inputs_0")),
        (lambda x, w: linear(x, w) + linear(x, w), ("w#2", "w")),
        (lambda x, w: linear(x, w).view(3, 2, 8) + x.view(3, 2, 8), ("w", "%inputs_0")),
        (lambda x, w: linear(x, w) + x.flip(1), ("w", "%flip")),
        (lambda x, w: linear(x, w)[[1, 0]] + linear(x, w), ("w#2", "%index")),
    ],
)
def test_the_older_operand_is_the_second(function, inputs):
    (op,) = sums(function)
    assert (op.name, op.inputs, op.outputs) == ("model.sum", inputs, ("model.sum",))
    (boundary,) = op.defines.values()
    assert (boundary.rows, boundary.width) == (6, 8)
    assert op.nodes == {boundary.node}
    assert boundary.codes.flatten().tolist() == list(range(48))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: torch.add(x, linear(x, w), alpha=2),
        lambda x, w: linear(x, w) + x[:1],
        lambda x, w: linear(x, w) + x[..., :1],
        lambda x, w: linear(x, w) + 1,
        lambda x, w: linear(x, w) + 2 * x,
        lambda x, w: linear(x, w) - x,
        lambda x, w: linear(x, w).transpose(1, 2) + x.transpose(1, 2),
        lambda x, w: (linear(x, w) > 0) + x.long(),
        lambda x, w: x + x.sin(),
    ],
)
def test_what_is_no_sum_of_whole_rows(function):
    assert sums(function) == []


def test_a_sum_whose_rows_are_in_another_order():
    """Rows of the batch's second dimension first, in both operands."""
    (op,) = sums(lambda x, w: linear(x, w).transpose(0, 1) + x.transpose(0, 1))
    (boundary,) = op.defines.values()
    assert op.inputs == ("w", "%inputs_0")
    assert boundary.codes[:, :, 0].tolist() == [[0, 24], [8, 32], [16, 40]]
    assert sums(lambda x, w: linear(x, w)[:, :2].transpose(0, 1) + x[:, :2]) == []


def test_sums_of_a_module_are_numbered():
    ops = sums(lambda x, w: linear(linear(x, w) + x, w) + x)
    assert [op.name for op in ops] == ["model.sum", "model.sum~2"]
