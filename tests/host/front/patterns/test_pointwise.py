"""Functions behind a layer: which of them are one of its result, and which one that is."""

import math

import pytest
import torch
from matches import Calls, matched
from torch.nn import functional

from transept.host.front.matches import LinearMatch

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
W = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
HALF, TWO = torch.tensor(0.5), torch.tensor([2.0])


def layer(function, **parameters):
    """The layer that a function is behind."""

    def model(x, w, **others):
        return function(functional.linear(x, w), **others)

    matches = matched(Calls(model, w=W, **parameters), X).matches
    (op,) = (op for op in matches if isinstance(op, LinearMatch))
    return op


#: (spelling, name, formula)
FUNCTIONS = {
    "one operator": (lambda y: y.relu(), "relu", "aten.relu.default(('x',), {})"),
    "an option": (
        lambda y: functional.gelu(y, approximate="tanh"),
        *("gelu", "aten.gelu.default(('x',), {'approximate': 'tanh'})"),
    ),
    "several": (
        lambda y: y.relu().neg().sigmoid(),
        "relu_neg_sigmoid",
        (
            "aten.relu.default(('x',), {}); aten.neg.default(('y0',), {}); "
            "aten.sigmoid.default(('y1',), {})"
        ),
    ),
    "its operand again": (
        lambda y: y * y.sigmoid(),
        "sigmoid",
        "aten.sigmoid.default(('x',), {}); aten.mul.Tensor(('x', 'y0'), {})",
    ),
    "choices": (
        lambda y: torch.where(y > 0, y, y * 0.1),
        "pointwise",
        (
            "aten.gt.Scalar(('x', 0), {}); aten.mul.Tensor(('x', 0.1), {}); "
            "aten.where.self(('y0', 'x', 'y1'), {})"
        ),
    ),
    "casts and places": (
        lambda y: y.double().transpose(1, 2).tanh().float().clone().flatten(),
        *("tanh", "aten.tanh.default(('x',), {})"),
    ),
    "dropout": (
        lambda y: functional.dropout(y, 0.1, training=False).exp(),
        *("exp", "aten.exp.default(('x',), {})"),
    ),
    "gelu spelled out": (
        lambda y: y * 0.5 * (1.0 + torch.erf(y / math.sqrt(2.0))),
        *("erf", None),
    ),
}


@pytest.mark.parametrize("spelling", FUNCTIONS)
def test_a_function_of_one_variable(spelling):
    function, name, formula = FUNCTIONS[spelling]
    found = layer(function).activation
    assert (found.name, found.formula) == (name, formula or found.formula)
    y = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(2, 3, 4)
    got = found.carry(found.function(y))
    assert got.dtype == torch.float64
    assert torch.allclose(got, function(y).double().reshape(got.shape))
    assert found.function(y).shape == y.shape


#: Truth among numbers.
TRUTH = {
    "a sum": lambda y, on: y * ((y > 0).float() + (y > -9).float()),
    "a difference": lambda y, on: y * (1 - (y > 0).float()),
    "a negative": lambda y, on: y * -((y > 0).float()),
    "a choice": lambda y, on: torch.where(on, y.relu(), y),
}


@pytest.mark.parametrize("spelling", TRUTH)
def test_truth_is_a_number_where_it_is_cast(spelling):
    function, on = TRUTH[spelling], torch.tensor(True)
    found = layer(function, on=on).activation
    y = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(2, 3, 4)
    assert torch.equal(found.function(y), function(y, on).double())


def test_numbers_may_be_tensors():
    op = layer(lambda y, n, two: torch.maximum(y * n, two), n=HALF, two=TWO)
    assert op.facts == (
        "aten.mul.Tensor(('x', '0.5'), {}); aten.maximum.default(('y0', '2.0'), {})"
    )
    assert op.activation.function(torch.tensor([1.0, 8.0])).tolist() == [2, 4]


def test_everything_of_a_function_is_taken():
    op = layer(lambda y: (y.transpose(1, 2) * 2).tanh().cumsum(1))
    assert sorted(node.name for node in op.nodes) == ["linear", "mul", "tanh", "transpose"]
    assert (op.activation.source.name, op.activation.node.name) == ("linear", "tanh")
    assert op.activation.nodes == op.nodes


#: What is behind a layer, and as far as its function goes.
ENDS = {
    "a straight line": (lambda y: -(y * 2 + 1) / 3, None),
    "a straight line behind": (lambda y: y.relu() * 2 + 1, "add"),
    "neighbours": (lambda y: y.tanh().softmax(-1).relu(), "tanh"),
    "another tensor": (lambda y: y.relu() + X.sum(-1, keepdim=True).sin(), "relu"),
    "other numbers": (lambda y, v: (y * v).relu(), None),
    "fewer elements": (lambda y: y[:, :1].relu(), None),
    "more elements": (lambda y: y.relu()[None].expand(2, 2, 3, 4).tanh(), "relu"),
    "integers": (lambda y: y.relu().long() * 2, "relu"),
    "dropout": (lambda y: functional.dropout(y, 0.5, training=True).exp(), None),
    "integers and back": (lambda y: y.relu().long().float().tanh(), "relu"),
    "truth": (lambda y: (y > 0).float().tanh(), "tanh"),
    "its operand is shown": (lambda y: (y.relu(), y.sin()), None),
    "a step is shown": (lambda y: ((z := y.relu()).tanh(), z), "relu"),
    "no function": (lambda y: y.transpose(1, 2), None),
    "one that is not known": (lambda y: y.relu().digamma(), "relu"),
}


#: Of a square result: what mixes elements, and as far as its function goes.
MIXED = {
    "a sum": (lambda y: functional.relu(y + y.transpose(0, 1)), None),
    "the larger": (lambda y: torch.maximum(y, y.t()), None),
    "behind a function": (lambda y: y.tanh().maximum(y.tanh().t()), None),
    "moved alike": (lambda y: y.t() * y.t().sigmoid(), "mul"),
    "moved back": (lambda y: y * y.t().sigmoid().t(), "mul"),
}


@pytest.mark.parametrize("spelling", MIXED)
def test_elements_meet_where_they_are_the_same(spelling):
    function, last = MIXED[spelling]
    square = Calls(lambda x, w: function(functional.linear(x, w)), w=W)
    found = matched(square, torch.cat([X[0], X[1, :1]])).matches
    (op,) = (op for op in found if isinstance(op, LinearMatch))
    found = op.activation
    assert (found and str(found.node.target).split(".")[1]) == last


@pytest.mark.parametrize("spelling", ENDS)
def test_a_function_ends_where_something_else_is_looked_at(spelling):
    function, last = ENDS[spelling]
    parameters = {"v": torch.arange(1.0, 5)} if spelling == "other numbers" else {}
    found = layer(function, **parameters).activation
    assert (found and found.node.name) == last
