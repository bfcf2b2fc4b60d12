"""A model of whole sequences as one of their last rows: attention keeps earlier keys and values."""

from __future__ import annotations

import dataclasses

from transept.golden.filters import Causal, Window
from transept.golden.graph import Dim, Graph, Operator, State, Value
from transept.golden.numerics.softmax import CONTEXT_KEYS
from transept.golden.ops import Append, Attention, CachedAttention

__all__ = ["CONTEXT", "cached"]

#: The dimension of earlier rows and new ones together.
CONTEXT = "context"


def cached(graph: Graph, limit: int) -> Graph:
    """The graph with a state for the keys, and one for the values, of every attention.

    Everything but attention works row by row, so that the rows of a sequence may come in any parts
    and give the same bits. limit: rows of the longest sequence, dimension ``context``, at most
    CONTEXT_KEYS: accumulators hold no more keys.

    Raises
    ------
    ValueError
        If the graph has no attention, or one whose queries see keys behind them or of another
        sequence: it is no language model. If the limit is outside 1 to CONTEXT_KEYS.
    """
    if not 1 <= limit <= CONTEXT_KEYS:
        raise ValueError(f"a context of {limit} rows is outside 1 to {CONTEXT_KEYS}")
    attentions = [op for op in graph.ops if isinstance(op, Attention)]
    if not attentions:
        raise ValueError("the model has no attention on the accelerator, and nothing to keep")
    values, ops = dict(graph.values), list[Operator]()
    states: dict[str, State] = {}
    for op in graph.ops:
        if not isinstance(op, Attention):
            ops.append(op)
            continue
        _check(op, graph)
        for name in dict.fromkeys((op.k, op.v)):
            if name not in states:
                append = _append(values, name)
                states[name] = State(append.cache, append.out)
                ops.append(append)
        ops.append(_on_cache(op, states))
    return Graph(
        (*graph.dims, Dim(CONTEXT, limit)),
        values,
        (*graph.inputs, *(state.input for state in states.values())),
        (*graph.outputs, *(state.output for state in states.values())),
        tuple(ops),
        tuple(states.values()),
    )


def _check(op: Attention, graph: Graph) -> None:
    if graph.values[op.q].dim != graph.values[op.k].dim:
        raise ValueError(f"{op.name} attends to another sequence, it is no language model's")
    behind = not isinstance(op.filter, Causal | Window) or getattr(op.filter, "after", 0) > 0
    if behind:
        kind = op.filter.kind.name.lower()
        raise ValueError(f"{op.name} sees keys behind the query (filter {kind}), must be causal")


def _append(values: dict[str, Value], name: str) -> Append:
    """The operator that keeps a value; its own values are added."""
    append = Append(f"{name}.append", f"{name}.cache", name, f"{name}.cached")
    for own in (append.cache, append.out):
        values[own] = dataclasses.replace(values[name], name=own, dim=CONTEXT)
    return append


def _on_cache(op: Attention, states: dict[str, State]) -> Operator:
    fields = {field.name: getattr(op, field.name) for field in dataclasses.fields(op)}
    fields |= {"k": states[op.k].output, "v": states[op.v].output}
    return CachedAttention(**fields)
