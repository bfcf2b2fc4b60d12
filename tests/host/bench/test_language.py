"""What is measured of language models, against what it is defined by."""

import numpy as np
import pytest
import torch
from talkers import llama_model

from transept.golden.config import TINY
from transept.host.bench.generate import Case, bench_generate
from transept.host.bench.perplexity import bench_perplexity
from transept.host.generation.decoder import Growth
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
