"""``bench cpu``: the CPU backend beside the golden model and torch's float32, on a whole encoder.

Times are medians of rounds in which all three run, so that ratios hold on a machine that does other
work, too. Each runs twice in a round; the second time counts, with its own data in the caches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from transept.golden.config import PYNQ_Z2
from transept.host.backends.cpu import CpuGraph
from transept.host.front.importer import import_model
from transept.host.runtime.region import Region

__all__ = ["MINILM", "SHAPES", "bench_cpu"]

#: Width, heads, inner width and layers of all-MiniLM-L6-v2.
MINILM = (384, 12, 1536, 6)
#: Tokens and batch.
SHAPES = ((128, 1), (32, 4))
ROUNDS = 9


def bench_cpu(
    sizes: tuple[int, int, int, int] = MINILM,
    shapes: tuple[tuple[int, int], ...] = SHAPES,
    rounds: int = ROUNDS,
) -> list[dict[str, Any]]:
    """Milliseconds of an encoder of random weights, ratios (above 1 the backend is the faster one),
    and elements that differ from the golden model's, one row a shape.

    sizes: as ``MINILM``; shapes: tokens and batch. torch's threads are those that are set.
    """
    torch.manual_seed(0)
    model = _encoder(*sizes)
    (region,) = import_model(model, torch.randn(1, shapes[0][0], sizes[0]), PYNQ_Z2).regions
    backend = CpuGraph(region.graph)
    return [_row(model, region, backend, tokens, batch, rounds) for tokens, batch in shapes]


def _encoder(width: int, heads: int, inner: int, layers: int) -> torch.nn.Module:
    layer = torch.nn.TransformerEncoderLayer(
        width, heads, inner, activation="gelu", batch_first=True
    )
    return torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()


def _row(
    model: torch.nn.Module, region: Region, backend: CpuGraph, tokens: int, batch: int, rounds: int
) -> dict[str, Any]:
    (name,) = region.graph.inputs
    real = torch.randn(batch, tokens, region.graph.values[name].width)
    inputs = {name: region.quantise(name, real.numpy())}
    tensors = {name: torch.as_tensor(inputs[name])}
    wanted, found = region.graph.evaluate(tensors), backend.run(inputs)
    golden, ours, float32 = _medians(
        rounds,
        lambda: region.graph.evaluate(tensors),
        lambda: backend.run(inputs),
        torch.inference_mode()(lambda: model(real)),
    )
    return {
        "work": f"{tokens} x {batch} tokens",
        "mismatches": sum(int(np.sum(found[out] != wanted[out].numpy())) for out in found),
        "golden_ms": golden,
        "ours_ms": ours,
        "float32_ms": float32,
        "against_golden": golden / ours,
        "against_float32": float32 / ours,
    }


def _medians(rounds: int, *runs: Callable[[], object]) -> list[float]:
    """Milliseconds of each, right behind a run of the same."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, found in zip(runs, times, strict=True):
            run()
            start = time.perf_counter()
            run()
            found.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(found) for found in times]
