"""Views: where each element of a tensor comes from."""

import pytest
import torch
from matches import Calls, matched

from transept.host.front.nodes import is_fixed
from transept.host.front.views import View

X = torch.arange(24.0).reshape(2, 3, 4)


def view(function, **parameters):
    """The view that a function of X and its parameters returns."""
    matcher = matched(Calls(function, **parameters), X)
    (output,) = matcher.module.graph.find_nodes(op="output")
    return matcher.views[output.args[0][0]]


MOVES = {
    "a reshape": lambda x: x.reshape(6, 4),
    "a transpose": lambda x: x.transpose(1, 2),
    "a permutation": lambda x: x.permute(2, 0, 1),
    "matrices transposed": lambda x: x.mT,
    "their conjugates": lambda x: x.mH,
    "their adjoints": lambda x: x.adjoint(),
    "one matrix transposed": lambda x: x[1].T,
    "its conjugate": lambda x: x[1].H,
    "its t": lambda x: x[1].t(),
    "dimensions exchanged": lambda x: x.swapaxes(0, 1).swapdims(1, 2),
    "a dimension moved": lambda x: x.movedim(0, 1).moveaxis(2, 0),
    "dimensions moved": lambda x: x.movedim((0, 1), (1, 2)).moveaxis((0, 1), (2, 0)),
    "a part of its own": lambda x: x.narrow(-1, 1, 2),
    "a row": lambda x: x.ravel(),
    "a selection": lambda x: x[1],
    "a slice": lambda x: x[:, ::2, 1:],
    "a part": lambda x: x.chunk(2, -1)[1],
    "a split": lambda x: x.split([1, 3], -1)[1],
    "one of all": lambda x: x.unbind(1)[2],
    "a repetition": lambda x: x.repeat_interleave(2, 1),
    "an expansion": lambda x: x[:, None].expand(2, 2, 3, 4),
    "a dimension": lambda x: x.unsqueeze(0).squeeze(0).flatten().unflatten(0, (4, 6)),
    "a copy": lambda x: x.clone().contiguous().detach().double(),
    "dropout": lambda x: torch.dropout(x, 0.5, False),
    "a chain": lambda x: x.view(2, 3, 2, 2).transpose(1, 2).reshape(4, 3, 2)[::2],
}


@pytest.mark.parametrize("name", MOVES)
def test_elements_are_followed(name):
    found = view(MOVES[name])
    assert (found.value.name, found.width, found.factor) == ("inputs_0", 4, 1.0)
    assert found.codes.tolist() == MOVES[name](X).tolist()


@pytest.mark.parametrize(
    ("function", "factor"),
    [
        (lambda x, n: x * 3, 3.0),
        (lambda x, n: x / 4, 0.25),
        (lambda x, n: torch.ops.aten.mul.Scalar(x, 3), 3.0),
        (lambda x, n: torch.ops.aten.div.Scalar(x, 4), 0.25),
        (lambda x, n: x * n, 0.5),
        (lambda x, n: x / (2 * n), 1.0),
        (lambda x, n: (x[0] * 3 / 4) * -2, -1.5),
    ],
)
def test_factors_are_followed(function, factor):
    found = view(function, n=torch.tensor(0.5))
    assert (found.value.name, found.width, found.factor) == ("inputs_0", 4, factor)
    assert found.codes.flatten().tolist() == list(range(found.codes.numel()))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x, n: x * 0, "mul"),
        (lambda x, n: x * x.sum(), "mul"),
        (lambda x, n: x * n[None], "mul"),
        (lambda x, n: n * x, "mul"),
        (lambda x, n: 3 - x, "rsub"),
        (lambda x, n: torch.dropout(x, 0.5, True), "dropout"),
        (lambda x, n: x.long().double(), "to_1"),
        (lambda x, n: x.exp(), "exp"),
    ],
)
def test_what_is_computed_is_a_value_of_its_own(function, name):
    found = view(function, n=torch.tensor(0.5))
    assert found.value.name.startswith(name.rstrip("_1"))
    assert (found.width, found.factor) == (4, 1.0)
    assert found.codes.flatten().tolist() == list(range(24))


def test_one_number_is_a_row_of_one_element():
    found = view(lambda x: x.sum().reshape(1, 1).expand(2, 1))
    assert (found.value.name, found.width, found.codes.tolist()) == ("sum_1", 1, [[0], [0]])


def test_what_is_no_real_number_has_no_view():
    assert view(lambda x: x.long()) is None
    assert view(lambda x: x > 0) is None
    assert view(lambda x: x.long()[0]) is None


def test_several_tensors_have_several_views():
    matcher = matched(lambda x: x.chunk(2, -1)[0], X)
    (node,) = (n for n in matcher.module.graph.nodes if "chunk" in n.name or "split" in n.name)
    assert [part.codes.tolist() for part in matcher.views[node]] == [
        part.tolist() for part in X.chunk(2, -1)
    ]


def rows(codes, width=4, factor=1.0):
    found = View("v", width, torch.as_tensor(codes), factor).rows()
    return found and (found.rows.tolist(), found.elements.tolist(), found.whole)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([[0, 1, 2, 3], [4, 5, 6, 7]], ([0, 1], [0, 1, 2, 3], True)),
        ([[[8, 9, 10, 11]], [[4, 5, 6, 7]]], ([2, 1], [0, 1, 2, 3], True)),
        ([[1, 0, 3, 2]], ([0], [1, 0, 3, 2], False)),
        ([[4, 6], [0, 2]], ([1, 0], [0, 2], False)),
        ([[0, 1, 2, 3, 3]], ([0], [0, 1, 2, 3, 3], False)),
        ([[0, 1], [5, 6]], None),  # other elements in another row
        ([[3, 4]], None),  # two rows in one
        ([], None),
        (7, None),
    ],
)
def test_rows_lie_within_rows_of_the_value(codes, expected):
    assert rows(codes) == expected


def test_scaled_rows_are_not_whole():
    assert rows([[0, 1, 2, 3]], factor=0.5) == ([0], [0, 1, 2, 3], False)


def test_what_depends_on_no_input_is_fixed():
    matcher = matched(Calls(lambda x, n: x + n * 2 + torch.ones(4), n=torch.tensor(0.5)), X)
    fixed = {node.name: is_fixed(node) for node in matcher.module.graph.nodes}
    assert {name for name, is_so in fixed.items() if is_so} == {"n", "mul", "ones"}
    assert is_fixed(3)
