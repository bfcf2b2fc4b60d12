"""Every conflict of a compiled program is ordered, judged by what its instructions really touch."""

import dataclasses

import pytest
from graphs import attention_alone, mlp, post_norm, pre_norm
from hazards import edges, unordered

from transept.golden.config import TINY
from transept.golden.filters import TileThreshold
from transept.golden.isa import Opcode
from transept.host.compiler.compile import compile_graph
from transept.host.compiler.cut import Shape

SMALL = TINY.replace(name="small", act_banks=(96,) * 4, stat_words=512)


def body(graph, batch, length, config=TINY):
    executable = compile_graph(graph, config, Shape(batch, {"rows": length}))
    return [i for i in executable.decoded() if i.opcode != Opcode.END]


# one block, two blocks, a ragged last tile, several sequences, groups
@pytest.mark.parametrize(("length", "batch"), [(4, 1), (11, 1), (5, 3), (6, 5)])
def test_encoder(length, batch):
    assert unordered(body(post_norm(1, 8, 2, [12]), batch, length), TINY) == []


def test_spilled_rows():
    program = body(post_norm(1, 8, 2, [12], TileThreshold(500)), 1, 40, SMALL)
    assert unordered(program, SMALL) == []


@pytest.mark.parametrize(
    "graph",
    [mlp(1, [12, 20, 9]), pre_norm(2, 8, 2, 1, [12]), attention_alone(3, 8, 2, TileThreshold(500))],
    ids=["mlp", "pre-norm", "attention"],
)
def test_others(graph):
    assert unordered(body(graph, 1, 7), TINY) == []


def test_a_missing_token_is_seen():
    program = body(post_norm(1, 8, 2, [12]), 1, 7)
    for producer, consumer in edges(program):
        i, j = program[producer], program[consumer]
        changed = list(program)
        changed[producer] = dataclasses.replace(i, signal=i.signal - {j.engine})
        changed[consumer] = dataclasses.replace(j, wait=j.wait - {i.engine})
        assert unordered(changed, TINY), (producer, consumer)
