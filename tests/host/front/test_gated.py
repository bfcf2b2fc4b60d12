"""Gated layers and rotary embeddings: on the accelerator with the model around them, or why not."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

import transept
from transept.golden.config import PYNQ_Z2, TINY

pytestmark = pytest.mark.filterwarnings("ignore")
X = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(2))
DEVICES = ("emulator", "cpu", "golden")


def cosine(got, want):
    return functional.cosine_similarity(got.flatten(), want.flatten(), dim=0).item()


def checked(model, x, config=TINY, least=0.995, devices=DEVICES):
    """The program, whose results on all devices are the same and near the float model's."""
    model = model.eval()
    program = transept.compile(model, x, config=config)
    results = [program.run(x, device=device) for device in devices]
    assert all(torch.equal(results[0], other) for other in results[1:])
    with torch.no_grad():
        assert cosine(results[0], model(x)) > least
    return program


def reasons(program):
    return {entry["reason"] for entry in program.explain()["fallback"]}


class Gated(nn.Module):
    """gate(x) * up(x), by some activation, and what reads it."""

    def __init__(self, activation=functional.silu, other=None, last=None, scale=1.0):
        super().__init__()
        torch.manual_seed(1)
        self.gate, self.up = nn.Linear(16, 40), nn.Linear(16, 40)
        self.up.weight.data *= scale
        self.activation, self.other = activation, other
        self.last = nn.Linear(40, 16) if last is None else last

    def forward(self, x):
        up = self.up(x)
        return self.last(self.activation(self.gate(x)) * (self.other(up) if self.other else up))


@pytest.mark.parametrize(
    "model",
    [
        Gated(),
        Gated(functional.gelu),
        Gated(torch.sigmoid, scale=1e3),
        Gated(torch.sigmoid, scale=1e-3),
        Gated(lambda x: x),
        Gated(functional.silu, torch.tanh),
        Gated(functional.relu, functional.gelu),
    ],
    ids=["silu", "gelu", "large", "small", "bilinear", "two activations", "two others"],
)
def test_gated_layers_are_one_region(model):
    program = checked(model, X)
    (region,) = program.explain()["regions"]
    assert "model.product" in region["operators"]
    assert reasons(program) == set()


@pytest.mark.parametrize("last", [nn.LayerNorm(40), nn.Identity(), nn.Tanh()])
def test_only_linear_layers_take_the_scale_of_a_product(last):
    checked(Gated(last=last), X)


def test_a_factor_that_others_read_keeps_its_scale():
    class Model(Gated):
        def forward(self, x):
            up = self.up(x)
            return self.last(functional.silu(self.gate(x)) * up) + up[..., :16]

    checked(Model(), X)


def test_a_product_of_a_product():
    class Model(Gated):
        def forward(self, x):
            gate, up = self.gate(x), self.up(x)
            return self.last(gate * up * gate)

    checked(Model(), X)


def test_a_layer_that_is_used_again_has_its_scales():
    class Model(Gated):
        def forward(self, x):
            for _ in range(2):
                x = x + super().forward(x)
            return x

    program = checked(Model(), X)
    (region,) = program.explain()["regions"]
    assert {"model.product", "model.product~2"} <= set(region["operators"])


def test_without_the_block_products_stay_with_torch():
    blocks = dataclasses.replace(TINY.blocks, elementwise=False)
    config = dataclasses.replace(TINY, name="plain", blocks=blocks)
    program = checked(Gated(), X, config)
    assert program.explain()["linears_on"] == 3
    assert "model.product" not in str(program.explain()["regions"])


# --- rotary embeddings
class Attention(nn.Module):
    """A causal attention with rotary embeddings, of heads of d elements, and grouped keys."""

    def __init__(self, d=8, heads=4, kv_heads=2, factor=1.0, returns=False):
        super().__init__()
        torch.manual_seed(3)
        self.d, self.factor, self.returns = d, factor, returns
        self.q, self.k = nn.Linear(16, heads * d), nn.Linear(16, kv_heads * d)
        self.v, self.o = nn.Linear(16, kv_heads * d), nn.Linear(heads * d, 16)
        self.register_buffer("speed", 100.0 ** -torch.arange(0, 1, 2 / d))

    def forward(self, x):
        angle = torch.arange(x.shape[1])[None, :, None] * self.speed + x[:, :, :1] * 0
        angle = torch.cat([angle, angle], -1)
        cos, sin = angle.cos()[:, None] * self.factor, angle.sin()[:, None] * self.factor
        q, k, v = (
            part(x).unflatten(-1, (-1, self.d)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        q, k = self.turn(q, cos, sin), self.turn(k, cos, sin)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        out = self.o(out.transpose(1, 2).flatten(2))
        return out + q.sum() * 1e-9 if self.returns else out

    def turn(self, x, cos, sin):
        half = self.d // 2
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def test_rotary_embeddings_are_in_the_region_of_their_attention():
    program = checked(Attention(), X, devices=(*DEVICES, "rtl"))
    (region,) = program.explain()["regions"]
    assert {"model.rotary", "model.rotary~2"} <= set(region["operators"])
    inputs = program.regions[0].graph.inputs
    assert len(inputs) == 3  # x, and one table of cosines and one of sines
    for x in (X[:1], X[:, :3], torch.cat([X, X * 0.9], 1)):  # other shapes
        assert torch.equal(program.run(x), program.run(x, device="golden"))


def test_the_real_size_has_the_same_bits():
    checked(Attention(d=32), X, PYNQ_Z2)


def test_cosines_with_a_factor_are_values_of_their_own():
    program = checked(Attention(factor=1.5), X)
    assert len(program.explain()["regions"]) == 1


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Attention(d=4), "half a head of 4 elements is no multiple of 4"),
        (Attention(factor=3.0), "its cosines or sines reach 3, 2 is too much"),
        (Attention(returns=True), "no attention reads what it rotates"),
    ],
    ids=["narrow", "large", "returned"],
)
def test_what_stays_with_torch(model, reason):
    assert reason in reasons(checked(model, X))


def test_llama_is_one_region():
    """Every layer of it, on an accelerator whose tiles are half a head."""
    import transformers

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(5)
            config = transformers.LlamaConfig(
                hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, vocab_size=60, max_position_embeddings=64, use_cache=False,
                attn_implementation="eager",
            )  # fmt: skip
            self.model = transformers.LlamaModel(config)

        def forward(self, ids):
            return self.model(input_ids=ids).last_hidden_state

    ids = torch.randint(0, 60, (2, 9), generator=torch.Generator().manual_seed(6))
    program = checked(Model(), ids, devices=(*DEVICES, "rtl"))
    found = program.explain()
    assert (found["linears_on"], found["attention_on"], found["macs_share"]) == (14, 2, 1.0)
    assert len(found["regions"]) == 1
    assert {entry["operator"] for entry in found["fallback"]} == {"embedding"}
