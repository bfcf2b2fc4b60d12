"""Small language models with tokenizers, and programs of them."""

from __future__ import annotations

from pathlib import Path

import ggufs
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from transept.golden.config import TINY, Config
from transept.host.language.compile import compile_language
from transept.host.language.model import LanguageModel, load_language_model
from transept.host.language.program import LanguageProgram


def llama_model(folder: Path, *, four_bits: bool = False) -> LanguageModel:
    """The Llama of ``ggufs``, from a file."""
    model = ggufs.llama()
    with torch.no_grad():  # so that tokens and their order matter
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight *= 8
            layer.self_attn.k_proj.weight *= 8
        model.lm_head.weight *= 8
    return load_language_model(
        str(
            ggufs.write(
                folder / "llama.gguf", ggufs.facts(), ggufs.tensors(model), four_bits=four_bits
            )
        )
    )


def four_bit_program(folder: Path, config: Config = TINY) -> LanguageProgram:
    """The Llama with weights of four bits, but those whose inputs make no groups."""
    return compile_language(llama_model(folder, four_bits=True), config, weights="w4")


def gpt2_model(folder: Path) -> LanguageModel:
    """A GPT-2 of odd sizes, from a folder; its tokens are bytes."""
    torch.manual_seed(2)
    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    config = GPT2Config(
        vocab_size=len(words) + 1,
        n_embd=36,
        n_layer=2,
        n_head=3,
        n_inner=52,
        n_positions=48,
        bos_token_id=len(words),
        eos_token_id=len(words),
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for layer in model.transformer.h:
            layer.attn.c_attn.weight *= 20
            layer.mlp.c_proj.weight *= 10
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    model.save_pretrained(folder / "gpt2")
    fast.save_pretrained(folder / "gpt2")
    return load_language_model(str(folder / "gpt2"))


MODELS = {"llama": llama_model, "gpt2": gpt2_model}


def program(folder: Path, name: str = "llama", config: Config = TINY) -> LanguageProgram:
    """A compiled one."""
    return compile_language(MODELS[name](folder), config)
