"""Every conflict of a compiled program is ordered, judged by what its instructions really touch."""

import dataclasses

import numpy as np
import pytest
from hazards import edges, unordered
from small_models import quantised_chain, quantised_encoder

from transept.golden.config import TINY
from transept.golden.isa import Opcode
from transept.host.compile import compile_chain, compile_encoder
from transept.host.gemm import compile_gemm


def body(launch):
    return [i for i in launch.decoded() if i.opcode != Opcode.END]


# one block, two blocks, a ragged last tile, several sequences, groups, spilled rows
@pytest.mark.parametrize(("tokens", "batch"), [(4, 1), (11, 1), (5, 3), (6, 5), (22, 1)])
def test_encoder(tokens, batch):
    launch = compile_encoder(TINY, quantised_encoder(8, 2, 12, 1), tokens=tokens, batch=batch)
    assert unordered(body(launch), TINY) == []


def test_chain_and_gemm():
    chain = compile_chain(TINY, quantised_chain([12, 20, 9], ["gelu", None]), rows=7)
    gemm = compile_gemm(TINY, 17, 9, 30, np.ones((30, 9), np.int8))
    for launch in (chain, gemm.launch):
        assert unordered(body(launch), TINY) == []


def test_a_missing_token_is_seen():
    program = body(compile_encoder(TINY, quantised_encoder(8, 2, 12, 1), tokens=11, batch=1))
    for producer, consumer in edges(program):
        i, j = program[producer], program[consumer]
        changed = list(program)
        changed[producer] = dataclasses.replace(i, signal=i.signal - {j.engine})
        changed[consumer] = dataclasses.replace(j, wait=j.wait - {i.engine})
        assert unordered(changed, TINY), (producer, consumer)
