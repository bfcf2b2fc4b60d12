"""Linear layers in all their spellings: what they are made of, and what is none."""

import pytest
import torch
from matches import Calls, matched
from torch.nn import functional

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
W = torch.randn(5, 8, generator=torch.Generator().manual_seed(2))
B = torch.tensor([1.0, 2, 3, 4, 5])


def found(function, *inputs, plain=frozenset(), **parameters):
    return matched(Calls(function, **parameters), *inputs, plain=plain).matches


#: (spelling, bias that it has, rows)
SPELLINGS = {
    "linear": (lambda x, w, b: functional.linear(x, w, b), B, 6),
    "without bias": (lambda x, w, b: functional.linear(x, w), 0 * B, 6),
    "addmm": (lambda x, w, b: torch.addmm(b, x[0], w.T), B, 3),
    "addmm, one number": (lambda x, w, b: torch.addmm(b[3:4], x[0], w.T), 0 * B + 4, 3),
    "product": (lambda x, w, b: x @ w.T, 0 * B, 6),
    "product of matrices": (lambda x, w, b: torch.mm(x[1], w.T), 0 * B, 3),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_fact_of_a_layer(spelling):
    function, bias, rows = SPELLINGS[spelling]
    (op,) = found(function, X, w=W, b=B)
    assert (op.name, op.outputs, op.weights, op.facts) == ("w", ("w",), "w", "")
    assert op.inputs == ("%inputs_0" if rows == 6 else "%select",)
    assert torch.equal(op.weight, W)
    assert torch.equal(op.bias, bias)
    for boundary in (op.defines["w"], op.product):
        assert (boundary.rows, boundary.width) == (rows, 5)
        assert boundary.codes.flatten().tolist() == list(range(rows * 5))
        assert boundary.node in op.nodes


NONE = {
    "a bias that is computed": lambda x, w: functional.linear(x, w, x[0, 0, :5]),
    "weights that are computed": lambda x, w: functional.linear(x, x[0]),
    "one row of weights": lambda x, w: x @ w[0],
    "matrices for each sequence": lambda x, w: x @ w.T.expand(2, 8, 5),
    "a bias twice": lambda x, w: torch.addmm(w[:, 0], x[0], w.T, beta=2),
    "the sum of another product": lambda x, w: torch.addmm(w[0, :3], w, x[0].T),
    "no rows": lambda x, w: functional.linear(x[:0], w),
}


@pytest.mark.parametrize("spelling", NONE)
def test_what_is_no_layer(spelling):
    assert found(NONE[spelling], X, w=W) == []


def test_weights_take_over_what_views_do():
    """Here: columns 3, 2 and 1, doubled."""
    second = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    _, op = found(
        lambda x, w, v: functional.linear(2 * functional.linear(x, w)[..., 1:4], v),
        X,
        w=W,
        v=second,
    )
    assert op.inputs == ("w",)
    assert op.weight.tolist() == [[0, 2, 4, 6, 0], [0, 8, 10, 12, 0]]


def test_elements_that_are_read_twice_have_the_sum_of_their_weights():
    second = torch.tensor([[1.0, 2, 3, 4, 5, 6]])
    _, op = found(
        lambda x, w, v: functional.linear(
            functional.linear(x, w)[..., :3].repeat_interleave(2, -1), v
        ),
        *(X,),
        w=W,
        v=second,
    )
    assert op.weight.tolist() == [[3, 7, 11, 0, 0]]


def test_an_activation_is_part_of_its_layer():
    """Its result is where the views behind it put it."""
    (op,) = found(lambda x, w: functional.linear(x, w).transpose(1, 2).relu(), X, w=W)
    assert op.facts == "aten.relu.default(('x',), {})"
    assert op.activation.name == "relu"
    assert {node.name for node in op.nodes} == {"linear", "transpose", "relu"}
    assert op.product.node.name == "linear"
    assert op.product.codes.shape == (2, 3, 5)
    assert op.defines["w"].node.name == "relu"
    assert op.defines["w"].codes[1, 4].tolist() == [19, 24, 29]


def test_a_layer_that_is_plain_has_no_activation():
    (op,) = found(lambda x, w: functional.linear(x, w).relu(), X, w=W, plain=frozenset({"w"}))
    assert (op.activation, op.facts) == (None, "")
    assert op.defines["w"].node.name == "linear"
    assert [node.name for node in op.nodes] == ["linear"]
