"""What is measured of language models, against what it is defined by."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from talkers import llama_model

from transept.golden.config import TINY
from transept.host.bench import generate as module
from transept.host.bench.generate import CASES, Case, bench_generate
from transept.host.bench.perplexity import bench_perplexity
from transept.host.generation.decoder import Cost, Growth
from transept.host.generation.session import LanguageSession
from transept.host.language.compile import compile_language

TEXT = "he was here and there, and once more he was gone for good"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The Llama."""
    return llama_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def program(model):
    """Of it."""
    return compile_language(model, TINY)


def test_what_is_measured():
    assert [str(case) for case in CASES] == [
        "prefill, 1 x 16 tokens, context 16",
        "prefill, 1 x 128 tokens, context 128",
        "decode, 1 x 1 tokens, context 256",
        "decode, 4 x 1 tokens, context 256",
        "decode, 16 x 1 tokens, context 256",
        "decode, 1 x 1 tokens, context 1024",
        "decode, 1 x 1 tokens, context 2048",
    ]


class Steps:
    """A decoder of two tokens a step, which keeps what its sequences were given."""

    def __init__(self, cost, first):
        self.given, self.released, self.cost, self.first = [], [], cost, first
        self.paged = self

    def start(self):
        self.given.append([])
        return len(self.given) - 1

    def parts(self, count):
        return [2] * (count // 2) + [1] * (count % 2)

    def states(self, sequence):
        return tuple(self.given[sequence])

    def restore(self, sequence, states):
        self.given[sequence].append(states)

    def step(self, growths):
        for sequence, ids, _ in growths:
            self.given[sequence].append(list(ids))
        return [np.array([self.first, 1, 2]) for growth in growths if growth.wanted], self.cost

    def release(self, sequence):
        self.released.append(sequence)


@pytest.mark.parametrize("cycles", [1000, 0])
def test_a_step_by_value(monkeypatch, cycles):
    """Sequences have other parts of a text of ten tokens, which begins again at its end."""
    cost = Cost(1, cycles, 900, 40, 8, 600, 200 if cycles else 0, 40)
    ours, cpu, said, asked = Steps(cost, 7), Steps(Cost(), 8), [], []

    def opened(*told, **options):
        asked.append((*told, options))
        return ours

    monkeypatch.setattr(module, "PagedDecoder", opened)
    monkeypatch.setattr(module, "ArrayDecoder", lambda program, device: device == "cpu" and cpu)
    vocabulary = SimpleNamespace(encode=lambda text: list(range(10)))
    program = SimpleNamespace(vocabulary=vocabulary, config=TINY, depth=5)
    cases = [Case("decode", 6, 3, 3), Case("prefill", 13, 1, 13)]
    row, other = bench_generate(
        program, cases, device="rtl", rate=8, progress=said.append, memory="board"
    )
    assert asked == [(program, "rtl", {"pages": 3, "memory": "board"})]
    texts = [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5]
    whole = [*range(10), 0, 1, 2]
    assert cpu.given == [*([text[:2], text[2:3], text[3:]] for text in texts), [whole]]
    parts = [whole[n : n + 2] for n in range(0, 13, 2)]
    assert ours.given == [
        *([(text[:2], text[2:3]), text[3:5], text[5:]] for text in texts),
        parts,
    ]
    clock, counted = TINY.clock_mhz * 1e6, bool(cycles)
    assert row == {
        **{"phase": "decode", "context": 6, "batch": 3, "rows": 3, "layers": 5},
        **{"cycles": 4000 if counted else None, "predicted_cycles": 3600},
        **{"head_cycles": 800 if counted else None, "bytes": 4 * 48},
        "bandwidth_share": 4 * 48 / 8 / 4000 if counted else None,
        "utilisation": 0.6 if counted else None,
        "layers_utilisation": (2400 - 160) / (4000 - 800) if counted else None,
        "tokens_per_second": 9 * clock / (4000 if counted else 3600),
        "mismatches": 3,
    }
    assert (other["predicted_cycles"], other["bytes"], other["mismatches"]) == (6300, 7 * 48, 1)
    assert other["tokens_per_second"] == 13 * clock / (7000 if counted else 6300)
    assert said[:4] == [
        *(f"{cases[0]}: sequence {number} on cpu" for number in (1, 2, 3)),
        f"{cases[0]}: on the device",
    ]
    assert ours.released == [0, 1, 2, 3]


class Flat:
    """A session whose every token is as likely as any other of four; so is its float."""

    program = SimpleNamespace(context=3)
    closed = ()

    def open(self):
        return len(self.closed)

    def grow(self, growths):
        return [np.zeros((growth.wanted, 4)) for growth in growths]

    def close(self, sequence):
        self.closed = (*self.closed, sequence)


@pytest.mark.parametrize(
    ("tokens", "window", "heard", "message"),
    [
        (5, 2, [2, 4, 5], ""),
        (5, 3, [3, 5], ""),
        (2, 2, [2], ""),
        (1, 2, [], "the texts have 1 tokens, at least 2 are needed"),
        (5, 1, [], "a window of 1 tokens is outside 2 to 3"),
        (5, 4, [], "a window of 4 tokens is outside 2 to 3"),
    ],
)
def test_windows_of_a_text(tokens, window, heard, message):
    def module(ids, use_cache):
        assert not use_cache
        return SimpleNamespace(logits=torch.zeros(*ids.shape, 4))

    vocabulary = SimpleNamespace(encode=lambda text: [len(part) for part in text.split("\n\n")])
    model, session, done = SimpleNamespace(vocabulary=vocabulary, module=module), Flat(), []
    told = {"tokens": tokens, "window": window, "progress": done.append}
    texts = ["", "a", "bb", "ccc", "d", "e", "f"]
    if message:
        with pytest.raises(ValueError, match=message):
            bench_perplexity(model, session, texts, **told)
    else:
        assert bench_perplexity(model, session, texts, **told) == pytest.approx(
            {
                **{"tokens": tokens, "perplexity": 4, "perplexity_float": 4, "ratio": 1},
                **{"kl_mean": 0, "top1": 1},
            }
        )
    assert done == heard
    assert len(session.closed) == len(heard)


def test_a_step_of_several_parts(program):
    (row,) = bench_generate(program, [Case("prefill", 40, 1, 40)], device="emulator", rate=8)
    session = LanguageSession(program, "emulator")
    session.grow([Growth(session.open(), [3] * 40, 1)])
    assert row["mismatches"] == 0
    assert (row["predicted_cycles"], row["bytes"]) == (
        session.cost.predicted,
        session.cost.nbytes,
    )


def test_shares_of_cycles(program):
    (row,) = bench_generate(program, [Case("decode", 4, 2, 1)], device="rtl", rate=8)
    assert row["mismatches"] == 0
    assert 0 < row["head_cycles"] < row["cycles"]
    assert row["bandwidth_share"] == pytest.approx(row["bytes"] / 8 / row["cycles"])
    assert 0 < row["layers_utilisation"] < 1
    assert row["tokens_per_second"] == pytest.approx(2 * TINY.clock_mhz * 1e6 / row["cycles"])


def test_perplexity_is_what_the_logits_say(model, program):
    session = LanguageSession(program, "emulator", pages=2)
    heard, window = [], 20
    found = bench_perplexity(
        model, session, [TEXT], tokens=50, window=window, progress=heard.append
    )
    assert session.free_pages == 2
    ids = model.vocabulary.encode(TEXT)[:50]
    assert heard == [20, 40, 50]
    real, ours, follows = [], [], []
    for part in (ids[:20], ids[20:40], ids[40:]):
        golden = LanguageSession(program, "golden")
        ours.append(torch.tensor(golden.grow([Growth(golden.open(), part, len(part))])[0]))
        with torch.no_grad():
            real.append(model.module(torch.tensor([part])).logits[0].double())
        follows.append(torch.tensor([*part[1:], -100]))
    real, ours, follows = (torch.cat(x) for x in (real, ours, follows))
    lost = {
        key: torch.nn.functional.cross_entropy(x, follows).exp().item()
        for key, x in (("perplexity", ours), ("perplexity_float", real))
    }
    kl = torch.nn.functional.kl_div(
        ours.log_softmax(1), real.log_softmax(1), log_target=True, reduction="batchmean"
    )
    assert {key: found[key] for key in lost} == pytest.approx(lost)
    assert found["kl_mean"] == pytest.approx(kl.item())
    assert found["top1"] == pytest.approx((real.argmax(1) == ours.argmax(1)).double().mean().item())
    assert found["tokens"] == 50
    assert np.isclose(found["ratio"], lost["perplexity"] / lost["perplexity_float"])
