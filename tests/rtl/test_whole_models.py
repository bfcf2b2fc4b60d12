"""Whole models on the RTL, through the driver: the bits of the emulator and of torch."""

import numpy as np
import pytest
import torch
from graphs import post_norm, pre_norm, random_inputs
from zoo import load

import transept
from transept.golden.config import PYNQ_Z2, TINY
from transept.host.bench.product import gemm, reference
from transept.host.models import load_text_model
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session
from transept.host.texts import passages

DEVICES = ("rtl", "emulator", "cpu", "golden")


@pytest.mark.parametrize("shape", [(16, 16, 16), (1, 20, 24), (5, 3, 1), (17, 9, 30)])
@pytest.mark.parametrize("backpressure", [0.0, 0.3])
def test_gemm(shape, backpressure):
    m, n, k = shape
    rng = np.random.default_rng(m * n * k)
    a = rng.integers(-127, 128, (m, k)).astype(np.int8)
    b = rng.integers(-127, 128, (k, n)).astype(np.int8)
    product = gemm(TINY, m, b)
    session = Session(TINY, "rtl", backpressure=backpressure)
    result = session.run(product.region, {"a": a[None]})
    assert not session.notes
    assert (result.outputs["c"][0] == reference(a, b, product)).all()
    assert result.report.cycles >= m * n * k / TINY.macs


@pytest.mark.parametrize(
    ("graph", "length", "lengths"),
    [
        (post_norm(0, 8, 2, [12, 20]), 9, [7]),
        (post_norm(1, 8, 2, [12]), 4, [4, 1, 3]),
        (post_norm(2, 8, 2, [12]), 33, [30]),
        (pre_norm(3, 16, 4, 2, [24, 12]), 13, [13, 5]),
    ],
    ids=["layers that differ", "batch", "spilled", "pre-norm"],
)
def test_graphs(graph, length, lengths):
    region = Region("model", graph, TINY)
    inputs, real = random_inputs(graph, len(lengths), length), {"rows": lengths}
    found = []
    for device in DEVICES:
        session = Session(TINY, device)
        found.append(session.run(region, inputs, real).outputs)
        assert not session.notes
    for outputs in found[1:]:
        for name, rows in outputs.items():
            assert np.array_equal(rows, found[0][name])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        *("bert, layers that differ", "gpt2", "llama"),
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("t5, encoder", "modernbert", "deit")),
    ],
)
def test_models_at_full_size(name):
    model, inputs = load(name)
    program = transept.compile(model, inputs, config=PYNQ_Z2)
    results = []
    for device in DEVICES:
        results.append(program.run(*inputs, device=device))
        assert not [note for note in program.notes if "ran" in note]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])


@pytest.mark.slow
def test_minilm_at_full_size():
    """Six layers, 128 tokens, real weights and text: RTL = emulator = torch, close to float32."""
    model = load_text_model("minilm")
    text = next(text for text in passages() if 100 <= model.longest([text], 128) < 128)
    inputs = model.tokens([text], 128)
    program = model.compile(PYNQ_Z2, tokens=128, batch=1)
    with torch.no_grad():
        results = [program.run(*inputs, device=device) for device in DEVICES]
        wanted = model.module(*inputs)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])
    assert program.notes == []
    assert torch.nn.functional.cosine_similarity(results[0], wanted).item() > 0.99
