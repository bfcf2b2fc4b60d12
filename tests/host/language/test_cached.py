"""Rows of a sequence in any parts give the bits of the whole."""

import numpy as np
import pytest
from graphs import (
    attention_alone,
    attentive,
    cross,
    gated,
    mlp,
    norms_in_front,
    post_norm,
    random_inputs,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from transept.golden.filters import Causal, Window
from transept.golden.ops import Append, CachedAttention
from transept.host.backends.cpu.graph import CpuGraph
from transept.host.backends.golden import GoldenGraph
from transept.host.language.cached import CONTEXT, cached

ROWS, LIMIT = 11, 16
GRAPHS = {
    "llama": attentive(gated(1, 16, 4, 2, [12, 8])),
    "gpt2": attentive(norms_in_front(2, 12, 3, [20], Causal())),
    "sliding window": attentive(norms_in_front(3, 12, 2, [8], Window(4, 0))),
}


def in_parts(graph, inputs, parts, run):
    """The rows of every output of the whole graph, part by part.

    run: the function from inputs and lengths to outputs, of the graph with states.
    """
    kept = cached(graph, LIMIT)
    (dim,) = (dim.name for dim in graph.dims)
    states = {
        s.input: np.zeros((1, LIMIT, kept.values[s.input].width), np.int8) for s in kept.states
    }
    found, start = [], 0
    run = run(kept)
    for part in parts:
        some = {name: x[:, start : start + part] for name, x in inputs.items()}
        start += part
        out = run(some | states, {dim: [part], CONTEXT: [start]})
        states = {s.input: out[s.output].astype(np.int8) for s in kept.states}
        found.append(out)
    return {name: np.concatenate([out[name] for out in found], 1) for name in graph.outputs}


@st.composite
def cuts(draw):
    """Parts of all rows."""
    parts = []
    while sum(parts) < ROWS:
        parts.append(draw(st.integers(1, ROWS - sum(parts))))
    return parts


@settings(max_examples=15, deadline=None)
@given(cuts(), st.sampled_from(sorted(GRAPHS)))
def test_any_parts_give_the_bits_of_the_whole(parts, name):
    graph = GRAPHS[name]
    inputs = random_inputs(graph, 1, ROWS)
    wanted = graph.evaluate(inputs)
    found = in_parts(graph, inputs, parts, lambda kept: kept.evaluate)
    assert all(np.array_equal(found[out], wanted[out]) for out in graph.outputs)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("prepared", [CpuGraph, GoldenGraph])
def test_backends_keep_the_same_rows(prepared, name):
    graph = GRAPHS[name]
    inputs = random_inputs(graph, 1, ROWS)
    wanted = graph.evaluate(inputs)
    found = in_parts(graph, inputs, [4, 1, 1, 5], lambda kept: prepared(kept).run)
    assert all(np.array_equal(found[out], wanted[out]) for out in graph.outputs)


def test_sequences_of_other_lengths_change_nothing():
    graph = GRAPHS["llama"]
    kept = cached(graph, LIMIT)
    inputs = random_inputs(graph, 2, 3)
    states = {
        s.input: np.random.default_rng(1).integers(-9, 9, (2, LIMIT, kept.values[s.input].width))
        for s in kept.states
    }
    rows, context = [3, 1], [9, 4]
    together = kept.evaluate(inputs | states, {"rows": rows, CONTEXT: context})
    for index in range(2):
        here = slice(index, index + 1)
        alone = kept.evaluate(
            {name: x[here] for name, x in (inputs | states).items()},
            {"rows": rows[here], CONTEXT: context[here]},
        )
        for out in graph.outputs:
            assert (alone[out][0, : rows[index]] == together[out][index, : rows[index]]).all()


def test_a_state_for_keys_and_values_of_every_attention():
    kept = cached(GRAPHS["llama"], LIMIT)
    kinds = [type(op) for op in kept.ops]
    assert (kinds.count(Append), kinds.count(CachedAttention), len(kept.states)) == (4, 2, 4)
    assert [(dim.name, dim.limit) for dim in kept.dims][-1] == (CONTEXT, LIMIT)
    for state, op in zip(
        kept.states, (op for op in kept.ops if isinstance(op, Append)), strict=True
    ):
        name = state.input.removesuffix(".cache")
        assert (op.name, state.output) == (f"{name}.append", f"{name}.cached")


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (mlp(1, [8, 8, 8]), "the model has no attention on the accelerator"),
        (post_norm(1, 8, 2, [8]), "sees keys behind the query .filter dense., must be causal"),
        (attention_alone(1, 8, 2, Window(2, 1)), "sees keys behind the query .filter window."),
        (cross(1, 8, 2, 8), "attends to another sequence, it is no language model's"),
    ],
)
def test_what_is_no_language_model(graph, message):
    with pytest.raises(ValueError, match=message):
        cached(graph, LIMIT)


@pytest.mark.parametrize("limit", [0, 4097])
def test_a_context_that_no_accumulator_holds(limit):
    with pytest.raises(ValueError, match=f"^a context of {limit} rows is outside 1 to 4096$"):
        cached(GRAPHS["llama"], limit)


def test_contexts_of_one_row_and_of_all_that_accumulators_hold():
    for limit in (1, 4096):
        assert cached(GRAPHS["llama"], limit).dims[-1].limit == limit
