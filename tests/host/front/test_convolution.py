"""Convolutions as linear layers on patches."""

import itertools

import pytest
import torch
from matches import Calls
from torch import nn
from torch.nn import functional

from transept.host.front.convolution import patches, pictures
from transept.host.front.export import Arguments, export

LINE = torch.arange(2 * 3 * 9.0).reshape(2, 3, 9)
PICTURE = torch.arange(2 * 3 * 6 * 7.0).reshape(2, 3, 6, 7)


def exported(model, *inputs):
    """The graph, and the names of what it calls."""
    module = export(model, Arguments(inputs, {}))
    called = [str(getattr(node.target, "__name__", node.target)) for node in module.graph.nodes]
    return module, called


def test_patches_of_a_line():
    """Three channels of two neighbours each, two apart, in steps of three; zeros around."""
    found = patches(LINE, [2], [3], [1], [2])
    padded = functional.pad(LINE, (1, 1))
    wanted = [
        [[padded[b, c, 3 * i + 2 * k] for c in range(3) for k in range(2)] for i in range(3)]
        for b in range(2)
    ]
    assert found.tolist() == torch.tensor(wanted).tolist()


def test_patches_of_a_picture():
    window = [2, 3], [2, 1], [1, 0], [3, 2]  # kernel, stride, padding, dilation
    found = patches(PICTURE, *window)
    padded = functional.pad(PICTURE, (0, 0, 1, 1))
    places = list(itertools.product(range(3), range(3)))
    offsets = list(itertools.product(range(3), range(2), range(3)))
    wanted = [
        [[padded[b, c, 2 * i + 3 * k, j + 2 * m] for c, k, m in offsets] for i, j in places]
        for b in range(2)
    ]
    assert found.tolist() == torch.tensor(wanted).tolist()
    rows = torch.arange(2 * 9 * 4.0).reshape(2, 9, 4)
    assert torch.equal(pictures(rows, PICTURE, *window), rows.mT.reshape(2, 4, 3, 3))


OPTIONS = [
    {},
    {"bias": False},
    {"stride": 2, "padding": 1},
    {"dilation": 2},
    {"stride": 3, "padding": 2, "dilation": 2},
    {"padding": "same"},
    {"padding": "same", "dilation": 2, "bias": False},
    {"padding": "valid", "stride": 2},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("kind", "x"), [(nn.Conv1d, LINE), (nn.Conv2d, PICTURE)])
def test_a_convolution_is_a_linear_layer_on_patches(kind, x, options):
    torch.manual_seed(0)
    model = kind(3, 4, 3, **options)
    module, called = exported(model, x)
    assert [name for name in called if "patches" in name or "pictures" in name] == [
        *("patches", "pictures")
    ]
    assert "linear.default" in called
    assert torch.allclose(module(x), model(x), rtol=1e-4, atol=1e-4)
    assert module.weight_matrix.shape == (4, model.weight[0].numel())
    assert "weight_matrix" not in module.state_dict()


def test_a_convolution_whose_options_differ_by_dimension():
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, (1, 3), stride=(2, 1), padding=(0, 1), dilation=(1, 2))
    module, called = exported(model, PICTURE)
    assert "patches" in called
    assert torch.allclose(module(PICTURE), model(PICTURE), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Conv1d(3, 6, 3, groups=3), LINE),
        (nn.Conv1d(3, 6, 3), LINE[0]),
        (nn.Conv1d(3, 6, 2, padding="same"), LINE),
        (nn.Conv3d(3, 1, 1), PICTURE[:, :, None]),
        (Calls(lambda x: functional.conv1d(x, x[:1, :, :2])), LINE),
    ],
    ids=["groups", "no batch", "padded on one side", "volumes", "computed weights"],
)
@pytest.mark.filterwarnings("ignore:Using padding")  # torch's, of uneven padding
def test_other_convolutions_stay(model, x):
    _, called = exported(model, x)
    assert "patches" not in called
    assert any("conv" in name for name in called)


def test_weights_of_one_module_are_told_apart():
    w, v = torch.randn(4, 3, 2), torch.randn(5, 4, 2)

    def twice(x, w, v):
        return functional.conv1d(functional.conv1d(x, w), v, w[0, 0, 0].expand(5).clone())

    model = Calls(twice, w=w, v=v)
    module, called = exported(model, LINE)
    assert called.count("patches") == 2
    assert torch.allclose(module(LINE), model(LINE), rtol=1e-4, atol=1e-3)
    assert torch.equal(module.w_matrix, w.flatten(1))
    assert torch.equal(module.v_matrix, v.flatten(1))
