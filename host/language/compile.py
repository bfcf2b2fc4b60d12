"""A language model to a program: calibrated, quantised, and cut in front of the vocabulary."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch

from transept.golden.config import Config
from transept.golden.graph import Dim, Graph, Operator
from transept.golden.numerics.softmax import CONTEXT_KEYS
from transept.golden.ops import Linear
from transept.host.compiler.errors import CompileError
from transept.host.front.export import Arguments
from transept.host.front.importer import ImportedModel, import_model
from transept.host.language.cached import cached
from transept.host.language.entry import Entry
from transept.host.language.front import entries
from transept.host.language.model import LanguageModel
from transept.host.language.program import LanguageProgram
from transept.host.runtime.region import Region, notes_beyond
from transept.host.texts import calibration_texts

__all__ = ["compile_language"]

#: Sequences of calibration that run together, tokens of each, and runs, at most.
BATCH, TOKENS, RUNS = 4, 128, 10
#: Rows of the vocabulary projection: those of many sequences.
MOST_ROWS = 1 << 12


class _Logits(torch.nn.Module):
    """ids, positions int64[batch, tokens] to logits [batch, tokens, vocabulary]."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        found = self.model(input_ids=ids, position_ids=positions, use_cache=False)
        return torch.as_tensor(found.logits)


def compile_language(
    model: LanguageModel, config: Config, *, layers: int | None = None, weights: str = "w8"
) -> LanguageProgram:
    """Calibrate and quantise a model, on texts of many kinds.

    layers: of the first so many alone; weights: ``w8``, or ``w4`` for a model whose weights have
    four bits.

    Raises
    ------
    ValueError
        If weights of four bits are wanted of a configuration or a model that has none, not all of
        its layers are one region of the accelerator, between embeddings and a vocabulary
        projection, or they do not fit it.
    """
    if weights == "w4" and not config.blocks.halves:
        raise ValueError(f"{config.name} has no block 'halves', which w4 needs for rows of 15 bits")
    module = _first_layers(model.module, layers)
    inputs = _calibration_inputs(model)
    imported = import_model(_Logits(module), inputs[0], config, inputs, fit=False, weights=weights)
    arguments = Arguments.of(inputs[0])
    graph = _whole(model.name, imported, arguments)
    below, head = _above_and_below(model.name, graph)
    context = min(model.context, CONTEXT_KEYS)
    _check_fit(model.name, config, cached(below, context), head)
    tables, beyond = _entries(imported, arguments, context, _words(model))
    notes = tuple(notes_beyond(beyond))
    return LanguageProgram(config, below, head, tables, model.vocabulary, context, notes)


def _check_fit(name: str, config: Config, layers: Graph, head: Graph) -> None:
    """ValueError if the accelerator cannot compute one token."""
    for graph in (layers, head):
        region = Region(name, graph, config)
        shape = region.shape(1, {dim.name: 1 for dim in graph.dims})
        try:
            region.executable(shape)
        except CompileError as error:
            raise ValueError(f"{name} does not fit {config.name}: {error}") from None


def _words(model: LanguageModel) -> int:
    """Tokens that have an embedding."""
    return len(model.module.get_input_embeddings().weight)  # type: ignore[operator]


def _first_layers(module: torch.nn.Module, layers: int | None) -> torch.nn.Module:
    """The model, or a copy of its first layers."""
    if layers is None:
        return module
    holder, name = next(
        (
            (part, name)
            for part in module.modules()
            for name, child in part.named_children()
            if isinstance(child, torch.nn.ModuleList)
        ),
        (None, ""),
    )
    if holder is None or not 1 <= layers <= len(getattr(holder, name)):
        have = 0 if holder is None else len(getattr(holder, name))
        raise ValueError(f"{layers} layers of a model that has {have}")
    whole = getattr(holder, name)
    try:
        setattr(holder, name, whole[:layers])
        return copy.deepcopy(module)
    finally:
        setattr(holder, name, whole)


def _calibration_inputs(model: LanguageModel) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Texts one behind the other, cut into sequences."""
    ids = model.vocabulary.encode("\n\n".join(calibration_texts()))
    tokens = min(TOKENS, model.context)
    count = min(RUNS, max(1, len(ids) // (tokens * BATCH))) * BATCH * tokens
    ids = (ids * -(-count // len(ids)))[:count]
    batches = torch.tensor(ids).reshape(-1, BATCH, tokens)
    positions = torch.arange(tokens).expand(BATCH, -1)
    return [(batch, positions) for batch in batches]


def _whole(name: str, imported: ImportedModel, arguments: Arguments) -> Graph:
    """The graph of the one region, whose result is all of the model's."""
    regions = imported.regions
    if len(regions) != 1:
        reasons = dict.fromkeys(imported.bound(arguments).frame.reasons.values())
        raise ValueError(
            f"{name} falls into {len(regions)} regions, must be one: {'; '.join(reasons)}"
        )
    graph = regions[0].graph
    result, rows = None, {}

    def runner(_: int, inputs: Mapping[str, np.ndarray], lengths: object) -> dict[str, np.ndarray]:
        (batch, length, _), random = next(iter(inputs.values())).shape, np.random.default_rng(1)
        for out in graph.outputs:
            shape = (batch, length, graph.values[out].width)
            rows[out] = random.integers(-999, 999, shape, np.int16)
        return rows

    result, _ = imported.run(arguments, runner)
    (out,) = graph.outputs if len(graph.outputs) == 1 else ("",)
    same = out and np.array_equal(
        np.asarray(result), regions[0].real(out, rows[out]).astype(np.float32)
    )
    if not same:
        raise ValueError(f"{name} computes something behind its vocabulary projection")
    return graph


def _above_and_below(name: str, graph: Graph) -> tuple[Graph, Graph]:
    """Everything up to the vocabulary projection, and that."""
    *ops, head = graph.ops
    if not isinstance(head, Linear) or head.y != graph.outputs[0]:
        raise ValueError(f"{name} ends in {head.name}, must end in a vocabulary projection")
    dims = tuple(dim for dim in graph.dims if dim.name != graph.values[head.x].dim)
    own = next(dim for dim in graph.dims if dim.name == graph.values[head.x].dim)
    return (
        _graph((own, *dims), graph, graph.inputs, (head.x,), tuple(ops)),
        _graph((Dim(own.name, MOST_ROWS),), graph, (head.x,), (head.y,), (head,)),
    )


def _graph(
    dims: tuple[Dim, ...],
    whole: Graph,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    ops: tuple[Operator, ...],
) -> Graph:
    names = dict.fromkeys((*inputs, *(out for op in ops for out in op.outputs)))
    values = {name: whole.values[name] for name in names}
    return Graph(dims, values, inputs, outputs, ops)


def _entries(
    imported: ImportedModel, arguments: Arguments, context: int, vocabulary: int
) -> tuple[dict[str, Entry], dict[str, tuple[int, int]]]:
    bound = imported.bound(arguments)
    (binding,) = bound.bindings
    shape = tuple(arguments.leaves()[0].shape)
    return entries(bound.module, binding, shape, vocabulary, context)
