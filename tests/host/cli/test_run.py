"""What ``transept run`` runs, how often and where, and what it shows of it."""

import contextlib
from types import SimpleNamespace

import pytest

from transept.golden.config import preset
from transept.host.cli.options import DeviceName, MemoryName
from transept.host.cli.run import _placement
from transept.host.placement.auto import Placement
from transept.host.texts import DEMO_SENTENCES

CLI = "transept.host.cli.run"
BOARD = preset("pynq_z2_board")
#: How each accelerator is opened, if nobody says.
OPENED = {"rtl": {"seed": 1, "memory": "default"}, "emulator": {"seed": 1}}


class Program:
    """Its runs, each by a plan of its own."""

    def __init__(self):
        self.runs, self.last = [], None

    def run(self, *inputs, device, **options):
        self.runs.append((inputs, device, options))
        self.last = SimpleNamespace(placed=(f"first {len(self.runs)}", f"second {len(self.runs)}"))


@pytest.fixture
def asked(stand_in):
    """Calls of everything that runs or shows."""

    @contextlib.contextmanager
    def running(text, cycles, options):
        yield

    def bench(model, **options):
        model.program.run(*model.inputs, **options)
        return "result"

    program = Program()
    ready = SimpleNamespace(program=program, inputs=("x",), macs=512)
    stand_in(f"{CLI}.prepare", ready)
    stand_in(f"{CLI}.build_simulation")
    stand_in(f"{CLI}.running", running)
    stand_in(f"{CLI}.median_run", lambda several: " ".join(several))
    stand_in("transept.host.bench.model.bench_model", bench)
    stand_in("transept.host.report.show_placement")
    calls = stand_in("transept.host.report.show_model")
    return calls, ready


def prepared(model, config, **told):
    return (
        "prepare",
        model,
        config,
        {"tokens": None, "batch": None, "texts": [], "key_filter": None} | told,
    )


def test_texts_run_on_the_board(transept_command, asked):
    calls, ready = asked
    options = "--text a --text b --memory board --seed 7 --batch 2 --filter causal"
    assert transept_command("run", "m", *options.split())[::2] == (0, [])
    opened = {"seed": 7, "memory": "board"}
    assert calls == [
        prepared("m", BOARD, tokens=32, batch=2, texts=["a", "b"], key_filter="causal"),
        ("build_simulation", BOARD, DeviceName.rtl),
        ("running", "running on rtl", 512 / BOARD.macs, opened),
        ("bench_model", ready, {"device": "rtl"} | opened),
        ("show_model", "result", BOARD, "board"),
    ]


def test_a_function_has_its_own_tokens(transept_command, asked):
    calls, _ = asked
    assert transept_command("run", "m:f", "--device", "golden")[0] == 0
    plain = preset("pynq_z2")
    assert calls[0] == prepared("m:f", plain)
    assert calls[2] == ("running", "running on golden", 512 / plain.macs, {})


def test_without_fallback_a_device_that_fails_is_an_error(transept_command, asked):
    calls, ready = asked
    assert transept_command("run", "m:f", "--device", "cpu", "--no-fallback")[0] == 0
    assert calls[3] == ("bench_model", ready, {"device": "cpu", "fallback": False})


def test_an_explanation_shows_the_regions_of_all_runs(transept_command, asked):
    calls, ready = asked
    options = "--text a --tokens 9 --device cpu --explain --runs 3 --clock 2"
    assert transept_command("run", "m", *options.split())[0] == 0
    placement = Placement(devices=("cpu",), clock=2e6, options=OPENED)
    told = {"placement": placement}
    config = preset("pynq_z2")
    assert calls == [
        prepared("m", config, tokens=9, texts=["a"]),
        ("build_simulation", config, DeviceName.cpu),
        ("running", "running on cpu", 3 * 512 / config.macs, told),
        ("bench_model", ready, {"device": "auto"} | told),
        ("show_model", "result", config, "default"),
        ("median_run", ("first 1", "first 2", "first 3")),
        ("median_run", ("second 1", "second 2", "second 3")),
        (
            "show_placement",
            ["first 1 first 2 first 3", "second 1 second 2 second 3"],
            2e6,
        ),
    ]
    assert ready.program.runs == [(("x",), "auto", told)] * 3


def test_pins_and_limits_reach_the_placement(transept_command, asked):
    calls, ready = asked
    options = "--device auto --pin a=cpu --pin b.*=gpu --limit gpu=0.5 --limit cpu=3 --no-fallback"
    assert transept_command("run", "m:f", *options.split())[0] == 0
    placement = Placement(
        pins={"a": "cpu", "b.*": "gpu"},
        memory={"gpu": 1 << 19, "cpu": 3 << 20},
        fallback=False,
        options=OPENED,
    )
    assert calls[3] == ("bench_model", ready, {"device": "auto", "placement": placement})
    assert [call[0] for call in calls[4:]] == ["show_model"]


def test_one_device_and_no_wish_is_no_placement():
    def placed(*wishes):
        return _placement(DeviceName.cpu, *wishes)

    assert placed([], [], None, True, False) is None
    assert placed([], [], None, False, False) is None
    assert placed([], [], None, True, True) == Placement(devices=("cpu",))
    assert placed(["a=gpu"], [], None, True, False) == Placement(("cpu",), {"a": "gpu"})
    assert placed([], ["gpu=1"], None, True, False) == Placement(("cpu",), {}, {"gpu": 1 << 20})
    assert placed([], [], 1.5, False, False) == Placement(("cpu",), clock=1.5e6, fallback=False)
    assert _placement(DeviceName.auto, [], [], None, True, False) == Placement()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--text a --batch 2", "--batch 2, but 1 texts"),
        ("--text a --runs 2", "--runs 2 is for --explain, which shows times"),
        ("--text a --pin =cpu", "--pin '=cpu' is not LAYER=DEVICE"),
        ("--text a --pin a=", "--pin 'a=' is not LAYER=DEVICE"),
        ("--text a --limit cpu", "--limit 'cpu' is not DEVICE=MIB"),
        ("--text a --limit npu=1", "no device 'npu', there is rtl"),
    ],
)
def test_what_is_refused_before_anything_is_prepared(transept_command, asked, options, message):
    code, _, (line,) = transept_command("run", "m", *options.split())
    assert code == 1
    assert line.startswith(f"error: {message}")
    assert asked[0] == []


def test_the_demo_runs_its_sentences(transept_command, stand_in):
    calls = stand_in("transept.host.cli.demo.run")
    options = "--config tiny --device cpu --memory board --seed 7 --tokens 9"
    assert transept_command("demo")[0] == transept_command("demo", *options.split())[0] == 0
    sentences = list(DEMO_SENTENCES)
    assert calls == [
        ("run", "minilm", sentences, "pynq_z2", DeviceName.rtl, MemoryName.default, 1, None),
        ("run", "minilm", sentences, "tiny", DeviceName.cpu, MemoryName.board, 7, 9),
    ]
