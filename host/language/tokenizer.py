"""Text to tokens and back, by the tokenizer of a GGUF file or of a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transept.host.language.gguf import GgufError, GgufFile
from transept.host.reasons import first_line

__all__ = ["Vocabulary", "file_tokenizer", "folder_tokenizer"]

#: Kinds of tokens in the file: those that stand for no text, and whole words of the maker's own.
_CONTROL, _USER_DEFINED = 3, 4
#: What comes before byte pairs, by its name in the file: whether every digit is a word of its own.
_SINGLE_DIGITS = {"smollm": True, "gpt-2": False, "default": False}


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer of transformers, with the tokens that end a text; name: of the model."""

    name: str
    tokenizer: Any
    stops: frozenset[int]

    def __len__(self) -> int:
        return len(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @property
    def chats(self) -> bool:
        """Whether the model has a template for conversations."""
        return self.tokenizer.chat_template is not None

    def chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The tokens of a conversation, up to where the model is to answer.

        messages: ``role`` (system, user or assistant) and ``content`` of each.

        Raises
        ------
        ValueError
            If the model has no template for conversations, or the template refuses these.
        """
        if not self.chats:
            raise ValueError(f"{self.name} has no template for conversations")
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # the template is a program of its own
            raise ValueError(f"{self.name} refuses the conversation: {error}") from None
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens, without those that stand for none."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def token(self, text: str) -> int:
        """The one token that is this text.

        Raises
        ------
        ValueError
            If there is none.
        """
        index = self.tokenizer.get_vocab().get(text)
        if index is None:
            found = self.encode(text)
            if len(found) != 1:
                raise ValueError(
                    f"{text!r} is no token of {self.name}: it is {len(found)} of them, must be one"
                )
            index = found[0]
        return int(index)


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
    merges = file.fact("tokenizer.ggml.merges", list)
    try:
        merges = [tuple(merge.split(" ")) for merge in merges]
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
    if len(kinds) != len(words):
        raise GgufError(f"{file.path}: {len(kinds)} kinds of {len(words)} tokens")
    tokenizer.add_special_tokens([w for w, k in zip(words, kinds, strict=True) if k == _CONTROL])
    tokenizer.add_tokens([w for w, k in zip(words, kinds, strict=True) if k == _USER_DEFINED])
    special = {}
    for name in ("bos", "eos"):
        if (index := file.token(name)) is not None:
            if index >= len(words):
                raise GgufError(
                    f"{file.path}: {name} token {index} is outside 0 to {len(words) - 1}"
                )
            special[f"{name}_token"] = words[index]
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
        raise ValueError(f"{folder} has no tokenizer: {first_line(error)}") from None
