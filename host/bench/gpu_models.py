"""Whole encoders on a GPU: whether they are exact, a layer beside torch's, and what the runtime
adds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from transept.golden.config import PYNQ_Z2
from transept.golden.graph import Graph
from transept.host.backends.gpu import GpuGraph
from transept.host.backends.gpu.capture import capture
from transept.host.bench.encoder import BERT_BASE, MINILM, Encoder
from transept.host.bench.float_encoder import encoder_graph
from transept.host.compiler.cut import Shape
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

__all__ = ["LAYERS", "bench_models"]

#: Sizes, sequences and tokens of the layers that are timed.
LAYERS = ((BERT_BASE, 128, 512), (MINILM, 32, 128))
#: Layers that are timed together, so that rows come from the layer before.
STACKED = 4
#: Sequences and tokens of the models that are compared with the golden model.
COMPARED = (4, 200)
#: Tokens of the one sequence on which the runtime's own time is measured.
SHORT = 32
REPETITIONS = 200


def bench_models(
    milliseconds: Callable[[Callable[[], object]], float],
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[dict[str, Any]]:
    """A row for each model, layer and overhead; milliseconds: the median time of a launch."""
    for sizes in (MINILM, BERT_BASE):
        progress(f"{sizes.name}, whole")
        _, graph = encoder_graph(sizes, SHORT)
        yield _whole(sizes, graph)
        progress(f"{sizes.name}, overhead of the runtime")
        yield _overhead(sizes, graph)
    for sizes, batch, tokens in LAYERS:
        progress(f"a layer of {sizes.name}, {batch} x {tokens}")
        yield _layer(dataclasses.replace(sizes, layers=STACKED), batch, tokens, milliseconds)


def _inputs(graph: Graph, batch: int, tokens: int) -> dict[str, np.ndarray]:
    """Normal int16 rows, some of them large."""
    rng = np.random.default_rng(tokens)
    return {
        name: np.clip(
            rng.standard_normal((batch, tokens, graph.values[name].width))
            * rng.choice([500, 6000, 40000], (batch, tokens, 1)),
            -32767,
            32767,
        ).astype(np.int16)
        for name in graph.inputs
    }


def _whole(sizes: Encoder, graph: Graph) -> dict[str, Any]:
    """Every element of the output, sequences of several lengths."""
    batch, tokens = COMPARED
    inputs = _inputs(graph, batch, tokens)
    (dim,) = graph.dims
    wrong = 0
    for real in ([tokens - 61 * index for index in range(batch)], [tokens] * batch):
        found = GpuGraph(graph).run(inputs, {dim.name: real})
        arrays = {name: torch.as_tensor(x).cuda() for name, x in inputs.items()}
        wanted = graph.evaluate(arrays, {dim.name: real})
        wrong += sum(
            int((torch.as_tensor(found[name]).cuda() != y).sum()) for name, y in wanted.items()
        )
    shape = f"{sizes.layers} layers, {batch}x{tokens}"
    return {"work": f"{sizes.name}, whole", "shape": shape, "mismatches": wrong}


def _overhead(sizes: Encoder, graph: Graph) -> dict[str, Any]:
    """A run of a session, copies included, beside the captured kernels alone."""
    region, session = Region(sizes.name, graph, PYNQ_Z2), Session(PYNQ_Z2, "gpu", fallback=False)
    inputs = _inputs(graph, 1, SHORT)
    session.run(region, inputs)
    prepared = session.prepared(region)
    captured = prepared.captured(Shape(1, {graph.dims[0].name: SHORT}))

    def replay() -> None:
        captured.replay()
        torch.cuda.synchronize()

    alone, whole = _wall(replay, lambda: session.run(region, inputs))
    return {
        "work": f"{sizes.name}, session against its captured graph",
        "shape": f"{sizes.layers} layers, 1x{SHORT}",
        "ms": whole,
        "graph_ms": alone,
        "overhead": whole / alone,
        "layer_us": alone / sizes.layers * 1000,
    }


def _wall(*runs: Callable[[], object]) -> list[float]:
    """Median milliseconds of each on the host, by turns."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(REPETITIONS):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    return [float(np.median(taken)) * 1000 for taken in times]


def _layer(
    sizes: Encoder,
    batch: int,
    tokens: int,
    milliseconds: Callable[[Callable[[], object]], float],
) -> dict[str, Any]:
    """A layer of some in a captured graph beside the same in bfloat16 under ``torch.compile``."""
    model, graph = encoder_graph(sizes, SHORT)
    (dim,) = graph.dims
    prepared = GpuGraph(graph)
    prepared.run(_inputs(graph, batch, tokens))
    captured = prepared.captured(Shape(batch, {dim.name: tokens}))
    ours = milliseconds(captured.replay) / STACKED
    other = model.cuda().to(torch.bfloat16)
    x = torch.randn(batch, tokens, sizes.hidden, dtype=torch.bfloat16, device="cuda")
    theirs = milliseconds(_captured(torch.compile(other, dynamic=False), x)) / STACKED
    return {
        "work": f"{sizes.name}, a layer",
        "shape": f"{batch}x{tokens}",
        "ms": ours,
        "bfloat16_ms": theirs,
        "against_bfloat16": theirs / ours,
    }


def _captured(model: Callable[..., Any], x: torch.Tensor) -> Callable[[], object]:
    """The model on ``x`` in a CUDA graph, as ours is."""
    with torch.no_grad():
        for _ in range(2):  # torch tries algorithms
            model(x)
        return capture(lambda: model(x)).replay
