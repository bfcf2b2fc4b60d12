"""A program with its results for each version of the contract, kept as files.

``python tests/benches/stored.py`` writes those of the version that the source has; whoever raises
it does so once, and keeps the older ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy
from graphs import four_bits, gated, mlp, norms_in_front, post_norm, pre_norm, random_inputs

from transept.golden.config import CONTRACT_VERSION, TINY
from transept.golden.filters import Causal, TileThreshold, Window
from transept.golden.graph import Graph
from transept.host.runtime.file import save
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

__all__ = ["LENGTHS", "VERSIONS", "program_file", "results_file"]

FOLDER = Path(__file__).parents[1] / "stored"
#: Every operator, mode and filter, on sequences whose lengths differ.
GRAPHS: dict[str, Graph] = {
    "post_norm": post_norm(1, 16, 2, [24]),
    "window": post_norm(2, 8, 1, [12], Window(6, 2)),
    "tile_threshold": post_norm(3, 8, 2, [12], TileThreshold(40)),
    "causal": norms_in_front(4, 8, 2, [12], Causal()),
    "root_mean_square": pre_norm(5, 16, 4, 2, [24]),
    "integers": mlp(6, [10, 24, 7], bits=8),
    "gated": gated(7, 32, 4, 2, [24]),
    "four_bits": four_bits(gated(8, 32, 4, 2, [64, 24])),
}
BATCH, LENGTH, LENGTHS = 2, 9, [9, 6]
#: Versions that there were.
VERSIONS = range(2, CONTRACT_VERSION + 1)


def program_file(version: int) -> Path:
    """The program."""
    return FOLDER / f"contract_{version}.tpt"


def results_file(version: int) -> Path:
    """What enters and leaves each of its regions, ``region.value``, as safetensors."""
    return FOLDER / f"contract_{version}.safetensors"


def main() -> None:
    """Write the files of this version."""
    regions, arrays = [], {}
    session = Session(TINY, "golden")
    for name, graph in GRAPHS.items():
        region = Region(name, graph, TINY)
        (dim,) = graph.dims
        region.executable(region.shape(BATCH, {dim.name: LENGTH}))
        inputs = random_inputs(graph, BATCH, LENGTH)
        values = inputs | session.run(region, inputs, {dim.name: LENGTHS}).outputs
        arrays |= {f"{name}.{key}": np.ascontiguousarray(x) for key, x in values.items()}
        regions.append(region)
    save(program_file(CONTRACT_VERSION), TINY, regions, None)
    safetensors.numpy.save_file(arrays, results_file(CONTRACT_VERSION))


if __name__ == "__main__":
    main()
