"""Models of random sizes: emulator and CPU give the bits of the specification."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from transept.golden.config import TINY
from transept.host.generation.decoder import Growth
from transept.host.generation.session import LanguageSession
from transept.host.language import compile as compiling
from transept.host.language.compile import compile_language
from transept.host.language.model import LanguageModel


class Letters:
    """A tokenizer of nothing but numbers."""

    def __init__(self, size):
        self.size = size

    def encode(self, text):
        return [ord(letter) % self.size for letter in text]


def llama(rng):
    kv_heads, share, half = (int(rng.integers(1, 4)) for _ in range(3))
    heads = kv_heads * share
    config = LlamaConfig(
        vocab_size=int(rng.integers(30, 200)),
        hidden_size=heads * int(rng.integers(2, 9)),
        intermediate_size=int(rng.integers(5, 90)),
        num_hidden_layers=int(rng.integers(1, 4)),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=8 * half,
        max_position_embeddings=50,
        tie_word_embeddings=bool(rng.integers(2)),
        attn_implementation="eager",
        bos_token_id=0,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def gpt2(rng):
    heads, width = int(rng.integers(1, 5)), int(rng.integers(3, 14))
    config = GPT2Config(
        vocab_size=int(rng.integers(30, 200)),
        n_embd=heads * width,
        n_inner=int(rng.integers(5, 90)),
        n_layer=int(rng.integers(1, 4)),
        n_head=heads,
        n_positions=50,
        attn_implementation="eager",
        bos_token_id=0,
        eos_token_id=1,
    )
    return GPT2LMHeadModel(config)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [llama, gpt2])
def test_odd_sizes(make, seed, monkeypatch):
    monkeypatch.setattr(compiling, "RUNS", 1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    module = make(rng).eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight *= 6 if weight.ndim > 1 else 1
    size = module.config.vocab_size
    program = compile_language(LanguageModel("it", module, Letters(size)), TINY)
    texts = [rng.integers(0, size, count).tolist() for count in rng.integers(22, 45, 2)]
    found = {}
    for device in ("golden", "cpu", "emulator"):
        session = LanguageSession(program, device, pages=8)
        cuts = [1, 7, 8, 20] if device == "emulator" else [20]
        sequences = [session.open() for _ in texts]
        rows = [[] for _ in texts]
        for first, last in zip([0, *cuts], [*cuts, None], strict=True):
            some = [
                Growth(sequence, text[first:last], len(text[first:last]))
                for sequence, text in zip(sequences, texts, strict=True)
            ]
            for number, logits in enumerate(session.grow(some)):
                rows[number].append(logits)
        found[device] = [np.concatenate(parts) for parts in rows]
    for device in ("cpu", "emulator"):
        for ours, wanted in zip(found[device], found["golden"], strict=True):
            assert np.array_equal(ours, wanted)
    assert len(np.unique(found["golden"][0])) > 50
