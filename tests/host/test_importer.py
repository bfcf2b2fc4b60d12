"""What torch modules become: recognised layers, operators that stay behind, refusals."""

import pytest
import torch
from small_models import Stack
from torch import nn

import transept
from transept.host import graph
from transept.host.importer import UnsupportedModelError, import_model

TOKENS = 6


def example(batch=2, hidden=8):
    torch.manual_seed(0)
    return torch.randn(batch, TOKENS, hidden)


def mask(*lengths):
    return (torch.arange(TOKENS)[None] < torch.tensor(lengths)[:, None]).long()


def compiled(module, *inputs):
    return transept.compile(module, inputs, config="tiny")


def assert_close(module, program, *inputs, rows=...):
    """The emulator's result is near the float one, and no device failed on the way."""
    with torch.no_grad():
        got, want = program.run(*inputs)[rows], module(*inputs)[rows]
    assert program.notes == []
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    assert torch.cosine_similarity(got.flatten(), want.flatten(), dim=0) > 0.998


# --- encoders
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_encoders_without_a_mask(attention, layers):
    module, x = Stack(attention=attention, layers=layers), example()
    program = compiled(module, x)
    assert_close(module, program, x)
    assert len(program.model.layers) == layers
    assert program.fallback == ()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_encoders_with_a_mask(attention):
    module, x = Stack(attention=attention), example()
    program = compiled(module, x, mask(6, 6))
    keep = mask(6, 2).bool()
    assert_close(module, program, x, mask(6, 2), rows=keep)
    assert program.last.lengths == [6, 2]


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.SiLU(), nn.Tanh(), nn.GELU("tanh")], ids=str)
def test_activations(activation):
    module, x = Stack(activation=activation), example()
    assert_close(module, compiled(module, x), x)


def test_names_are_those_of_the_module():
    imported = import_model(Stack(), (example(),))
    layer = imported.layers.layers[0]
    assert layer.query.name == "layers.0.query"
    assert layer.output_norm.name == "layers.0.second"
    assert layer.heads == 2
    assert layer.scale == pytest.approx(0.5)


@pytest.fixture(scope="module")
def bert_config():
    transformers = pytest.importorskip("transformers")
    return transformers.BertConfig(
        hidden_size=8,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=12,
        vocab_size=20,
        max_position_embeddings=16,
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers(bert_config, attention):
    import transformers

    from transept.host.models import SentenceEncoder

    torch.manual_seed(0)
    bert_config._attn_implementation = attention
    module = SentenceEncoder(transformers.BertModel(bert_config, add_pooling_layer=False)).eval()
    ids = torch.randint(0, 20, (2, TOKENS))
    program = compiled(module, ids, mask(6, 6))
    assert_close(module, program, ids, mask(6, 3))
    assert program.last.lengths == [6, 3]
    assert len(program.model.layers) == 2
    (before, reason), (behind, _) = program.fallback
    assert "embedding" in before
    assert reason.startswith("embedding lookup")
    assert not {"linear", "softmax", "layer_norm"} & set(f"{before}, {behind}".split(", "))


# --- chains
CHAINS = {
    "one": nn.Sequential(nn.Linear(8, 5)),
    "no bias": nn.Sequential(nn.Linear(8, 5, bias=False), nn.ReLU()),
    "three": nn.Sequential(
        nn.Linear(8, 16), nn.GELU(), nn.Dropout(), nn.Linear(16, 12), nn.Sigmoid(), nn.Linear(12, 3)
    ),
}


@pytest.mark.parametrize("shape", [(8,), (5, 8), (2, 3, 8)], ids=str)
@pytest.mark.parametrize("name", CHAINS)
def test_chains(name, shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    program = compiled(CHAINS[name], x)
    assert_close(CHAINS[name], program, x)
    assert program.fallback == ()


class Around(nn.Module):
    """A chain between operators that stay with torch, and a residual around it."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.exp(x) / 3
        x = x + self.down(torch.relu(self.up(x)))
        return torch.cumsum(x, -1)


def test_operators_around_a_chain_stay_behind_and_are_listed():
    module, x = Around(), torch.randn(4, 8)
    program = compiled(module, x)
    assert_close(module, program, x)
    assert [names for names, _ in program.fallback] == ["exp, div", "add, cumsum"]
    assert all("no pattern takes it" in reason for _, reason in program.fallback)


class Classifier(nn.Module):
    """An encoder with a head."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = Stack(), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x)[:, 0]).softmax(-1)


def test_an_encoder_goes_before_the_chain_behind_it():
    module, x = Classifier(), example()
    program = compiled(module, x)
    assert_close(module, program, x)
    ((names, reason),) = program.fallback
    assert {"linear", "softmax"} <= set(names.split(", "))
    assert reason.startswith("behind the last accelerated layer")


# --- refusals
class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.filter = nn.Conv1d(3, 4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.filter(x))


def test_models_without_any_layer_name_their_operators():
    with pytest.raises(UnsupportedModelError, match=r"found; operators: conv1d, sin$"):
        compiled(Convolution(), torch.randn(1, 3, 8))


def test_causal_attention_is_no_plain_attention():
    with pytest.raises(UnsupportedModelError, match=r"layers up to .* causal mask"):
        compiled(Stack(attention="causal"), example())


def test_a_mask_that_marks_padding_is_refused():
    class Inverted(nn.Module):
        def __init__(self):
            super().__init__()
            self.stack = Stack()

        def forward(self, x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
            return self.stack(x, 1 - padding)

    for lengths in ((0, 0), (3, 2)):
        with pytest.raises(UnsupportedModelError, match="mark real tokens by 1"):
            compiled(Inverted(), example(), mask(*lengths))


class PreNorm(nn.Module):
    """LayerNorm before the branch: another architecture, of which only the last linears run."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


def test_other_architectures_run_their_linear_layers():
    module, x = PreNorm(), torch.randn(4, 8)
    program = compiled(module, x)
    assert_close(module, program, x)
    assert isinstance(import_model(module, (x,)).layers, graph.Chain)
    assert [names for names, _ in program.fallback] == ["layer_norm", "add"]


def test_computed_weights_are_no_layer():
    class Computed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight * 2)

    with pytest.raises(UnsupportedModelError, match="operators: linear, mul"):
        compiled(Computed(), torch.randn(2, 8))
