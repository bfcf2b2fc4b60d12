"""One layer of real models at full size on the RTL: the bits of the golden model, a busy array."""

import pytest
import torch
import transformers
from torch import nn
from zoo import Named, sizes

import transept
from transept.golden.config import KV260, PYNQ_Z2
from transept.host.bench.model import bench_model
from transept.host.models import Prepared

pytestmark = pytest.mark.filterwarnings("ignore")


class Hidden(nn.Module):
    """The layers of a model on hidden states that are given."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            y = layer(x)
            x = y[0] if isinstance(y, tuple) else y
        return x


def text(model, words, tokens):
    return Named(model, ("input_ids",), "last_hidden_state"), (
        torch.randint(3, words, (1, tokens)),
    )


def bert(hidden, heads, inner, tokens, layers=1):
    facts = sizes(hidden_size=hidden, num_attention_heads=heads, intermediate_size=inner)
    facts |= {"num_hidden_layers": layers, "max_position_embeddings": 512}
    config = transformers.BertConfig(**facts)
    return text(transformers.BertModel(config, add_pooling_layer=False), 100, tokens)


def deit():
    config = transformers.DeiTConfig(
        hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_hidden_layers=1
    )
    model = transformers.DeiTModel(config, add_pooling_layer=False)
    return Hidden(model.layers), (torch.randn(1, 197, 384),)


def gpt2():
    config = transformers.GPT2Config(vocab_size=100, n_layer=1, use_cache=False)
    return text(transformers.GPT2Model(config), 100, 128)


def smollm2(tokens):
    """Of SmolLM2-135M: RMSNorms, rotary embeddings, grouped keys, a gated feed-forward layer."""
    config = transformers.LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=1,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=100,
        use_cache=False,
    )
    return text(transformers.LlamaModel(config), 100, tokens)


def encoder(hidden, heads, inner, tokens, **options):
    layer = nn.TransformerEncoderLayer(hidden, heads, inner, batch_first=True, **options)
    return layer, (torch.randn(1, tokens, hidden),)


#: Model, share of the array at least.
LAYERS = {
    "minilm, 128": (lambda: bert(384, 12, 1536, 128), 0.98),
    "minilm, 256": (lambda: bert(384, 12, 1536, 256), 0.97),
    "minilm, 512": (lambda: bert(384, 12, 1536, 512), 0.97),
    "bert-base, 128": (lambda: bert(768, 12, 3072, 128), 0.95),
    "deit-s, 197": (deit, 0.95),
    "gpt2, 128": (gpt2, 0.95),
    "smollm2, 128": (lambda: smollm2(128), 0.975),
    "smollm2, 16": (lambda: smollm2(16), 0.7),  # as fast as memory brings weights
    "pre-norm encoder, 128": (
        lambda: encoder(512, 8, 2048, 128, norm_first=True, activation="gelu"),
        0.95,
    ),
    "lu et al. 2020, 64": (lambda: encoder(512, 8, 2048, 64), 0.97),
}
FAST = {"minilm, 128", "smollm2, 16"}


def measured(model, inputs, config=PYNQ_Z2, **options):
    program = transept.compile(model.eval(), inputs, config=config)
    return bench_model(Prepared("layer", program, inputs), device="rtl", **options)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in LAYERS]
)
def test_layer(name):
    make, least = LAYERS[name]
    torch.manual_seed(0)
    found = measured(*make())
    assert found["mismatches_vs_emulator"] == found["mismatches_vs_golden"] == 0
    assert (found["regions"], found["macs_share"]) == (1, 1.0)
    assert found["cosine_min"] >= 0.995
    assert found["utilisation"] >= least, f"{found['cycles']:,} cycles"
    print(
        f"{name}: {found['cycles']:,} cycles, {found['utilisation']:.4f}, {found['stalls']['GEMM']}"
    )


@pytest.mark.slow
def test_a_layer_on_an_array_of_1024():
    """MiniLM's, four sequences of 128."""
    model, (tokens,) = bert(384, 12, 1536, 128)
    found = measured(model, (tokens.repeat(4, 1),), KV260, memory="wide")
    assert found["mismatches_vs_emulator"] == found["mismatches_vs_golden"] == 0
    assert found["utilisation"] >= 0.98, f"{found['cycles']:,} cycles"


class Iterated(nn.Module):
    """One block with the same weights over and over: ALBERT, a transformer as a neural ODE."""

    def __init__(self, times):
        super().__init__()
        self.times = times
        self.layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)

    def forward(self, x):
        for _ in range(self.times):
            x = self.layer(x)
        return x


def test_weights_of_an_iterated_block_are_read_once():
    torch.manual_seed(0)
    x = torch.randn(1, 64, 64)
    reads = {times: measured(Iterated(times), (x,)) for times in (1, 8)}
    for found in reads.values():
        assert found["mismatches_vs_emulator"] == found["mismatches_vs_golden"] == 0
    once, eight = (reads[times]["bytes_read"] for times in (1, 8))
    weights = 4 * 64 * 64 + 2 * 64 * 128
    assert weights < once
    # instructions, and what norms and contexts need, come again; weights do not
    assert eight - once < 7 * weights / 2
