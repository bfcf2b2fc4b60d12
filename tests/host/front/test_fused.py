"""torch's fused encoder layer, spelled out."""

import pytest
import torch
from torch import nn

from transept.host.front.fused import encoder_layer

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _spelled_out():
    """torch's own layer without its fused operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad():
        yield
    torch.backends.mha.set_fastpath_enabled(before)


def layer(norm_first, activation):
    """An encoder layer with parameters that differ all, and its operands."""
    torch.manual_seed(0)
    made = nn.TransformerEncoderLayer(
        8, 2, 12, activation=activation, batch_first=True, norm_first=norm_first, layer_norm_eps=0.3
    ).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    attention = made.self_attn
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    return made, (
        *(8, 2),
        *(attention.get_parameter(name) for name in names),
        *(activation == "gelu", norm_first, 0.3),
        *(made.norm1.weight, made.norm1.bias, made.norm2.weight, made.norm2.bias),
        *(made.linear1.weight, made.linear1.bias, made.linear2.weight, made.linear2.bias),
    )


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_it_is_the_layer(norm_first, activation):
    model, operands = layer(norm_first, activation)
    assert torch.allclose(encoder_layer(X, *operands), model(X), atol=1e-5)


CAUSAL = torch.full((5, 5), -torch.inf).triu(1)
PADDING = torch.zeros(2, 5).masked_fill(torch.arange(5) >= torch.tensor([[5], [3]]), -torch.inf)
BIAS = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("mask", "kind", "named"),
    [
        (CAUSAL, 0, {"src_mask": CAUSAL}),
        (CAUSAL[None, None], 2, {"src_mask": CAUSAL}),
        (PADDING, 1, {"src_key_padding_mask": PADDING}),
        (BIAS, 2, {"src_mask": BIAS.flatten(0, 1)}),
    ],
)
def test_a_mask_is_padding_or_over_scores(mask, kind, named):
    model, operands = layer(False, "relu")
    assert torch.allclose(encoder_layer(X, *operands, mask, kind), model(X, **named), atol=1e-5)
