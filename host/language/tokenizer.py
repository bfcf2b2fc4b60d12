"""Text to tokens and back, by the tokenizer of a GGUF file or of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transept.host.language.gguf import GgufError, GgufFile

__all__ = ["file_tokenizer", "folder_tokenizer"]

#: Kinds of tokens in the file: those that stand for no text, and whole words of the maker's own.
_CONTROL, _USER_DEFINED = 3, 4
#: What comes before byte pairs, by its name in the file: whether every digit is a word of its own.
_SINGLE_DIGITS = {"smollm": True, "gpt-2": False, "default": False}


def file_tokenizer(file: GgufFile) -> Any:
    """The ``transformers.PreTrainedTokenizerFast`` that a GGUF file describes: byte pairs, as GPT-2
    has them; with ``smollm`` every digit is a word of its own (so does llama.cpp).

    Raises
    ------
    GgufError
        If it describes another kind, or its words do not fit together.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    kind, before = (file.fact(f"tokenizer.ggml.{name}", str) for name in ("model", "pre"))
    if kind != "gpt2" or before not in _SINGLE_DIGITS:
        known = ", ".join(_SINGLE_DIGITS)
        raise GgufError(f"{file.path}: tokenizer {kind} {before}, known are gpt2 with {known}")
    words = file.fact("tokenizer.ggml.tokens", list)
    merges = [tuple(m.split(" ")) for m in file.fact("tokenizer.ggml.merges", list)]
    try:
        model = models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges)
    except Exception as error:  # of the Rust library
        raise GgufError(f"{file.path}: words and merges of its tokenizer: {error}") from None
    tokenizer = Tokenizer(model)
    parts: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    if _SINGLE_DIGITS[before]:
        parts.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    kinds = file.fact("tokenizer.ggml.token_type", list, [0] * len(words))
    tokenizer.add_special_tokens([w for w, k in zip(words, kinds, strict=True) if k == _CONTROL])
    tokenizer.add_tokens([w for w, k in zip(words, kinds, strict=True) if k == _USER_DEFINED])
    special = {
        f"{name}_token": words[index]
        for name, index in (("bos", file.token("bos")), ("eos", file.token("eos")))
        if index is not None
    }
    template = file.fact("tokenizer.chat_template", str, "") or None
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=tokenizer, chat_template=template, **special)


def folder_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder in the transformers format.

    Raises
    ------
    ValueError
        If it has none that transformers can read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{folder} has no tokenizer: {first}") from None
