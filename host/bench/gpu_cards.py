"""Several GPUs beside one: sequences shared out, the same bits."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from transept.host.backends.gpu import GpuGraph
from transept.host.bench.encoder import BERT_BASE
from transept.host.bench.float_encoder import encoder_graph
from transept.host.compiler.cut import Shape
from transept.host.parallel.shards import shares
from transept.host.placement.calibrate import random_inputs

__all__ = ["bench_cards"]

#: Sequences, tokens, and layers that are timed.
BATCH, TOKENS, LAYERS = 128, 512, 4
REPETITIONS = 30


def bench_cards(progress: Callable[[str], None] = lambda text: None) -> Iterator[dict[str, Any]]:
    """A row for every number of GPUs beyond one; none if there is one."""
    count = torch.cuda.device_count()
    if count < 2:
        return
    progress(f"{BERT_BASE.name} on {count} cards")
    _, graph = encoder_graph(dataclasses.replace(BERT_BASE, layers=LAYERS), 32)
    (dim,) = graph.dims
    inputs = random_inputs(graph, Shape(BATCH, {dim.name: TOKENS}))

    def captured(cards: int) -> tuple[list[Callable[[], None]], dict[str, np.ndarray]]:
        """What starts every card, and the outputs of all."""
        starts, outputs = [], []
        for card, (first, end) in enumerate(shares(BATCH, cards)):
            prepared = GpuGraph(graph, torch.device("cuda", card))
            part = {name: x[first:end] for name, x in inputs.items()}
            outputs.append(prepared.run(part))
            starts.append(_start(prepared, Shape(end - first, {dim.name: TOKENS})))
        return starts, {name: np.concatenate([y[name] for y in outputs]) for name in outputs[0]}

    one, wanted = captured(1)
    alone = _wall(one)
    for cards in range(2, count + 1):
        several, found = captured(cards)
        together = _wall(several)
        yield {
            "work": f"{BERT_BASE.name}, {cards} cards",
            "shape": f"{LAYERS} layers, {BATCH}x{TOKENS}",
            "ms": together,
            "one_card_ms": alone,
            "against_one": alone / together,
            "mismatches": sum(int((found[name] != y).sum()) for name, y in wanted.items()),
        }


def _start(prepared: GpuGraph, shape: Shape) -> Callable[[], None]:
    run, device = prepared.captured(shape), prepared.device

    def start() -> None:
        with torch.cuda.device(device):
            run.replay()

    return start


def _wall(starts: list[Callable[[], None]]) -> float:
    """Median milliseconds until all cards are done."""
    times = []
    for _ in range(REPETITIONS):
        begin = time.perf_counter()
        for start in starts:
            start()
        for card in range(len(starts)):
            torch.cuda.synchronize(card)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000
