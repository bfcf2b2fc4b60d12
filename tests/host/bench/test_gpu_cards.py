"""Several GPUs beside one, on stand-ins for the cards and their clock."""

import contextlib

import pytest
import torch
from cards import Clock, on_the_cpu
from placements import chain

from transept.host.bench import gpu_cards
from transept.host.bench.encoder import BERT_BASE


def test_what_is_measured():
    assert (gpu_cards.BATCH, gpu_cards.TOKENS, gpu_cards.LAYERS) == (128, 512, 4)
    assert gpu_cards.REPETITIONS == 30


def test_one_card_has_no_row(monkeypatch):
    said = []
    with on_the_cpu(monkeypatch):
        assert list(gpu_cards.bench_cards(said.append)) == []
    assert said == []


@pytest.mark.parametrize("count", [2, 3])
def test_cards_share_the_sequences(monkeypatch, count):
    """A card takes the square of its sequences in milliseconds, and one to wait for."""
    graph, clock, said, current = chain([4, 8]), Clock(), [], []

    def small(sizes, tokens):
        assert (sizes.name, sizes.hidden, sizes.layers, tokens) == ("BERT-base", 768, 4, 32)
        return None, graph

    class Card:
        def __init__(self, found, device):
            assert found is graph
            self.device = device

        def run(self, inputs):
            found = graph.evaluate(inputs)
            for y in found.values():
                y[0, 0, : self.device.index] += 1
            return found

        def captured(self, shape):
            assert shape.lengths == {"rows": 3}
            self.shape = shape
            return self

        def replay(self):
            assert current[-1] == self.device
            clock.passes(self.shape.batch**2)

    @contextlib.contextmanager
    def becomes_current(device):
        current.append(device)
        yield

    monkeypatch.setattr(gpu_cards, "BATCH", 5)
    monkeypatch.setattr(gpu_cards, "TOKENS", 3)
    monkeypatch.setattr(gpu_cards, "REPETITIONS", 2)
    monkeypatch.setattr(gpu_cards, "encoder_graph", small)
    monkeypatch.setattr(gpu_cards, "GpuGraph", Card)
    monkeypatch.setattr(gpu_cards, "time", clock)
    with on_the_cpu(monkeypatch, cards=count) as done:
        monkeypatch.setattr(torch.cuda, "device", becomes_current)
        monkeypatch.setattr(
            torch.cuda, "synchronize", lambda card: done.append(card) or clock.passes(1)
        )
        rows = list(gpu_cards.bench_cards(said.append))
    shared = {"shape": "4 layers, 5x3", "one_card_ms": 25 + 1}
    assert rows == [
        pytest.approx(
            shared
            | {
                "work": f"BERT-base, {cards} cards",
                "ms": together,
                "against_one": 26 / together,
                "mismatches": wrong,
            }
        )
        for cards, together, wrong in [(2, 9 + 4 + 2, 1), (3, 4 + 4 + 1 + 3, 1 + 2)][: count - 1]
    ]
    assert said == [f"{BERT_BASE.name} on {count} cards"]
    assert done == [card for cards in range(1, count + 1) for card in [*range(cards)] * 2]
