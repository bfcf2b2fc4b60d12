"""Gated layers and rotary embeddings: on the accelerator with the model around them, or why not."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

import transept
from transept.golden.config import PYNQ_Z2, TINY
from transept.host.front import importer

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


def dead(model):
    """A channel whose gate never opens."""
    model.gate.weight.data[5], model.gate.bias.data[5] = 0, 0


def ramp(low, high):
    def prepare(model):
        model.gate.bias.data = torch.linspace(low, high, 40)

    return prepare


def outlier(factor):
    def prepare(model):
        model.up.weight.data[5] *= factor

    return prepare


def unread(model):
    if isinstance(model.last, nn.Linear):
        model.last.weight.data[:, 3] = 0


@pytest.mark.parametrize("last", [None, nn.Identity()], ids=["read", "output"])
@pytest.mark.parametrize(
    "activation",
    [functional.silu, functional.relu, torch.sigmoid, lambda x: functional.relu(x) ** 2],
)
@pytest.mark.parametrize(
    "prepare",
    [dead, ramp(-14, 3), ramp(-3, 1), outlier(8), outlier(64), unread],
    ids=["dead", "long ramp", "ramp", "outlier", "far outlier", "unread"],
)
def test_channels_of_any_reach_keep_their_precision(prepare, activation, last):
    """One that is hardly ever there costs the others nothing."""
    model = Gated(activation, last=last).eval()
    prepare(model)
    program = transept.compile(model, X, config=TINY)
    assert "model.product" in str(program.explain()["regions"])
    rows = program.run(X, device="cpu").flatten(0, 1), model(X).flatten(0, 1)
    assert functional.cosine_similarity(*rows).min() > 0.998


class Shared(nn.Module):
    """Something that has the same reader as a product."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(4)
        self.function, self.norm = function, nn.LayerNorm(40)
        self.a, self.b, self.c, self.d = (nn.Linear(16, 40) for _ in range(4))
        self.last = nn.Linear(40, 16)

    def forward(self, x):
        return self.function(self, x)


TAKEN = "its result has the scale of a sum or of an activation"


@pytest.mark.parametrize(
    ("function", "products", "reason"),
    [
        (
            lambda m, x: m.last(m.a(x).relu() * m.b(x).tanh()) + m.last(m.c(x) + m.d(x)),
            0,
            TAKEN,
        ),
        (lambda m, x: m.last(m.a(x).relu() * m.norm(m.b(x))) + m.last(m.c(x).relu()), 0, TAKEN),
        (lambda m, x: m.last(m.a(x).relu() * m.b(x)) + m.last(m.c(x).relu() * m.d(x)), 2, None),
        (lambda m, x: m.last(m.a(x) * m.b(x)) + m.last(m.a(x) * m.c(x)), 2, None),
        (
            lambda m, x: (lambda u: m.last(m.a(x).relu() * u) + m.last(m.b(x).tanh() * u))(m.c(x)),
            2,
            None,
        ),
        (lambda m, x: (lambda u: torch.cat([m.a(x).relu() * u, u]))(m.c(x)), 1, None),
    ],
)
def test_products_that_share_scales(function, products, reason):
    program = checked(Shared(function), X)
    found = str(program.explain()["regions"])
    assert found.count("model.product") == products
    assert reason is None or reason in reasons(program)


def test_products_without_scales_are_found_together(monkeypatch):
    """More of them than a model has attempts."""
    monkeypatch.setattr(importer, "MOST_ATTEMPTS", 3)

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(5)
            self.layers = nn.ModuleList(
                nn.ModuleList(nn.Linear(16, 16) for _ in range(4)) for _ in range(5)
            )

        def forward(self, x):
            for a, b, c, last in self.layers:
                x = x + last(a(x).relu() * b(x).tanh()) * 0.1 + last(c(x) + x) * 0.1
            return x

    program = checked(Deep(), X[:1], devices=("cpu",))
    assert program.explain()["linears_on"] == 20


def test_rows_that_are_too_long_for_an_instruction():
    class Wide(nn.Module):
        def __init__(self, width):
            super().__init__()
            torch.manual_seed(6)
            self.a, self.b = nn.Linear(16, width), nn.Linear(16, width)
            self.last = nn.Linear(width, 16)

        def forward(self, x):
            return self.last(functional.silu(self.a(x)) * self.b(x))

    most = 255 * TINY.tile
    assert not reasons(checked(Wide(most), X[:1, :2]))
    assert f"rows of {most + 1} elements exceed {most}" in reasons(
        checked(Wide(most + 1), X[:1, :2])
    )


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
    blocks = dataclasses.replace(TINY.blocks, elementwise=False, halves=False, packed=False)
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


@pytest.mark.parametrize(("heads", "rows"), [(20, 5), (24, 2), (3, 7), (1, 1)])
def test_any_number_of_heads_and_rows(heads, rows):
    """Also more heads than an instruction has rows."""
    program = checked(Attention(heads=heads, kv_heads=1), X[:, :rows])
    assert "model.rotary" in str(program.explain()["regions"])


def test_a_norm_before_a_rotary_embedding_leaves_it_with_torch():
    class Normed(Attention):
        def turn(self, x, cos, sin):
            return super().turn(functional.rms_norm(x, (self.d,)), cos, sin)

    found = checked(Normed(), X).explain()
    assert (found["linears_on"], found["attention_on"]) == (4, 1)


def test_a_linear_layer_does_not_read_what_is_rotated():
    class Read(Attention):
        def turn(self, x, cos, sin):
            turned = super().turn(x, cos, sin)
            if x.shape[1] == 4:
                self.turned = turned.transpose(1, 2).flatten(2)
            return turned

        def forward(self, x):
            out = super().forward(x)
            return torch.cat([out, self.o(self.turned)])

    program = checked(Read(), X)
    assert "no attention reads what it rotates" in reasons(program)


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
