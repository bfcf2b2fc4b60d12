"""The whole accelerator at full size on cocotbext-axi's memory, under random back-pressure."""

import dataclasses

import numpy as np
import pytest
from graphs import GraphBuilder, random_inputs
from settings import seed, waves

from transept.golden.config import PYNQ_Z2
from transept.host.bench.product import gemm, reference
from transept.host.bench.sim import run_in_cocotb
from transept.host.runtime.region import Region

BACKPRESSURE = [0.0, 0.3]


@pytest.mark.parametrize("backpressure", BACKPRESSURE)
def test_gemm(backpressure):
    rng = np.random.default_rng(seed())
    a, b = rng.integers(-127, 128, (2, 64, 64)).astype(np.int8)
    product, path = gemm(PYNQ_Z2, 64, b), waves("accelerator_gemm")
    options = {"backpressure": backpressure, "seed": seed(), "waves": path}
    found = run_in_cocotb(product.region, {"a": a[None]}, **options)
    assert np.array_equal(found["outputs"]["c"][0], reference(a, b, product))


@pytest.mark.parametrize("backpressure", BACKPRESSURE)
def test_attention_head(backpressure):
    build = GraphBuilder(seed(), limit=64, block=PYNQ_Z2.tile)
    q, k, v = (build.value(32, 8) for _ in "qkv")
    out = build.attention(q, k, v, 1)
    build.ops[-1] = dataclasses.replace(build.ops[-1], context_row_shift=11)  # some thousand
    region = Region("head", build.graph([q, k, v], [out]), PYNQ_Z2)
    inputs, lengths = random_inputs(region.graph, 1, 48, seed()), {"rows": [41]}
    options = {
        "backpressure": backpressure,
        "seed": seed(),
        "waves": waves("accelerator_attention"),
    }
    found = run_in_cocotb(region, inputs, lengths, **options)
    (wanted,) = region.graph.evaluate(inputs, lengths).values()
    (output,) = found["outputs"].values()
    assert np.array_equal(output, wanted)
    assert len(np.unique(wanted)) > 500
