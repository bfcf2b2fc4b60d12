"""Whole models on the RTL, through the driver: the bits of the emulator and of torch."""

import numpy as np
import pytest
import small_models
import torch

from transept.golden.config import PYNQ_Z2, TINY
from transept.host.compile import compile_chain, compile_encoder
from transept.host.driver import Driver
from transept.host.gemm import compile_gemm, reference
from transept.host.models import load_text_model
from transept.host.program import Program, open_device
from transept.host.texts import passages
from transept.sim.native import Faults


@pytest.mark.parametrize("rows", [1, 7, 16])
def test_one_linear_layer_from_torch_and_back(rows):
    model = small_models.quantised_chain([12, 20], [None])
    program = Program(compile_chain(TINY, model, rows=rows), model)
    values = small_models.random_rows(program.launch, rows)
    expected = program.run_integers(values, device="cpu")
    for device in ("rtl", "emulator"):
        assert (program.run_integers(values, device=device) == expected).all()


@pytest.mark.parametrize("shape", [(16, 16, 16), (1, 20, 24), (5, 3, 1), (17, 9, 30)])
@pytest.mark.parametrize("backpressure", [0.0, 0.3])
def test_gemm(shape, backpressure):
    m, n, k = shape
    rng = np.random.default_rng(m * n * k)
    a = rng.integers(-127, 128, (m, k)).astype(np.int8)
    b = rng.integers(-127, 128, (k, n)).astype(np.int8)
    gemm = compile_gemm(TINY, m, n, k, b)
    driver = Driver(open_device("rtl", TINY, gemm.launch, backpressure=backpressure))
    output, report = driver.run(driver.load(gemm.launch), [a])
    assert (output == reference(a, b, gemm)).all()
    assert report.cycles >= m * n * k / TINY.macs


@pytest.mark.parametrize(
    ("tokens", "batch", "lengths"), [(9, 1, [7]), (4, 3, [4, 1, 3]), (33, 1, [30])]
)
def test_small_encoder(tokens, batch, lengths):
    model = small_models.quantised_encoder(8, 2, 12, 2)
    program = Program(compile_encoder(TINY, model, tokens=tokens, batch=batch), model)
    values = small_models.random_rows(program.launch, tokens)
    expected = program.run_integers(values, lengths, device="cpu")
    for device in ("emulator", "rtl"):
        assert (program.run_integers(values, lengths, device=device) == expected).all()
    again = program.run_integers(values, lengths, device="rtl")
    assert (again == expected).all()


def test_a_device_whose_memory_hangs_falls_back():
    model = small_models.quantised_chain([12, 20], [None])
    program = Program(compile_chain(TINY, model, rows=4), model)
    values = small_models.random_rows(program.launch, 4)
    driver, _ = program.session("rtl")
    driver.device.simulation.inject(Faults(hang_reads_from=0))
    expected = program.run_integers(values, device="cpu")
    assert (program.run_integers(values, device="rtl") == expected).all()
    assert "fell back to cpu" in program.notes[0]


def test_minilm_at_full_size():
    """Six layers, 128 tokens, real weights and text: RTL = emulator = torch, close to float32."""
    model = load_text_model("minilm")
    text = next(text for text in passages() if 100 <= model.longest([text], 128) < 128)
    inputs = model.tokens([text], 128)
    program = model.compile(PYNQ_Z2, tokens=128, batch=1)
    with torch.no_grad():
        results = [program.run(*inputs, device=device) for device in ("rtl", "emulator", "cpu")]
        wanted = model.module(*inputs)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])
    assert program.notes == []
    assert torch.nn.functional.cosine_similarity(results[0], wanted).item() > 0.99
