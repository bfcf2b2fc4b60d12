"""Small transformers with random weights, as ``transformers`` and torch build them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional

__all__ = ["ZOO", "ids", "load", "mask", "sizes"]

BATCH, TOKENS, WORDS, HIDDEN = 2, 16, 100, 32

Example = tuple[nn.Module, tuple[torch.Tensor, ...]]


def sizes(**changes: Any) -> dict[str, Any]:
    """Sizes as most configurations name them."""
    return {
        "vocab_size": WORDS,
        "hidden_size": HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    } | changes


def ids() -> torch.Tensor:
    """Token ids, no special ones."""
    return torch.randint(3, WORDS, (BATCH, TOKENS))


def mask(*lengths: int) -> torch.Tensor:
    """Ones for so many tokens of each sequence, then zeros."""
    real = torch.tensor(lengths or [TOKENS] * BATCH)
    return (torch.arange(TOKENS) < real[:, None]).long()


class Named(nn.Module):
    """A model called with named inputs, of whose results one is taken."""

    def __init__(self, model: nn.Module, inputs: tuple[str, ...], output: str) -> None:
        super().__init__()
        self.model, self.inputs, self.output = model, inputs, output

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """The named result."""
        return self.model(**dict(zip(self.inputs, values, strict=True)))[self.output]


class Counting(nn.Module):
    """Writes to a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 16)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Also counts its calls."""
        self.calls += 1
        return self.a(x)


def text(model: nn.Module, output: str = "last_hidden_state") -> Example:
    """A text model with ids and mask."""
    return Named(model, ("input_ids", "attention_mask"), output), (ids(), mask())


def picture(model: nn.Module) -> Example:
    """A vision model with pictures of 32 x 32."""
    return Named(model, ("pixel_values",), "last_hidden_state"), (torch.randn(BATCH, 3, 32, 32),)


def bert(**changes: Any) -> Example:
    """BERT without pooler."""
    config = transformers.BertConfig(**sizes(**changes))
    return text(transformers.BertModel(config, add_pooling_layer=False))


def layers_that_differ() -> Example:
    """BERT whose feed-forwards have other widths from layer to layer."""
    model, inputs = bert(num_hidden_layers=3)
    for layer, width in zip(model.model.encoder.layer, (16, 256, 200), strict=True):
        layer.intermediate.dense = nn.Linear(HIDDEN, width)
        layer.output.dense = nn.Linear(width, HIDDEN)
    return model, inputs


def vision(**changes: Any) -> dict[str, Any]:
    """Sizes of a vision model."""
    found = sizes(image_size=32, patch_size=8, **changes)
    del found["vocab_size"], found["max_position_embeddings"]
    return found


def encoder(*, norm_first: bool, **options: Any) -> Example:
    """nn.TransformerEncoder of two layers."""
    layer = nn.TransformerEncoderLayer(
        HIDDEN, 4, 64, batch_first=True, norm_first=norm_first, **options
    )
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return model, (torch.randn(BATCH, TOKENS, HIDDEN),)


class SelfAttention(nn.Module):
    """nn.MultiheadAttention on one operand."""

    def __init__(self, *, weights: bool = False, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(HIDDEN, 4, **options)
        self.weights = weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Its result, without the attention weights."""
        return self.attention(x, x, x, need_weights=self.weights)[0]


class ResidualMlp(nn.Module):
    """``c(x + b(gelu(a(x))))``."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(HIDDEN, 64), nn.Linear(64, HIDDEN), nn.Linear(HIDDEN, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of 32 to rows of 8."""
        return self.c(x + self.b(functional.gelu(self.a(x))))


class Interrupted(nn.Module):
    """Two MLPs with a cumulated sum between them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(HIDDEN, 64), nn.Linear(64, HIDDEN)
        self.c, self.d = nn.Linear(HIDDEN, 64), nn.Linear(64, HIDDEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of 32 to rows of 32."""
        x = torch.cumsum(self.b(torch.relu(self.a(x))), 1)
        return self.d(torch.tanh(self.c(x)))


class SpelledOut(nn.Module):
    """An MLP with a GELU in eight operators."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(HIDDEN, 64), nn.Linear(64, HIDDEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of 32 to rows of 32."""
        h = self.a(x)
        return self.b(0.5 * h * (1 + torch.tanh(0.7978845608 * (h + 0.044715 * h**3))))


class Scaled(nn.Module):
    """torch's own attention operator alone."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Heads of queries, keys and values."""
        return functional.scaled_dot_product_attention(q, k, v)


def half() -> Example:
    """float16 weights and inputs."""
    model, inputs = encoder(norm_first=False)
    return model.half(), tuple(x.half() for x in inputs)


def bfloat16() -> Example:
    """bfloat16 weights."""
    model, inputs = bert()
    return model.bfloat16(), inputs


def albert(layers: int) -> Example:
    """ALBERT: every layer has the same weights."""
    config = transformers.AlbertConfig(**sizes(num_hidden_layers=layers), embedding_size=16)
    return text(transformers.AlbertModel(config, add_pooling_layer=False))


def gpt2() -> transformers.GPT2Config:
    """A small GPT-2."""
    return transformers.GPT2Config(
        vocab_size=WORDS, n_embd=HIDDEN, n_layer=1, n_head=4, n_positions=64, use_cache=False
    )


def whisper() -> Example:
    """The encoder of Whisper: two convolutions, then layers."""
    config = transformers.WhisperConfig(
        d_model=HIDDEN,
        encoder_layers=1,
        encoder_attention_heads=4,
        encoder_ffn_dim=64,
        num_mel_bins=8,
        max_source_positions=TOKENS,
    )
    model = transformers.models.whisper.modeling_whisper.WhisperEncoder(config)
    inputs = (torch.randn(BATCH, 8, 2 * TOKENS),)
    return Named(model, ("input_features",), "last_hidden_state"), inputs


def t5() -> Example:
    """The encoder of T5."""
    config = transformers.T5Config(
        vocab_size=WORDS, d_model=HIDDEN, d_kv=8, d_ff=64, num_layers=1, num_heads=4
    )
    return text(transformers.T5EncoderModel(config))


def modernbert() -> Example:
    """ModernBERT: rotary embedding, gated feed-forward, sequences shorter than its window."""
    special = {f"{name}_token_id": 1 for name in ("eos", "bos", "cls", "sep")}
    config = transformers.ModernBertConfig(**sizes(), pad_token_id=0, **special)
    return text(transformers.ModernBertModel(config))


def distilbert() -> Example:
    """DistilBERT of two layers."""
    config = transformers.DistilBertConfig(
        vocab_size=WORDS,
        dim=HIDDEN,
        n_layers=2,
        n_heads=4,
        hidden_dim=64,
        max_position_embeddings=64,
    )
    return text(transformers.DistilBertModel(config))


def roberta() -> Example:
    """RoBERTa."""
    config = transformers.RobertaConfig(**sizes())
    return text(transformers.RobertaModel(config, add_pooling_layer=False))


ZOO: dict[str, Callable[[], Example]] = {
    "bert": bert,
    "bert, layers that differ": layers_that_differ,
    "bert, odd sizes": lambda: bert(hidden_size=60, num_attention_heads=5, intermediate_size=101),
    "bert, gelu_new": lambda: bert(hidden_act="gelu_new"),
    "bert, quick_gelu": lambda: bert(hidden_act="quick_gelu"),
    "bert, bfloat16": bfloat16,
    "distilbert": distilbert,
    "roberta": roberta,
    "electra": lambda: text(
        transformers.ElectraModel(transformers.ElectraConfig(**sizes(), embedding_size=16))
    ),
    "albert": lambda: albert(1),
    "albert, three layers": lambda: albert(3),
    "mpnet": lambda: text(
        transformers.MPNetModel(transformers.MPNetConfig(**sizes()), add_pooling_layer=False)
    ),
    "vit": lambda: picture(
        transformers.ViTModel(transformers.ViTConfig(**vision()), add_pooling_layer=False)
    ),
    "deit": lambda: picture(
        transformers.DeiTModel(transformers.DeiTConfig(**vision()), add_pooling_layer=False)
    ),
    "gpt2": lambda: text(transformers.GPT2Model(gpt2())),
    "gpt2, language model": lambda: text(transformers.GPT2LMHeadModel(gpt2()), "logits"),
    "clip, text": lambda: text(transformers.CLIPTextModel(transformers.CLIPTextConfig(**sizes()))),
    "clip, vision": lambda: picture(
        transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision()))
    ),
    "whisper, encoder": whisper,
    "t5, encoder": t5,
    "modernbert": modernbert,
    "llama": lambda: text(
        transformers.LlamaModel(
            transformers.LlamaConfig(
                **sizes(num_attention_heads=2, num_key_value_heads=1), use_cache=False
            )
        )
    ),
    "encoder, post-norm": lambda: encoder(norm_first=False),
    "encoder, pre-norm": lambda: encoder(norm_first=True, activation="gelu"),
    "encoder, float16": half,
    "attention": lambda: (
        SelfAttention(batch_first=True),
        (torch.randn(BATCH, TOKENS, HIDDEN),),
    ),
    "attention, batch second": lambda: (
        SelfAttention(),
        (torch.randn(TOKENS, BATCH, HIDDEN),),
    ),
    "attention, with weights": lambda: (
        SelfAttention(weights=True, batch_first=True),
        (torch.randn(BATCH, TOKENS, HIDDEN),),
    ),
    "attention, the operator": lambda: (
        Scaled(),
        tuple(torch.randn(BATCH, 4, TOKENS, 8) for _ in "qkv"),
    ),
    "residual mlp": lambda: (ResidualMlp(), (torch.randn(5, HIDDEN),)),
    "interrupted": lambda: (Interrupted(), (torch.randn(BATCH, 8, HIDDEN),)),
    "gelu spelled out": lambda: (SpelledOut(), (torch.randn(5, HIDDEN),)),
    "convolution": lambda: (nn.Conv2d(3, 16, 4, stride=4), (torch.randn(BATCH, 3, 16, 16),)),
    "norm": lambda: (nn.LayerNorm(HIDDEN), (torch.randn(5, HIDDEN),)),
    "linear, 200 rows": lambda: (nn.Linear(70, 300), (torch.randn(200, 70),)),
}


def load(name: str) -> Example:
    """A model of the zoo in evaluation mode, the same every time, with its example."""
    torch.manual_seed(sum(map(ord, name)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = ZOO[name]()
    return model.eval(), inputs
