"""What quantisation costs on real text, and on text that is none."""

import pytest
import torch
from small_models import Words

from transept.golden.config import PYNQ_Z2, TINY
from transept.host.bench import accuracy
from transept.host.bench.accuracy import bench_accuracy
from transept.host.models import TextModel, load_text_model
from transept.host.texts import degenerate_texts, passages


@pytest.fixture(scope="module")
def minilm():
    return load_text_model("minilm")


def test_some_texts(minilm):
    texts = ["." * 200, "not " * 200, *passages(2)]
    found = bench_accuracy(minilm, texts, PYNQ_Z2, device="cpu")
    assert found["cosine_min"] >= 0.99
    assert found["cosine_mean"] >= 0.996


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "mean", "least"),
    [(passages(200), 0.9987, 0.997), (degenerate_texts(), 0.995, 0.99)],
    ids=["prose", "degenerate"],
)
def test_all_texts(minilm, texts, mean, least):
    found = bench_accuracy(minilm, texts, PYNQ_Z2, device="cpu")
    assert found["cosine_mean"] >= mean
    assert found["cosine_min"] >= least


class Told(TextModel):
    """A model that gives a vector for the first word of a text."""

    def compile(self, config, *, tokens, batch):
        asked.append((config, tokens, batch))
        return self

    def run(self, ids, mask, *, device):
        asked.append((device, *ids.shape, int(mask.sum())))
        return torch.tensor([GOT[int(ids[0, 1]) - 11]])


asked = []
GOT = [[3.0, 4.0], [0.0, 2.0], [1.0, 1.0]]
WANT = [[4.0, 3.0], [0.0, 3.0], [1.0, 1.0]]


def test_figures_of_passages():
    """Each padded to whole tiles and cut to what the configuration holds."""
    assert accuracy.TOKENS == 128
    model = Told("told", lambda ids, mask: torch.tensor([WANT[int(ids[0, 1]) - 11]]), Words())
    done = []
    asked.clear()
    texts = ["a b", "bb " * 99, "ccc ddd eee"]
    found = bench_accuracy(model, texts, TINY, device="cpu", progress=done.append)
    assert found == pytest.approx(
        {
            **{"passages": 3, "cosine_mean": (0.96 + 1 + 1) / 3, "cosine_min": 0.96},
            "similarity_error_max": 9 - 4,
        }
    )
    assert asked == [(TINY, 64, 1), ("cpu", 1, 4, 4), ("cpu", 1, 8, 5), ("cpu", 1, 64, 64)]
    assert done == [1, 2, 3]
