"""What quantisation costs on real text, and on text that is none."""

import pytest

from transept.golden.config import PYNQ_Z2
from transept.host.bench.accuracy import bench_accuracy
from transept.host.models import load_text_model
from transept.host.texts import degenerate_texts, passages


@pytest.fixture(scope="module")
def minilm():
    return load_text_model("minilm")


def test_some_texts(minilm):
    texts = ["." * 200, "not " * 200, *passages(6)]
    found = bench_accuracy(minilm, texts, PYNQ_Z2, device="cpu")
    assert found["cosine_min"] >= 0.99
    assert found["cosine_mean"] >= 0.996


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "mean", "least"),
    [(passages(200), 0.9987, 0.9948), (degenerate_texts(), 0.995, 0.99)],
    ids=["prose", "degenerate"],
)
def test_all_texts(minilm, texts, mean, least):
    found = bench_accuracy(minilm, texts, PYNQ_Z2, device="cpu")
    assert found["cosine_mean"] >= mean
    assert found["cosine_min"] >= least
