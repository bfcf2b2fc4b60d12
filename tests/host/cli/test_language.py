"""Commands for language models, on a small one: answers, figures, files, and what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import ggufs
import pytest
from talkers import llama_model

from transept.golden.config import PYNQ_Z2, TINY, preset
from transept.host.bench.generate import CASES
from transept.host.cli import generate as answering
from transept.host.cli.options import DeviceName, WeightsName, language
from transept.host.generation.batch import MOST_TOGETHER
from transept.host.generation.decoder import Cost
from transept.host.generation.generate import Answer, Generation, generate
from transept.host.language import compile as compiling
from transept.host.language.kept import language_program
from transept.host.serve.protocol import Limits
from transept.host.texts import passages

CLI, GENERATION = "transept.host.cli", "transept.host.generation"
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


ANSWERS = (
    Answer("[b]one", [1, 2, 3, 4], [5, 6, 7], [-0.5, -0.25, -1.0], "length"),
    Answer("two", [1, 2], [8, 9], [-2.0, -3.0], "stop"),
)
COUNTED = Cost(3, 1200, 1500, 600, 40)
#: What is told if nobody says.
PLAIN = {"tokens": 64, "temperature": 0, "top_k": 0, "top_p": 1, "seed": 0, "stop": ()}
PLAIN |= {"speculate": 0, "fallback": True}


@pytest.fixture
def answered(stand_in):
    """Calls of ``generate`` with a result; what comes meanwhile is "he" of the first answer."""

    def answer(found):
        def run(program, ids, *, stream, **told):
            stream(0, "[b]he")
            return found

        return stand_in(f"{GENERATION}.generate.generate", run)

    checked = []
    program = SimpleNamespace(vocabulary="words", check_ids=checked.append)
    stand_in(f"{CLI}.generate.language", program)
    stand_in(f"{CLI}.generate.build_simulation")
    stand_in(f"{GENERATION}.generate.prompt_ids", lambda words, prompt, chat: [prompt, chat])
    return answer, program, checked


def test_answers_of_the_rtl_have_their_cycles(transept_command, answered, tables):
    answer, program, checked = answered
    calls = answer(Generation(ANSWERS, Cost(2, 100, 90, 10, 20), COUNTED, 1.5, "rtl", ("a note",)))
    told = ("--device", "rtl", "--memory", "board", "--json", "x", "--raw", "--no-fallback")
    status, shown, _ = transept_command("generate", "m", "he was", "once", *told)
    assert (status, shown.splitlines()) == (0, ["he was", "[b]one", "once", "two", "note: a note"])
    board = preset("pynq_z2_board")
    assert calls[0] == ("language", "m", board, WeightsName.w8)
    assert calls[3] == ("build_simulation", board, DeviceName.rtl)
    assert checked == [["he was", False], ["once", False]]
    (_, *asked, options) = calls[4]
    assert asked == [program, checked]
    del options["stream"], options["progress"]
    assert options == PLAIN | {"device": "rtl", "memory": "board", "fallback": False}
    share, rate = pytest.approx(640 / 6.4 / 1200), pytest.approx(board.clock_mhz * 1e6 / 400)
    assert tables == [
        (
            f"pynq_z2_board at {board.clock_mhz} MHz, memory board",
            [
                {
                    **{"device": "rtl", "prompt": 6, "tokens": 5, "steps": 5, "per_step": 1.5},
                    **{"cycles_per_token": 400, "memory_share": share, "tokens_per_s": rate},
                }
            ],
        )
    ]
    assert json.loads(Path("x").read_text()) == {
        "prompts": [vars(answer) for answer in ANSWERS],
        **{"device": "rtl", "steps": 5, "cycles": 1300, "bytes_read": 610, "bytes_written": 60},
        **{"cycles_per_token": 400, "bandwidth_share": share, "accepted_per_step": 1.5},
        "notes": ["a note"],
    }


def test_one_answer_is_shown_as_it_comes(transept_command, answered, tables):
    answer, *_ = answered
    counted = Cost(3, 0, 3000, 600, 40)
    calls = answer(Generation(ANSWERS[:1], Cost(), counted, 1.0, "emulator", ()))
    status, shown, _ = transept_command("generate", "m", "he", "--tokens", "3", "--seed", "5")
    assert (status, shown) == (0, "[b]he\n")
    options = calls[-1][-1]
    del options["stream"]
    assert options == PLAIN | {"device": "emulator", "tokens": 3, "seed": 5}
    ((title, (row,)),) = tables
    assert title == f"pynq_z2 at {PYNQ_Z2.clock_mhz} MHz, memory default"
    assert (row["cycles_per_token"], row["memory_share"]) == ("1,500 predicted", None)
    assert row["tokens_per_s"] == PYNQ_Z2.clock_mhz * 1e6 / 1500
    calls.clear()
    status, shown, _ = transept_command("generate", "m", "he", "--device", "rtl")
    assert (status, shown) == (0, "[b]one\n")  # steps are slow: all at once


@pytest.mark.parametrize("device", [DeviceName.rtl, DeviceName.emulator])
def test_how_far_answers_are(monkeypatch, device):
    made = []

    class Progress(answering.Progress):
        def __init__(self, *columns, **told):
            super().__init__(*columns, **told)
            made.append(self)

    monkeypatch.setattr(answering, "Progress", Progress)
    with answering._counted(3, 9, device, options := {}) as listen:
        listen(0, "he  was\n")
        listen(1, "x" * 50)
        listen(1, "y")
        if device == DeviceName.rtl:
            options.pop("progress")(12345)
        (progress,) = made
        tasks = [(task.description, task.total, task.completed) for task in progress.tasks]
    assert options == {}
    simulated = [("12,345 cycles of this run", None, 0)]
    assert tasks == [
        ("1: … he was", 9, 1),
        (f"2: … {'x' * 39}y", 9, 2),
        ("prompt 3", 9, 0),
        *(simulated if device == DeviceName.rtl else []),
    ]
    assert progress.console.stderr
    assert progress.live.transient


@pytest.mark.parametrize(("kept", "what"), [(True, "loading m"), (False, "quantising m, which is")])
def test_what_is_kept_of_a_model_is_loaded(stand_in, capsys, kept, what):
    stand_in("transept.host.language.kept.is_kept", kept)
    calls = stand_in("transept.host.language.kept.language_program", "program")
    assert language("m", TINY, WeightsName.w4, 3) == "program"
    told = {"layers": 3, "weights": "w4"}
    assert calls == [("is_kept", "m", TINY, told), ("language_program", "m", TINY, told)]
    assert what in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "cases"),
    [
        ("", CASES),
        ("--phase prefill", CASES[:2]),
        ("--context 256 --context 16", (CASES[0], *CASES[2:5])),
        ("--batch 4 --batch 16", CASES[3:5]),
        ("--phase decode --context 256 --batch 1", CASES[2:3]),
    ],
)
def test_cases_of_bench_generate(transept_command, stand_in, tables, options, cases):
    def bench(program, cases, *, progress, **told):
        progress("a step")
        return [{"context": case.context} for case in cases]

    stand_in(f"{CLI}.bench_language.language", "program")
    stand_in(f"{CLI}.bench_language.build_simulation")
    calls = stand_in("transept.host.bench.generate.bench_generate", bench)
    told = f"{options} --model m --layers 2 --weights w4 --memory board --seed 7 --json x"
    status, shown, _ = transept_command("bench", "generate", *told.split())
    assert status == 0
    assert "a step" in shown
    board = preset("pynq_z2_board")
    assert calls[:2] == [
        ("language", "m", board, WeightsName.w4, 2),
        ("build_simulation", board, DeviceName.rtl),
    ]
    _, *asked, options = calls[2]
    assert asked == ["program", list(cases)]
    del options["progress"]
    assert options == {"device": "rtl", "rate": 6.4, "memory": "board", "seed": 7}
    rows = [{"context": c.context, "weights": "w4", "memory": "board"} for c in cases]
    assert tables == [("bench generate, m, pynq_z2_board", rows)]
    assert json.loads(Path("x").read_text()) == rows


@pytest.mark.parametrize(
    ("options", "texts", "tokens", "window"),
    [("", passages(), 2048, 128), ("--texts lines --tokens 8 --window 3", ["one", "two"], 8, 3)],
)
def test_text_of_bench_perplexity(
    transept_command, stand_in, tables, tmp_path, options, texts, tokens, window
):
    def bench(*told, progress, **options):
        progress(options["tokens"] // 2)
        return {"perplexity": 3.5}

    (tmp_path / "lines").write_text("one\ntwo\n")
    stand_in(f"{CLI}.bench_language.language", "program")
    stand_in("transept.host.language.model.load_language_model", "model")
    stand_in(f"{GENERATION}.session.LanguageSession", "session")
    calls = stand_in("transept.host.bench.perplexity.bench_perplexity", bench)
    status, shown, _ = transept_command(
        "bench", "perplexity", "--model", "m", *options.split(), "--json", "x"
    )
    assert status == 0
    assert f"{tokens} tokens on cpu" in shown
    assert "50%" in shown
    assert calls[:3] == [
        ("language", "m", preset("pynq_z2"), WeightsName.w8),
        ("load_language_model", "m"),
        ("LanguageSession", "program", "cpu"),
    ]
    _, *asked, told = calls[3]
    assert asked == ["model", "session", texts]
    assert (told["tokens"], told["window"]) == (tokens, window)
    assert tables == [("bench perplexity, m", [{"perplexity": 3.5}])]
    assert json.loads(Path("x").read_text()) == {"perplexity": 3.5}


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


def test_what_is_served_if_nobody_says(transept_command, stand_in):
    """Answers end where the context does."""
    calls = stand_in(f"{CLI}.serve.language", SimpleNamespace(context=100))
    stand_in(f"{CLI}.serve.build_simulation")
    stand_in(f"{GENERATION}.session.LanguageSession", SimpleNamespace(counts_pages=False))
    stand_in("transept.host.serve.service.Service", SimpleNamespace(close=lambda: None))
    stand_in("transept.host.serve.app.application")
    stand_in("uvicorn.Config")
    stand_in("uvicorn.Server", SimpleNamespace(run=lambda: None))
    assert transept_command("serve", "m", "--memory", "board", "--device", "rtl")[0] == 0
    board = preset("pynq_z2_board")
    assert calls[:2] == [
        ("language", "m", board, WeightsName.w8),
        ("build_simulation", board, DeviceName.rtl),
    ]
    _, program, device, told = calls[2]
    assert (program.context, device) == (100, "rtl")
    assert told == {"pages": 512, "seed": 1, "memory": "board"}
    assert calls[3][2] == {"queue": 64, "together": MOST_TOGETHER}
    assert calls[4][2:] == ("m", Limits(99, MOST_TOGETHER, None))
    assert calls[5][2:4] == ("127.0.0.1", 8000)


def test_what_serve_refuses(transept_command, stand_in):
    _, _, (line,) = transept_command("serve", "m", "--device", "auto")
    assert line == "error: device auto is for whole runs; serve takes one device"
    stand_in(f"{CLI}.serve.importlib.util.find_spec", lambda name: name == "uvicorn" or None)
    _, _, error = transept_command("serve", "m")
    assert " ".join(error) == ("error: starlette is not installed; pip install 'transept[serve]'")
