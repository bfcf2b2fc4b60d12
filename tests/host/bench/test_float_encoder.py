"""Encoders in torch are those that torch has itself."""

import inspect

import torch
from cards import SMALL

from transept.host.bench import float_encoder
from transept.host.bench.float_encoder import FloatEncoder, encoder_graph


def test_a_layer_is_that_of_torch():
    torch.manual_seed(0)
    model = FloatEncoder(SMALL).eval()
    x = torch.randn(2, 5, 16)
    wanted = x
    for layer in model.layers:
        theirs = torch.nn.TransformerEncoderLayer(
            16, 2, 24, activation="gelu", batch_first=True
        ).eval()
        pairs = {
            theirs.self_attn.out_proj: layer.o,
            **{theirs.linear1: layer.up, theirs.linear2: layer.down},
            **{theirs.norm1: layer.norm1, theirs.norm2: layer.norm2},
        }
        for other, own in pairs.items():
            other.load_state_dict(own.state_dict())
        inside = [part.state_dict() for part in (layer.q, layer.k, layer.v)]
        theirs.self_attn.in_proj_weight.data = torch.cat([part["weight"] for part in inside])
        theirs.self_attn.in_proj_bias.data = torch.cat([part["bias"] for part in inside])
        wanted = theirs(wanted)
    assert len(model.layers) == SMALL.layers
    assert torch.allclose(model(x), wanted, atol=1e-5)


def test_a_graph_is_calibrated_on_noise_that_is_always_the_same(monkeypatch):
    compiled = []
    compile_model = float_encoder.compile_model
    monkeypatch.setattr(
        float_encoder, "compile_model", lambda *told: compiled.append(told) or compile_model(*told)
    )
    torch.manual_seed(5)
    model, graph = encoder_graph(SMALL, 7)
    ((found, x),) = compiled
    assert found is model
    assert not model.training
    assert torch.equal(x, torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(16)))
    torch.manual_seed(16)
    same = FloatEncoder(SMALL)
    assert all(map(torch.equal, model.parameters(), same.parameters()))
    assert [graph.values[name].width for name in (*graph.inputs, *graph.outputs)] == [16, 16]
    assert inspect.signature(encoder_graph).parameters["tokens"].default == 128
