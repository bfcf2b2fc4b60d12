"""A language model as the accelerator runs it: layers, vocabulary projection, tables, tokenizer."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transept.golden.config import Config
from transept.golden.graph import Graph
from transept.golden.ops import Attention
from transept.host.language.cached import cached
from transept.host.language.entry import Entry
from transept.host.language.tokenizer import Vocabulary, folder_tokenizer
from transept.host.runtime import file
from transept.host.runtime.region import Region

__all__ = ["LanguageProgram", "load_program", "save_program"]

_GRAPHS, _TABLES, _FACTS, _TOKENIZER = (
    "model.tsp",
    "entries.safetensors",
    "facts.json",
    "tokenizer",
)


@dataclass(frozen=True, eq=False)
class LanguageProgram:
    """A compiled language model.

    layers: of whole sequences, from what enters the first one to the normalised rows of the last;
    head: those rows to logits; entries: what enters, by value; context: rows of the longest
    sequence; notes: what was not as it should be.
    """

    config: Config
    layers: Graph
    head: Graph
    entries: Mapping[str, Entry]
    vocabulary: Vocabulary
    context: int
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def decoder(self) -> Region:
        """The layers of a sequence's last rows (``cached``), compiled once for all sessions."""
        return Region("layers", cached(self.layers, self.context), self.config)

    @functools.cached_property
    def projection(self) -> Region:
        """The head, compiled once for all sessions."""
        return Region("head", self.head, self.config)

    @property
    def name(self) -> str:
        """Of the model."""
        return self.vocabulary.name

    @property
    def depth(self) -> int:
        """Layers with attention."""
        return sum(isinstance(op, Attention) for op in self.layers.ops)

    @property
    def size(self) -> int:
        """Tokens that there are logits of."""
        return self.head.values[self.head.outputs[0]].width

    def __repr__(self) -> str:
        return f"<{self.name} for {self.config.name}: {self.depth} layers, context {self.context}>"

    def enter(self, ids: np.ndarray, positions: np.ndarray) -> dict[str, np.ndarray]:
        """What enters the layers, integers [.., width], for tokens at positions, int64[..]."""
        return {name: entry.rows(ids, positions) for name, entry in self.entries.items()}

    def logits(self, integers: np.ndarray) -> np.ndarray:
        """float64[.., tokens] of what leaves the head."""
        scale = self.head.values[self.head.outputs[0]].scale
        assert scale is not None
        return integers * scale

    def check_ids(self, ids: Sequence[int]) -> None:
        """ValueError if there are no tokens, one is none of the vocabulary, or there are more than
        the context has positions for."""
        if not len(ids):
            raise ValueError("the prompt is empty")
        for index in ids:
            if not 0 <= index < self.size:
                raise ValueError(f"token {index} is outside 0 to {self.size - 1}")
        if len(ids) >= self.context:
            raise ValueError(
                f"the prompt has {len(ids)} tokens, the context of {self.name} is {self.context} "
                "with the answer"
            )


def save_program(program: LanguageProgram, folder: Path) -> None:
    """Write all of a program into a folder."""
    from safetensors.numpy import save_file

    graphs = {"layers": program.layers, "head": program.head}
    regions = [Region(name, graph, program.config) for name, graph in graphs.items()]
    file.save(folder / _GRAPHS, program.config, regions)
    arrays: dict[str, np.ndarray] = {}
    limits = {}
    for name, entry in program.entries.items():
        limits[name] = entry.limit
        tables = {"token": entry.token, "position": entry.position, "scale": entry.scale}
        arrays |= {f"{name}:{key}": table for key, table in tables.items() if table is not None}
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, folder / _TABLES)
    vocabulary = program.vocabulary
    facts = {
        "name": vocabulary.name,
        "stops": sorted(vocabulary.stops),
        "context": program.context,
        "limits": limits,
        "notes": list(program.notes),
    }
    (folder / _FACTS).write_text(json.dumps(facts))
    vocabulary.tokenizer.save_pretrained(folder / _TOKENIZER)


def load_program(folder: Path) -> LanguageProgram:
    """What ``save_program`` wrote.

    Raises
    ------
    ProgramError, ValueError
        If a part is damaged.
    """
    from safetensors.numpy import load_file

    config, regions, _ = file.load(folder / _GRAPHS)
    graphs = {region.name: region.graph for region in regions}
    facts = json.loads((folder / _FACTS).read_text())
    arrays = load_file(folder / _TABLES)
    entries = {
        name: Entry(
            arrays.get(f"{name}:token"),
            arrays.get(f"{name}:position"),
            arrays[f"{name}:scale"],
            limit,
        )
        for name, limit in facts["limits"].items()
    }
    tokenizer = folder_tokenizer(folder / _TOKENIZER)
    vocabulary = Vocabulary(facts["name"], tokenizer, frozenset(facts["stops"]))
    return LanguageProgram(
        config,
        graphs["layers"],
        graphs["head"],
        entries,
        vocabulary,
        facts["context"],
        tuple(facts["notes"]),
    )
