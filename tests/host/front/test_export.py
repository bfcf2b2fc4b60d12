"""Arguments of models, and what export makes of a model."""

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional

from transept.host.front.errors import ExportError
from transept.host.front.export import Arguments, attribute, export, float_tensor, run

X, TOKENS = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64)


def test_arguments_are_what_an_example_says():
    for example, args, kwargs in (
        (X, (X,), {}),
        ([X, 2], (X, 2), {}),
        ((X, {"a": 1}), (X, {"a": 1}), {}),
        ({"x": X, "n": None}, (), {"x": X, "n": None}),
    ):
        found = Arguments.of(example)
        assert (type(found.args), found.args, found.kwargs) == (tuple, args, kwargs)
        assert Arguments.of(found) is found


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (3.0, "inputs are a tensor, a tuple of arguments or a dictionary of named ones, not float"),
        ((1, "a"), "inputs hold no tensor"),
        ({}, "inputs hold no tensor"),
    ],
)
def test_what_is_no_example(example, message):
    with pytest.raises(ExportError, match=f"^{message}$"):
        Arguments.of(example)


def test_leaves_are_in_the_order_of_a_call():
    found = Arguments((X, [1, TOKENS]), {"scale": 2.0})
    assert [leaf if isinstance(leaf, int | float) else leaf.dtype for leaf in found.leaves()] == [
        *(torch.float32, 1, torch.int64, 2.0)
    ]


def test_one_export_serves_equal_keys():
    key = Arguments.of((X, 1)).key
    assert key == Arguments.of((X + 1, 1)).key
    others = [(X[:1], 1), (X.double(), 1), (X, 2), (X, 1.0), (X, "1"), ([X], 1), {"x": X, "n": 1}]
    assert len({key, *(Arguments.of(other).key for other in others)}) == len(others) + 1


def test_arguments_like_those_of_the_example():
    example = Arguments.of((X, TOKENS, 1))
    Arguments.of((X[:1, :2], TOKENS, "any")).like(example)
    for other, message in (
        (
            (X, TOKENS),
            (
                "the model takes float32[2, 3], int64[2, 3], 1 as in its example, "
                "got float32[2, 3], int64[2, 3]"
            ),
        ),
        ((X, TOKENS.int(), 1), "input 1 is int32[2, 3], the example was int64[2, 3]"),
        ((X[0], TOKENS, 1), "input 0 is float32[3], the example was float32[2, 3]"),
        ((X, 7, 1), "input 1 is 7, the example was int64[2, 3]"),
    ):
        with pytest.raises(ExportError) as raised:
            Arguments.of(other).like(example)
        assert str(raised.value) == message


def test_the_fast_path_of_encoders_is_as_before():
    before = torch.backends.mha.get_fastpath_enabled()
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval()
    for enabled in (True, False):
        torch.backends.mha.set_fastpath_enabled(enabled)
        module = export(layer, Arguments((torch.ones(1, 3, 8),), {}))
        assert "transformer_encoder" not in str(module.graph)
        assert torch.backends.mha.get_fastpath_enabled() is enabled
    torch.backends.mha.set_fastpath_enabled(before)


def test_what_is_written_in_place_becomes_a_value():
    class Inner(nn.Module):
        def forward(self, x):
            y = x * 2
            y.add_(1)
            return functional.relu(y, inplace=True)

    module = export(Inner(), Arguments((X,), {}))
    targets = [node.target for node in module.graph.nodes]
    assert torch.ops.aten.add.Tensor in targets
    assert torch.ops.aten.add_.Tensor not in targets
    assert torch.equal(module(X), 2 * X + 1)


def test_nothing_that_is_not_needed_is_left():
    class Wasteful(nn.Module):
        def forward(self, x):
            _ = x.exp()
            return x + 1

    assert "exp" not in str(export(Wasteful(), Arguments((X,), {})).graph)


def test_training_ends_for_the_export_alone():
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3)).train()
    model[1].eval()
    module = export(model, Arguments((X,), {}))
    assert [part.training for part in model.modules()] == [True, True, False]
    assert torch.allclose(module(X), X, atol=1e-4)
    with pytest.raises(ExportError, match=r"^torch cannot export Sequential: [A-Za-z]+: "):
        export(model, Arguments((X, X), {}))
    assert model.training


def test_an_error_is_told_once():
    class Inverse(nn.Module):
        def forward(self, x):
            return torch.linalg.inv(x)

    told = []
    # where torch says what an operator does with shapes alone
    logger, handler = logging.getLogger("torch._subclasses.fake_tensor"), logging.Handler()
    handler.emit = told.append
    logger.addHandler(handler)
    try:
        before = logging.getLogger("torch").level
        with pytest.raises(ExportError, match=r"^torch cannot export Inverse: .*linalg"):
            export(Inverse(), Arguments((X,), {}))
    finally:
        logger.removeHandler(handler)
    assert told == []
    assert logging.getLogger("torch").level == before


def test_a_run_has_the_value_of_every_node():
    module = export(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), Arguments((X,), {}))
    values = run(module, Arguments((2 * X,), {}))
    names = {node.name: value for node, value in values.items() if torch.is_tensor(value)}
    assert torch.equal(names["input_1"], 2 * X)
    assert torch.equal(names["tanh"], names["linear"].tanh())
    assert not names["linear"].requires_grad


def test_an_attribute_is_behind_dots():
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 2)))
    assert attribute(model, "0.0.bias") is model[0][0].bias


def test_real_numbers():
    assert [float_tensor(x) for x in (X, X.half(), TOKENS, X > 0, 1.0, None)] == [
        *(True, True, False, False, False, False)
    ]
