"""The walk over a graph: names of values, parameters and modules, reasons, uses."""

import pytest
import torch
from matches import Calls, matched
from torch import nn
from torch.nn import functional

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))


class Inner(nn.Module):
    """Two layers, with sums of the module's own."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        x = x + self.up(x)
        return x + self.down(x)


class Outer(nn.Module):
    """The same module twice, another one once."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Inner(), Inner()
        self.scale = nn.Parameter(torch.ones(8, 8))

    def forward(self, x):
        return self.second(self.first(self.first(x))) @ self.scale


def test_names_and_modules_of_operators():
    found = [(op.name, op.module) for op in matched(Outer(), X).matches]
    assert found == [
        *(("first.up", "first.up"), ("first.sum", "first")),
        *(("first.down", "first.down"), ("first.sum~2", "first")),
        *(("first.up#2", "first.up"), ("first.sum#2", "first")),
        *(("first.down#2", "first.down"), ("first.sum~2#2", "first")),
        *(("second.up", "second.up"), ("second.sum", "second")),
        *(("second.down", "second.down"), ("second.sum~2", "second")),
        ("scale", ""),
    ]


def test_what_is_excluded_has_its_reason_and_is_a_value_of_torch():
    matcher = matched(nn.Sequential(Inner()), X, excluded={"0.up": "so it is", "other": "no"})
    assert {node.name: reason for node, reason in matcher.reasons.items()} == {"linear": "so it is"}
    names = [(op.name, op.inputs) for op in matcher.matches]
    assert names == [
        ("0.down", ("%add",)),
        ("0.sum", ("0.down", "%add")),
    ]


def test_parameters_are_named_by_what_they_belong_to():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.w = nn.Linear(8, 8), nn.Parameter(torch.ones(8, 8))

        def forward(self, x):
            y = functional.linear(x, 2 * self.a.weight.T)
            return functional.linear(y, self.w, self.a.bias) @ torch.ones(8, 8)

    matcher = matched(Named(), X)
    assert [op.name for op in matcher.matches] == ["a", "w", "constant"]
    assert [matcher.parameter(x) for x in (None, 3)] == ["constant", "constant"]
    assert [op.weights for op in matched(nn.Linear(8, 8), X).matches] == ["linear"]


def test_what_is_fixed_is_float32():
    matcher = matched(
        Calls(lambda x, w, n: x * n + (w * 2).sum(), w=torch.ones(3).double(), n=torch.ones(())), X
    )
    nodes = {node.name: node for node in matcher.module.graph.nodes}
    found = matcher.fixed(nodes["sum_1"])
    assert (found.dtype, found.item()) == (torch.float32, 6.0)
    assert matcher.fixed(nodes["mul"]) is None
    assert matcher.fixed(2.0) is None


@pytest.mark.parametrize(
    ("function", "value", "rows"),
    [
        (lambda x: x.transpose(0, 1), "%inputs_0", [0, 3, 1, 4, 2, 5]),
        (lambda x: x[..., 2:5], "%inputs_0", [0, 1, 2, 3, 4, 5]),
        (lambda x: x[:1], "%slice_1", [0, 1, 2]),  # not all of its rows
        (lambda x: x.repeat_interleave(2, 1), "%repeat_interleave", list(range(12))),
        (lambda x: x.transpose(1, 2), "%transpose", list(range(16))),
    ],
    ids=["turned", "columns", "few", "twice", "across"],
)
def test_rows_of_a_value_are_all_of_its_rows(function, value, rows):
    matcher = matched(function, X)
    (output,) = matcher.module.graph.find_nodes(op="output")
    found = matcher.rows(output.args[0][0])
    assert (found.value, found.rows.tolist()) == (value, rows)
    boundary = matcher.boundaries[value]
    assert matcher.count(value) == boundary.rows == len(rows)
    assert boundary.codes.flatten().tolist() == list(range(boundary.rows * boundary.width))


def test_what_has_no_rows():
    matcher = matched(lambda x: (x.sum(), x.long(), x[:0]), X)
    (output,) = matcher.module.graph.find_nodes(op="output")
    assert [matcher.rows(node) for node in (*output.args[0], 3.0)] == [None] * 4
    assert matcher.count(output.args[0][0]) == 1
