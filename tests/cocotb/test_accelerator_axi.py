"""The whole accelerator at full size on cocotbext-axi's memory, under random back-pressure."""

import numpy as np
import pytest
from attention_head import AttentionHead
from settings import seed, waves

from transept.golden.config import PYNQ_Z2
from transept.host.bench.sim import run_in_cocotb
from transept.host.gemm import compile_gemm, reference

BACKPRESSURE = [0.0, 0.3]


@pytest.mark.parametrize("backpressure", BACKPRESSURE)
def test_gemm(backpressure):
    rng = np.random.default_rng(seed())
    a, b = rng.integers(-127, 128, (2, 64, 64)).astype(np.int8)
    gemm = compile_gemm(PYNQ_Z2, 64, 64, 64, b)
    found = run_in_cocotb(
        gemm.launch, [a], backpressure=backpressure, seed=seed(), waves=waves("accelerator_gemm")
    )
    assert np.array_equal(found["output"], reference(a, b, gemm))


@pytest.mark.parametrize("backpressure", BACKPRESSURE)
def test_attention_head(backpressure):
    rng = np.random.default_rng(seed())
    head = AttentionHead(PYNQ_Z2, rng, tokens=48, keys=41, d=32)
    path = waves("accelerator_attention")
    found = run_in_cocotb(
        head.launch(), [head.q], backpressure=backpressure, seed=seed(), waves=path
    )
    expected = head.expected()
    assert np.array_equal(found["output"], expected)
    assert len(np.unique(expected)) > 500
