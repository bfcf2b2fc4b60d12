"""Launches of kernels as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["capture"]


def capture(launch: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """What ``launch`` starts on the current GPU, which it does once before, to compile it."""
    launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    # the default stream of captures belongs to the first card that captured
    stream = torch.cuda.Stream()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        launch()
    return graph
