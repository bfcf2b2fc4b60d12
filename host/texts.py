"""Real English text that every Python installation carries: for calibration, accuracy and demo."""

from __future__ import annotations

import importlib
import inspect
import pydoc_data.topics
import re
from pathlib import Path

__all__ = ["DEMO_SENTENCES", "calibration_texts", "passages", "read_passages"]

MIN_WORDS = 25

DEMO_SENTENCES = (
    (
        "A systolic array multiplies two matrices while the data flows through a grid of small "
        "processing elements, each number used many times."
    ),
    (
        "Matrix products are computed by streaming the operands across many multipliers, so that "
        "each number read from memory is used over and over again."
    ),
    (
        "The old cat slept all afternoon on the warm windowsill, and neither the rain nor the "
        "neighbour's barking dog could wake her up."
    ),
    (
        "Quantised neural networks give up a little of their accuracy, and in return they run "
        "faster, need less memory and use far less energy."
    ),
)

_MODULES = (
    *("argparse", "asyncio", "collections", "csv", "datetime", "decimal", "email.message"),
    *("functools", "heapq", "http.client", "itertools", "json", "logging", "os", "pathlib"),
    *("random", "socket", "sqlite3", "statistics", "subprocess", "tarfile", "threading"),
    *("unittest", "urllib.request", "zipfile"),
)


def calibration_texts(count: int = 64) -> list[str]:
    """Docstrings of the standard library of at least 30 words; none of them is in ``passages``."""
    found: dict[str, None] = {}
    for name in _MODULES:
        for value in vars(importlib.import_module(name)).values():
            text = (
                inspect.getdoc(value) if inspect.isroutine(value) or inspect.isclass(value) else ""
            )
            if text and len(text.split()) >= 30:
                found.setdefault(text)
    texts = list(found)
    return texts[:: max(1, len(texts) // count)][:count]


def passages(count: int | None = None) -> list[str]:
    """Paragraphs of at least 25 words from the topics of Python's language reference.

    count: so many, evenly spread; all by default.
    """
    found: dict[str, None] = {}
    for topic in pydoc_data.topics.topics.values():
        for paragraph in re.split(r"\n\s*\n", topic):
            text = " ".join(paragraph.split())
            if len(text.split()) >= MIN_WORDS:
                found.setdefault(text)
    texts = list(found)
    return texts if count is None else texts[:: max(1, len(texts) // count)][:count]


def read_passages(path: Path) -> list[str]:
    """One passage a line, empty lines left out.

    Raises
    ------
    ValueError
        If the file is missing or holds none.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}")
    texts = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not texts:
        raise ValueError(f"{path} holds no passage")
    return texts
