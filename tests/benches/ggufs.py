"""Small GGUF files of a Llama with a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM

Q4 = GGMLQuantizationType.Q4_1
LAYERS, HEADS, KV_HEADS, HIDDEN = 2, 4, 2, 32
WORDS = ["<end>", "<start>", *sorted(ByteLevel.alphabet()), "he", "1Ġ"]
MERGES = ["h e", "1 Ġ"]
TEMPLATE = "{% for m in messages %}<start>{{ m['content'] }}<end>{% endfor %}"
_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def llama() -> LlamaForCausalLM:
    """Random weights."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_theta=500.0,
        bos_token_id=1,
        eos_token_id=0,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).eval()


def facts() -> dict[str, Any]:
    """What a file says of it."""
    return {
        "llama.block_count": LAYERS,
        "llama.context_length": 64,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": 48,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 500.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": WORDS,
        "tokenizer.ggml.token_type": [3, 3, *[1] * (len(WORDS) - 2)],
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    }


def tensors(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """Weights by their names in the file, pairs of a rotary embedding beside each other."""
    found = {
        "token_embd.weight": model.model.embed_tokens.weight,
        "output_norm.weight": model.model.norm.weight,
        "output.weight": model.lm_head.weight,
    }
    for number, layer in enumerate(model.model.layers):
        for name, part in _PARTS.items():
            weight = layer.get_submodule(name).weight
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(part)
            if heads is not None:
                halves = weight.reshape(heads, 2, -1, HIDDEN)
                weight = halves.transpose(1, 2).reshape(weight.shape)
            found[f"blk.{number}.{part}.weight"] = weight
    return found


def write(
    path: Path,
    told: dict[str, Any],
    weights: dict[str, torch.Tensor],
    kind: str = "llama",
    four_bits: bool = False,
) -> Path:
    """A file; kind: its architecture; four_bits: weights of layers are Q4_1, where they can be."""
    writer = GGUFWriter(path, kind)
    for name, value in told.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        else:
            writer.add_uint32(name, value)
    for name, weight in weights.items():
        array = weight.detach().contiguous().numpy()
        if four_bits and name.startswith("blk") and weight.dim() == 2 and weight.shape[1] % 32 == 0:
            writer.add_tensor(name, quantize(array, Q4), raw_dtype=Q4)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
