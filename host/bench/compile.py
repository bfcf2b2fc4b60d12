"""``bench compile``: how long encoders take to compile, the compiler apart from the front end.

Seconds are those that this process has on processors, so that ratios hold on a machine that does
other work, too; the least of some rounds in which all encoders are compiled.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from transept.golden.config import PYNQ_Z2, Config
from transept.host.bench.encoder import BERT_BASE, MINILM, Encoder
from transept.host.bench.float_encoder import FloatEncoder
from transept.host.compiler.compile import compile_graph
from transept.host.front.importer import import_model

__all__ = ["bench_compile"]

ROUNDS = 2


def bench_compile(
    encoders: Sequence[Encoder] = (MINILM, BERT_BASE),
    tokens: int = 128,
    config: Config = PYNQ_Z2,
    rounds: int = ROUNDS,
) -> list[dict[str, Any]]:
    """Instructions and seconds of encoders of random weights for one sequence, a row each; ratio:
    how many times as long as the first it takes."""
    rows = [_row(sizes, tokens, config) for _ in range(rounds) for sizes in encoders]
    best = [
        min(rows[i :: len(encoders)], key=lambda row: row["seconds"]) for i in range(len(encoders))
    ]
    return [row | {"ratio": row["seconds"] / best[0]["seconds"]} for row in best]


def _row(sizes: Encoder, tokens: int, config: Config) -> dict[str, Any]:
    torch.manual_seed(0)
    model, x = FloatEncoder(sizes).eval(), torch.randn(1, tokens, sizes.hidden)
    start = time.process_time()
    (region,) = import_model(model, x, config).regions
    (shape,) = region.shapes
    executable = region.executable(shape)
    seconds = time.process_time() - start
    start = time.process_time()
    compile_graph(region.graph, config, shape)
    return {
        "model": sizes.name,
        "layers": sizes.layers,
        "instructions": len(executable.decoded()),
        "seconds": seconds,
        "compiler_seconds": time.process_time() - start,
    }
