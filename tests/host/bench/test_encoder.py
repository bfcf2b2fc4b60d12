"""Encoders by their shape: what is predicted of a layer, and what it moves."""

import numpy as np
import pytest
from graphs import four_bits, linear_alone, random_inputs

from transept.golden.config import TINY
from transept.host.bench.encoder import BERT_BASE, MINILM, Encoder, traffic
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

SMALL = Encoder("small", 3, 8, 2, 12)


@pytest.mark.parametrize("device", ["emulator", "rtl"])
@pytest.mark.parametrize(("batch", "tokens"), [(1, 5), (2, 16)])
def test_traffic_is_what_a_run_moves(device, batch, tokens):
    layer = SMALL.layer(TINY, batch, tokens)
    x = np.random.default_rng(0).integers(-9, 10, (batch, tokens, SMALL.hidden)).astype(np.int16)
    report = Session(TINY, device).run(layer.region, {"x": x}).report
    assert traffic(layer.executable, TINY) == report.bytes_read + report.bytes_written


def test_traffic_of_four_bit_weights_is_what_lies_in_memory():
    region = Region("linear", four_bits(linear_alone(1, 64, 16)), TINY)
    report = Session(TINY, "emulator").run(region, random_inputs(region.graph, 1, 5)).report
    (executable,) = region.executables.values()
    assert traffic(executable, TINY) == report.bytes_read + report.bytes_written


def test_figures_of_a_layer():
    layer = SMALL.layer(TINY, 2, 16)
    rows = 2 * 16
    assert layer.macs == rows * (4 * 8 * 8 + 2 * 8 * 12) + 2 * rows * 16 * 8
    assert layer.cycles == layer.executable.predicted_cycles > layer.macs / TINY.macs
    assert layer.utilisation == layer.macs / TINY.macs / layer.cycles
    assert layer.intensity == layer.macs / traffic(layer.executable, TINY)


def test_a_longer_run_uses_weights_more_often():
    short, long = SMALL.layer(TINY, 1, 4), SMALL.layer(TINY, 4, 16)
    assert short.intensity < long.intensity
    assert short.utilisation < long.utilisation


@pytest.mark.parametrize(("encoder", "parameters"), [(MINILM, 10_616_832), (BERT_BASE, 84_934_656)])
def test_models_have_their_weights(encoder, parameters):
    """Of all linear layers, as published."""
    inside = 4 * encoder.hidden**2 + 2 * encoder.hidden * encoder.inner
    assert encoder.layers * inside == parameters
    assert encoder.hidden % encoder.heads == 0
