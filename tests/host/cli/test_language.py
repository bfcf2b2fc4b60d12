"""Commands for language models, on a small one: answers, figures, files, and what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import ggufs
import pytest
from talkers import llama_model

from transept.golden.config import TINY
from transept.host.generation.generate import generate
from transept.host.language import compile as compiling
from transept.host.language.kept import language_program
from transept.host.serve.protocol import Limits

ROW = {
    "phase",
    "context",
    "batch",
    "rows",
    "weights",
    "memory",
    "layers",
    "cycles",
    "predicted_cycles",
    "head_cycles",
    "bytes",
    "bandwidth_share",
    "utilisation",
    "layers_utilisation",
    "tokens_per_second",
    "mismatches",
}


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    """A model whose program is kept in a cache of its own."""
    folder = tmp_path_factory.mktemp("language")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRANSEPT_CACHE", str(folder / "cache"))
        patch.setattr(compiling, "RUNS", 1)
        llama_model(folder)
        yield str(folder / "llama.gguf")


def command(transept_command, name, *arguments):
    return transept_command("generate", name, *arguments, "--config", "tiny")


@pytest.mark.parametrize("device", ["cpu", "emulator", "golden"])
def test_generate(transept_command, name, device):
    told = ("he was", "--tokens", "6", "--device", device, "--json", "x", "--raw")
    status, shown, _ = command(transept_command, name, *told)
    assert status == 0
    found = json.loads(Path("x").read_text())
    wanted = generate(language_program(name, TINY), "he was", device="cpu", tokens=6, chat=False)
    (answer,) = found["prompts"]
    assert answer["ids"] == wanted.answers[0].ids
    assert answer["prompt_ids"] == wanted.answers[0].prompt_ids
    assert answer["logprobs"] == wanted.answers[0].logprobs
    assert answer["text"] == wanted.text
    assert found["device"] == device
    assert found["cycles"] == 0
    assert found["cycles_per_token"] is found["bandwidth_share"] is None
    assert (found["bytes_read"] > 0) == (device == "emulator")
    assert found["accepted_per_step"] == 1
    assert ("predicted" in shown) == (device == "emulator")


def test_an_answer_that_another_device_ended_is_shown(transept_command, name, stand_in):
    """The RTL fails, the CPU goes on; nothing was shown while it ran."""
    found = generate(language_program(name, TINY), "he", device="cpu", tokens=3, chat=False)
    stand_in("transept.host.cli.generate.build_simulation")
    stand_in("transept.host.generation.generate.generate", found)
    status, shown, _ = command(transept_command, name, "he", "--device", "rtl")
    assert status == 0
    assert found.text.strip() in shown


def test_several_drawn_with_drafts_and_stops(transept_command, name):
    told = "--temperature 0.8 --top-k 40 --top-p 0.9 --seed 3 --stop he --tokens 9 --speculate 3"
    prompts = ("he was", "once")
    status, shown, _ = command(
        transept_command, name, *prompts, *told.split(), "--device", "cpu", "--json", "x"
    )
    assert status == 0
    wanted = generate(
        language_program(name, TINY),
        prompts,
        device="cpu",
        tokens=9,
        temperature=0.8,
        top_k=40,
        top_p=0.9,
        seed=3,
        stop=["he"],
    )
    found = json.loads(Path("x").read_text())["prompts"]
    assert [answer["ids"] for answer in found] == [answer.ids for answer in wanted.answers]
    for prompt in prompts:
        assert prompt in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "the prompt is empty"),
        (("he", "--temperature", "nan"), "temperature nan must be finite and at least 0"),
        (("he", "--top-p", "2"), "top-p 2.0 is outside 0 to 1, or 0"),
        (("he", "--stop", "no such"), "'no such' is no token of"),
        (("he", "--speculate", "16"), "drafts of 16 tokens are outside 0 to 15"),
        (("he", "--device", "auto"), "generate takes one device"),
        (("a" * 70,), "the prompt has 72 tokens, the context of"),
        (("he", "--json", "no/such"), "no folder no for such"),
    ],
)
def test_what_generate_refuses(transept_command, name, arguments, message):
    status, _, error = command(transept_command, name, "--device", "cpu", *arguments)
    assert status == 1
    assert message in " ".join(" ".join(error).split())


def test_models_that_are_not_there(transept_command, tmp_path, name):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(Path(name).read_bytes()[:1000])
    other = ggufs.write(tmp_path / "other.gguf", {"general.name": "it"}, {}, "mamba")
    for model, message in (
        ("gpt9", "'gpt9' is neither 'smollm2' nor a GGUF file nor a folder of a language model"),
        ("none.gguf", "none.gguf: No such file or directory"),
        (str(cut), "is no GGUF file, or a damaged one"),
        (str(other), "holds a model of architecture mamba, not llama"),
    ):
        status, _, error = command(transept_command, model, "he")
        assert status == 1
        assert message in " ".join(" ".join(error).split())


@pytest.mark.parametrize("layers", [None, 1])
def test_bench_generate(transept_command, name, monkeypatch, layers):
    from transept.host.bench import generate as bench

    cases = (
        bench.Case("prefill", 16, 1, 16),
        bench.Case("decode", 40, 1, 1),
        bench.Case("decode", 20, 4, 1),
    )
    monkeypatch.setattr(bench, "CASES", cases)
    told = [] if layers is None else ["--layers", str(layers)]
    status, *_ = transept_command(
        *("bench", "generate", "--model", name, "--config", "tiny", "--device", "emulator"),
        *("--json", "x", *told),
    )
    assert status == 0
    rows = json.loads(Path("x").read_text())
    assert [set(row) for row in rows] == [ROW] * 3
    assert [(row["phase"], row["context"], row["batch"]) for row in rows] == [
        ("prefill", 16, 1),
        ("decode", 40, 1),
        ("decode", 20, 4),
    ]
    for row in rows:
        assert row["mismatches"] == 0
        assert row["layers"] == layers or 2
        assert row["cycles"] is None
        assert row["predicted_cycles"] > 0
        clock = TINY.clock_mhz * 1e6
        rate = row["batch"] * row["rows"] * clock / row["predicted_cycles"]
        assert row["tokens_per_second"] == pytest.approx(rate)


def test_bench_generate_of_no_case(transept_command, name):
    told = ("--model", name, "--config", "tiny", "--device", "emulator", "--context", "7")
    status, _, error = transept_command("bench", "generate", *told)
    assert status == 1
    assert "no case is left of prefill, 1 x 16 tokens, context 16; " in " ".join(
        " ".join(error).split()
    )


def test_bench_perplexity(transept_command, name, tmp_path):
    texts = tmp_path / "texts"
    texts.write_text("he was here and there\n\nand once more\n")
    told = ("--model", name, "--config", "tiny", "--texts", str(texts), "--window", "20")
    status, *_ = transept_command("bench", "perplexity", *told, "--json", "x")
    assert status == 0
    found = json.loads(Path("x").read_text())
    assert set(found) == {"tokens", "perplexity", "perplexity_float", "ratio", "kl_mean", "top1"}
    assert found["tokens"] == 33
    assert 0 < found["kl_mean"] < 0.2
    assert found["ratio"] == pytest.approx(found["perplexity"] / found["perplexity_float"])
    assert found["ratio"] == pytest.approx(1, abs=0.1)
    for arguments, message in (
        (("--window", "65"), "a window of 65 tokens is outside 2 to 64"),
        (("--device", "auto"), "bench perplexity takes one device"),
    ):
        status, _, error = transept_command("bench", "perplexity", *told, *arguments)
        assert status == 1
        assert message in " ".join(" ".join(error).split())


def test_serve_starts_what_was_asked_for(transept_command, name, stand_in):
    calls, steps = stand_in("transept.host.serve.app.application"), []
    service = SimpleNamespace(close=lambda: steps.append("closed"))
    stand_in("transept.host.serve.service.Service", lambda *_, **__: service)
    stand_in("uvicorn.Config", "address")
    stand_in("uvicorn.Server", SimpleNamespace(run=lambda: steps.append("ran")))
    options = {"pages": 9, "tokens": 5, "together": 2, "queue": 7, "port": 1234}
    told = [text for option, value in options.items() for text in (f"--{option}", str(value))]
    status, shown, _ = transept_command("serve", name, *told, "--config", "tiny")
    assert status == 0
    assert "on emulator at http://127.0.0.1:1234/v1" in " ".join(shown.split())
    (_, session, facts), application, address, server = calls
    assert facts == {"queue": 7, "together": 2}
    assert session.counts_pages
    assert application == ("application", service, name, Limits(5, 2, 9 * 16))
    assert address == ("Config", None, "127.0.0.1", 1234, {"log_level": "warning"})
    assert server == ("Server", "address")
    assert steps == ["ran", "closed"]
