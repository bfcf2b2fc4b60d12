"""What a board is tested with before anything is asked of it: from a copy to the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from transept.golden.config import Config
from transept.golden.ops import Attention
from transept.host.bench.product import gemm
from transept.host.compiler.segments import beginning
from transept.host.deploy.cases import Case, copy_case, region_case
from transept.host.runtime.program import Part, Program
from transept.host.runtime.region import Region, dtype_of

__all__ = ["random_parts", "test_cases"]

SEED = 1


def test_cases(config: Config, parts: Sequence[Part], what: str) -> Iterator[Case]:
    """A copy, one tile, one layer, and whole regions; parts: what ran in each, ``what`` it was."""
    yield copy_case(config)
    yield _tile(config)
    attentive = [p for p in parts if any(isinstance(op, Attention) for op in p.region.graph.ops)]
    for part in attentive[:1]:
        yield _first_layer(part)
    for part in parts:
        region = part.region
        executable = region.executable(region.check(part.inputs, part.lengths))
        name = f"{what}, {region.name}" if len(parts) > 1 else what
        yield region_case(name, region, executable, part.inputs, part.lengths)


def _tile(config: Config) -> Case:
    rng = np.random.default_rng(SEED)
    a, b = (rng.integers(-127, 128, (config.tile, config.tile), np.int8) for _ in "ab")
    made = gemm(config, config.tile, b)
    return region_case("one tile", made.region, made.executable, {"a": a[None]})


def _first_layer(part: Part) -> Case:
    """The region up to its second attention."""
    whole = part.region
    region = Region(f"{whole.name}.first", beginning(whole.graph, 1), whole.config)
    inputs = {name: part.inputs[name] for name in region.graph.inputs}
    executable = region.executable(region.check(inputs, part.lengths))
    return region_case("one layer", region, executable, inputs, part.lengths)


def random_parts(program: Program) -> list[Part]:
    """Every region of a program that has no model with it, on random inputs of the first shape that
    it was compiled for."""
    rng = np.random.default_rng(SEED)
    parts = []
    for region in program.regions:
        shape = next(iter(region.shapes))
        inputs = {}
        for name in region.graph.inputs:
            value = region.graph.values[name]
            size = (shape.batch, shape.lengths[value.dim], value.width)
            drawn = np.rint(rng.normal(0, value.limit / 4, size))
            inputs[name] = drawn.clip(-value.limit, value.limit).astype(dtype_of(value))
        parts.append(program.run_region(region, inputs, device="golden"))
    return parts
