"""Multiply-accumulates of torch's operators, each against its formula."""

import pytest
import torch
from matches import matched
from torch import nn
from torch.nn import functional

from transept.host.front.macs import node_macs

X = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(2))


def counted(matcher):
    return sum(node_macs(node, matcher.values) for node in matcher.module.graph.nodes)


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda x: x @ x.transpose(1, 2), 2 * 6 * 6 * 16),
        (lambda x: torch.bmm(x, x.transpose(1, 2)), 2 * 6 * 6 * 16),
        (lambda x: torch.mm(x[0], x[1].T), 6 * 6 * 16),
        (lambda x: functional.linear(x, x[0, :5]), 2 * 6 * 5 * 16),
        (lambda x: torch.addmm(x[0, :, :6], x[0], x[1].T), 6 * 6 * 16),
        (lambda x: torch.baddbmm(x[:, :, :6], x, x.transpose(1, 2)), 2 * 6 * 6 * 16),
        (lambda x: functional.conv1d(x, x.new_ones(3, 2, 5), groups=3), 2 * 3 * 12 * 2 * 5),
        (lambda x: functional.conv1d(x, x.new_ones(4, 6, 3), padding="same"), 2 * 4 * 16 * 6 * 3),
        (lambda x: functional.conv2d(x[None], x.new_ones(3, 2, 3, 5)), 3 * 4 * 12 * 2 * 3 * 5),
        (
            lambda x: functional.conv2d(x[None], x.new_ones(3, 2, 3, 3), padding="same"),
            3 * 6 * 16 * 2 * 3 * 3,
        ),
        (
            lambda x: functional.scaled_dot_product_attention(x[:, :3], x, x[..., :7]),
            2 * 3 * 6 * (16 + 7),
        ),
        (
            lambda x: functional.conv3d(x[None, None], x.new_ones(3, 1, 2, 2, 2), padding="valid"),
            3 * 5 * 15 * 8,
        ),
        (
            lambda x: functional.conv3d(x[None, None], x.new_ones(3, 1, 1, 2, 2), stride=2),
            3 * 1 * 3 * 8 * 4,
        ),
        (lambda x: functional.conv_transpose1d(x, x.new_ones(6, 4, 3)), 2 * 6 * 16 * 4 * 3),
        (
            lambda x: functional.conv_transpose2d(x[None], x.new_ones(2, 3, 2, 5), stride=2),
            2 * 6 * 16 * 3 * 2 * 5,
        ),
        (
            lambda x: functional.conv_transpose3d(x[None, None], x.new_ones(1, 3, 1, 2, 2)),
            2 * 6 * 16 * 3 * 4,
        ),
        (lambda x: torch.inner(x, x[0]), 2 * 6 * 6 * 16),
        (lambda x: torch.dot(x[0, 0], x[1, 0]), 16),
        (lambda x: torch.mv(x[0], x[1, 0]), 6 * 16),
        (lambda x: torch.tensordot(x, x, dims=([2, 0], [2, 0])), 6 * 6 * 16 * 2),
        (lambda x: torch.einsum("bid,bjd->bij", x, x), 2 * 6 * 6 * 16),
        (lambda x: torch.einsum("...id, de -> ...ie", x[None], x.new_ones(16, 3)), 2 * 6 * 16 * 3),
        (
            lambda x: torch.einsum("bid,de,bie->b", x, x.new_ones(16, 3), x[..., :3]),
            2 * (2 * 6 * 16 * 3),
        ),
        (
            lambda x: functional.bilinear(x, x[..., :5].contiguous(), x.new_ones(3, 16, 5)),
            2 * 6 * 3 * (16 * 5 + 5),
        ),
        (lambda x: x.exp().sum(-1).softmax(-1) * 3, 0),
        (lambda x: x.topk(2)[0], 0),
    ],
)
def test_every_multiplication_counts(function, macs):
    assert counted(matched(function, X)) == macs


@pytest.mark.parametrize(
    ("layer", "weights"),
    [
        (nn.LSTM(16, 5, batch_first=True), 4 * (16 * 5 + 5 * 5)),
        (nn.LSTM(16, 6, proj_size=3), 4 * (16 * 6 + 3 * 6) + 6 * 3),
        (nn.GRU(16, 5, num_layers=2), 3 * (16 * 5 + 5 * 5 + 2 * 5 * 5)),
        (nn.RNN(16, 5, bidirectional=True), 2 * (16 * 5 + 5 * 5)),
        (nn.RNN(16, 5, nonlinearity="relu", bias=False), 16 * 5 + 5 * 5),
    ],
    ids=["lstm", "projected", "gru", "tanh", "relu"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_step_of_a_recurrent_layer_reads_every_weight(layer, weights):
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x)[0]

    assert counted(matched(First(), X)) == 2 * 6 * weights
