"""One of several processes that run graphs together: ``ranks.py RANK RANKS``, $RENDEZVOUS where
they meet. With a GPU for each through NCCL, else in gloo."""

from __future__ import annotations

import os
import sys

import numpy as np
import torch
import torch.distributed
from graphs import mlp, post_norm, pre_norm, random_inputs

from transept.host.backends.cpu import CpuGraph
from transept.host.backends.gpu import GpuGraph
from transept.host.parallel.tensor import TensorParallelGraph

GRAPHS = (post_norm(1, 16, 4, [32]), pre_norm(4, 16, 4, 2, [24]), mlp(8, [10, 24, 7]))


def main(rank: int, ranks: int) -> None:
    several = torch.cuda.device_count() >= ranks
    if several:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "nccl" if several else "gloo",
        init_method=os.environ["RENDEZVOUS"],
        rank=rank,
        world_size=ranks,
    )
    for prepare, graphs in ((CpuGraph, GRAPHS), (GpuGraph, GRAPHS[:1])):
        for graph in graphs:
            inputs = random_inputs(graph, 2, 7)
            lengths = {"rows": [7, 4]}
            found = TensorParallelGraph(graph, prepare).run(inputs, lengths)
            for name, y in graph.evaluate(inputs, lengths).items():
                assert np.array_equal(found[name], y), name
    torch.distributed.destroy_process_group()
    print("the same bits")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
