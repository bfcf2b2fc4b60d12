"""Every conflict of a compiled program is ordered, judged by what its instructions really touch."""

import dataclasses

import pytest
from graphs import mlp, post_norm, pre_norm
from hazards import edges, unordered

from transept.golden.config import TINY
from transept.golden.isa import Opcode
from transept.host.runtime.region import Region


def body(graph, batch, length):
    region = Region("model", graph, TINY)
    executable = region.executable(region.shape(batch, {"rows": length}))
    return [i for i in executable.decoded() if i.opcode != Opcode.END]


# one block, two blocks, a ragged last tile, several sequences, groups, spilled rows
@pytest.mark.parametrize(("tokens", "batch"), [(4, 1), (11, 1), (5, 3), (6, 5), (22, 1)])
def test_encoder(tokens, batch):
    assert unordered(body(post_norm(0, 8, 2, [12]), batch, tokens), TINY) == []


@pytest.mark.parametrize("graph", [mlp(0, [12, 20, 9]), pre_norm(0, 16, 4, 2, [24])])
def test_other_graphs(graph):
    assert unordered(body(graph, 1, 7), TINY) == []


def test_a_missing_token_is_seen():
    program = body(post_norm(0, 8, 2, [12]), 1, 11)
    for producer, consumer in edges(program):
        i, j = program[producer], program[consumer]
        changed = list(program)
        changed[producer] = dataclasses.replace(i, signal=i.signal - {j.engine})
        changed[consumer] = dataclasses.replace(j, wait=j.wait - {i.engine})
        assert unordered(changed, TINY), (producer, consumer)
