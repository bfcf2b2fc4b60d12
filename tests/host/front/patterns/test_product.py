"""Products of two values: what gates a layer, and what is no product of two."""

import pytest
import torch
from matches import Calls, matched
from torch.nn import functional

from transept.host.front.matches import MultiplyMatch

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
V, W = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(2))


def found(function):
    matches = matched(Calls(function, v=V, w=W), X).matches
    return [op for op in matches if isinstance(op, MultiplyMatch)]


def linears(x, v, w):
    return functional.linear(x, v), functional.linear(x, w)


def gate(x, v, w):
    first, second = linears(x, v, w)
    return functional.silu(first) * second


def moved(x, v, w):
    first, second = linears(x, v, w)
    return (first.reshape(6, 6) * second.reshape(6, 6)).reshape(2, 3, 6)


@pytest.mark.parametrize("function", [gate, moved])
def test_every_fact_of_a_product(function):
    (op,) = found(function)
    assert (op.name, op.inputs, op.outputs) == ("model.product", ("v", "w"), ("model.product",))
    boundary = op.defines["model.product"]
    assert (boundary.rows, boundary.width) == (6, 6)
    assert torch.equal(boundary.codes.flatten(), torch.arange(36))
    assert len(op.nodes) == 1


def test_every_product_has_a_name():
    def function(x, v, w):
        first, second = linears(x, v, w)
        return first * second + second * first

    assert [op.name for op in found(function)] == ["model.product", "model.product~2"]


NONE = {
    "with what torch computes": lambda x, v, w: functional.linear(x, v) * x[..., :6].sigmoid(),
    "with a parameter": lambda x, v, w: functional.linear(x, v) * w[:, 0],
    "with a number": lambda x, v, w: functional.linear(x, v) * 3.0,
    "with itself": lambda x, v, w: functional.linear(x, v) * functional.linear(x, v)[..., :1],
    "of other rows": lambda x, v, w: functional.linear(x, v) * functional.linear(x, w).flip(1),
    "of rows in another order": lambda x, v, w: (
        functional.linear(x, v).transpose(0, 1).reshape(2, 3, 6) * functional.linear(x, w)
    ),
    "of some columns": lambda x, v, w: (
        functional.linear(x, v)[..., :3] * functional.linear(x, w)[..., 3:]
    ),
}


@pytest.mark.parametrize("kind", NONE)
def test_what_is_no_product_of_two_values(kind):
    assert found(NONE[kind]) == []
