"""Norms in all their spellings: what they are made of, and what is none."""

import pytest
import torch
from matches import Calls, matched
from torch.nn import functional

from transept.host.front.matches import NormMatch

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
W, B = torch.arange(1.0, 9), torch.arange(8.0)


def found(function, *inputs, **parameters):
    matches = matched(Calls(function, **parameters), *inputs).matches
    return [op for op in matches if isinstance(op, NormMatch)]


def mean_square(x, dim=-1, *, power=2, epsilon=0.25):
    return torch.rsqrt(x.pow(power).mean(dim, keepdim=True) + epsilon)


#: (spelling, name, weight, bias, epsilon, centre)
ONES, ZEROS = torch.ones(8), torch.zeros(8)
SPELLINGS = {
    "layer": (
        lambda x, w, b: functional.layer_norm(x, (8,), w, b, 0.25),
        *("w", W, B, 0.25, True),
    ),
    "layer, defaults": (
        lambda x, w, b: functional.layer_norm(x, (8,)),
        *("layer_norm", ONES, ZEROS, 1e-5, True),
    ),
    "rms": (lambda x, w, b: functional.rms_norm(x, (8,), w, 0.5), "w", W, ZEROS, 0.5, False),
    "rms, defaults": (
        lambda x, w, b: functional.rms_norm(x, (8,)),
        *("rms_norm", ONES, ZEROS, 2.0**-23, False),
    ),
    "a power": (lambda x, w, b: w * (x * mean_square(x)), "w", W, ZEROS, 0.25, False),
    "turned": (lambda x, w, b: (mean_square(x) * x) * w, "w", W, ZEROS, 0.25, False),
    "a square": (
        lambda x, w, b: w * (x * torch.rsqrt(x.square().mean(2, keepdim=True) + 0.25)),
        *("w", W, ZEROS, 0.25, False),
    ),
    "a product": (
        lambda x, w, b: w * (x * torch.rsqrt((x * x).mean([-1], keepdim=True) + 1)),
        *("w", W, ZEROS, 1.0, False),
    ),
    "casts": (
        lambda x, w, b: (
            w
            * (x.clone() * torch.rsqrt(x.contiguous().pow(2).mean(-1, keepdim=True) + 0.25)).clone()
        ),
        *("w", W, ZEROS, 0.25, False),
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_fact_of_a_norm(spelling):
    function, name, weight, bias, epsilon, centre = SPELLINGS[spelling]
    (op,) = found(function, X, w=W, b=B)
    assert (op.name, op.outputs) == (name, (name,))
    assert op.inputs[0].startswith("%")
    assert torch.equal(op.weight, weight)
    assert torch.equal(op.bias, bias)
    assert (op.epsilon, op.centre, op.facts) == (epsilon, centre, f"{epsilon} {centre}")
    (boundary,) = op.defines.values()
    assert (boundary.rows, boundary.width) == (6, 8)
    assert boundary.codes.flatten().tolist() == list(range(48))
    assert boundary.node in op.nodes


NONE = {
    "two dimensions": lambda x, w: functional.layer_norm(x, (3, 8)),
    "one element": lambda x, w: functional.layer_norm(x[..., :1], (1,)),
    "weights that are computed": lambda x, w: functional.layer_norm(x, (8,), x[0, 0]),
    "an offset that is computed": lambda x, w: functional.layer_norm(x, (8,), w, x[0, 0]),
    "a mean of rows": lambda x, w: w * (x * mean_square(x, 1)),
    "a mean of all": lambda x, w: w * (x * mean_square(x, (1, 2))),
    "cubes": lambda x, w: w * (x * mean_square(x, power=3)),
    "another's mean": lambda x, w: w * (x * mean_square(x + 1)),
    "a square of two": lambda x, w: (
        w * (x * torch.rsqrt((x * x.abs()).mean(-1, keepdim=True) + 0.25))
    ),
    "no epsilon": lambda x, w: w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True))),
    "an epsilon that is computed": lambda x, w: w * (x * mean_square(x, epsilon=x[0, 0, 0])),
    "no mean": lambda x, w: w * (x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + 0.25)),
    "means of other rows": lambda x, w: (
        (y := x[0, [0] * 8]) * torch.rsqrt(y.pow(2).mean(-1) + 0.25) * w
    ),
    "rounded": lambda x, w: w * (x * mean_square(x)).to(torch.int32),
    "an epsilon that is multiplied": lambda x, w: (
        w * (x * torch.rsqrt(torch.add(x.pow(2).mean(-1, keepdim=True), 0.5, alpha=4)))
    ),
    "no root": lambda x, w: w * (x * x.pow(2).mean(-1, keepdim=True).add(0.25).reciprocal()),
    "no weights": lambda x, w: x * mean_square(x),
    "one weight": lambda x, w: w[:1] * (x * mean_square(x)),
    "a matrix of weights": lambda x, w: (
        w.expand(8, 8).clone() * ((y := x[:, [0] * 8]) * mean_square(y))
    ),
    "weights of an input": lambda x, w: x * (x * mean_square(x)),
}


@pytest.mark.parametrize("spelling", NONE)
def test_what_is_no_norm(spelling):
    assert found(NONE[spelling], X, w=W) == []


@pytest.mark.parametrize(
    ("view", "value"),
    [
        (lambda y: y[..., :4], "%slice"),
        (lambda y: 2 * y, "%mul"),
        (lambda y: y.transpose(1, 2), "%transpose"),
        (lambda y: y[:, :, None], "v"),
    ],
    ids=["a part", "scaled", "columns", "whole"],
)
def test_rows_that_are_not_whole_are_a_value_of_their_own(view, value):
    def function(x, v):
        y = view(functional.linear(x, v))
        return functional.layer_norm(y, y.shape[-1:])

    (op,) = found(function, X, v=torch.eye(8)[:6])
    assert op.inputs[0].startswith(value)
