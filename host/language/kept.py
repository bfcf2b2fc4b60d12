"""Programs of language models by name: made once, and kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from transept.golden.config import Config, preset
from transept.host.language.model import language_model_path, load_language_model
from transept.host.language.program import LanguageProgram, load_program, save_program
from transept.host.texts import calibration_texts
from transept.sim.cache import Recipe, content_hash

__all__ = ["WEIGHTS", "is_kept", "language_program"]

#: Eight bits a weight, chosen here; or the four that a model has.
WEIGHTS = ("w8", "w4")
_KIND = "language"
#: Bytes that are read at once.
_PART = 1 << 24
#: What a program is made by, beside this package.
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")
_SOURCES = ("golden", "host/front", "host/language", "host/runtime/*file.py")


def language_program(
    name: str,
    config: Config | str = "pynq_z2",
    *,
    layers: int | None = None,
    weights: str = WEIGHTS[0],
) -> LanguageProgram:
    """The program of a model by name: ``smollm2``, a GGUF file, or a folder in the transformers
    format. Made once, which takes minutes for a large model, and kept (``transept cache``).

    layers: of the first so many alone, for measurements; weights: ``w8``, or ``w4`` for a model
    whose weights have four bits.

    Raises
    ------
    ValueError
        If there is no such model, it is damaged, has other weights, or is of another kind than a
        language model's layers between embeddings and a vocabulary projection.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights are {' or '.join(WEIGHTS)}, not {weights!r}")
    chosen = preset(config) if isinstance(config, str) else config
    found = _recipe(name, language_model_path(name), chosen, layers, weights)

    def make(scratch: Path) -> None:
        from transept.host.language.compile import compile_language

        model = load_language_model(name)
        save_program(compile_language(model, chosen, layers=layers, weights=weights), scratch)

    return load_program(found.make(make))


def is_kept(
    name: str, config: Config, *, layers: int | None = None, weights: str = WEIGHTS[0]
) -> bool:
    """Whether the program is there already.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    path = language_model_path(name)
    return _recipe(name, path, config, layers, weights).find() is not None


def _recipe(name: str, path: Path, config: Config, layers: int | None, weights: str) -> Recipe:
    """By the contents of the model, and of all source that makes a program of it."""
    package = Path(__file__).resolve().parents[2]
    sources = [
        source
        for pattern in _SOURCES
        for path in sorted(package.glob(pattern))
        for source in (sorted(path.rglob("*.py")) if path.is_dir() else [path])
        if source != Path(__file__).resolve()
    ]
    facts = {"config": config.digest, "layers": layers, "name": name, "weights": weights}
    content = content_hash(facts, _hash(_files(path)), _hash(sources), "".join(calibration_texts()))
    label = f"{name}, {weights}, {config.name}" + ("" if layers is None else f", {layers} layers")
    return Recipe(_KIND, label, content, (), _versions)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise ValueError(f"{path}: No such file or directory")
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as data:
            while part := data.read(_PART):
                digest.update(part)
    return digest.hexdigest()


def _versions() -> str:
    return " ".join(importlib.metadata.version(package) for package in _PACKAGES)
