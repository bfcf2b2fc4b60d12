"""What ``transept bench`` measures with which options, what it shows, and what it writes."""

import contextlib
import json
from types import SimpleNamespace

import pytest

from transept.golden.config import preset
from transept.host.bench.gemm import DEFAULT_SHAPES
from transept.host.bench.plot import check_plot
from transept.host.cli.options import DeviceName
from transept.host.doctor import GPU
from transept.host.texts import degenerate_texts, passages
from transept.sim import tools

CLI, BENCH = "transept.host.cli.bench", "transept.host.bench"
PLAIN, BOARD = preset("pynq_z2"), preset("pynq_z2_board")
#: Options, and the configuration, device, memory, seed and rate that they mean.
CHOICES = [
    ("", PLAIN, "rtl", "default", 1, 12.8),
    ("--memory board --seed 7", BOARD, "rtl", "board", 7, 6.4),
]


def opened(device, memory, seed):
    """Options of a device."""
    return {"device": device, "memory": memory, "seed": seed}


@pytest.mark.parametrize(("options", "config", "device", "memory", "seed", "rate"), CHOICES)
@pytest.mark.parametrize("shapes", [[], ["8x8x8", "3x4x5"]])
def test_gemm(
    transept_command, stand_in, tables, options, config, device, memory, seed, rate, shapes
):
    stand_in(f"{CLI}.build_simulation")
    asked = stand_in(f"{CLI}.bench_gemm", lambda config, shapes, **options: [{"shape": shapes[0]}])
    command = ["bench", "gemm", *shapes, *options.split(), "--json", "x"]
    assert transept_command(*command)[0] == 0
    wanted = shapes or list(DEFAULT_SHAPES)
    told = opened(device, memory, seed) | {"rate": rate}
    assert asked == [
        ("build_simulation", config, DeviceName.rtl),
        *(("bench_gemm", config, [shape], told) for shape in wanted),
    ]
    rows = [{"shape": shape} for shape in wanted]
    assert tables == [(f"bench gemm, {config.name}, memory {memory}", rows)]
    assert written() == [row | {"memory": memory} for row in rows]


def written():
    """In the folder where a command runs."""
    with open("x") as file:  # noqa: PTH123
        return json.load(file)


@pytest.mark.parametrize(("options", "config", "device", "memory", "seed", "rate"), CHOICES)
def test_softmax(transept_command, stand_in, tables, options, config, device, memory, seed, rate):
    stand_in(f"{CLI}.build_simulation")
    asked = stand_in(f"{BENCH}.softmax.bench_softmax", [{"length": 3}])
    assert transept_command("bench", "softmax", *options.split(), "--json", "x")[0] == 0
    assert asked == [
        ("build_simulation", config, DeviceName.rtl),
        ("bench_softmax", config, opened(device, memory, seed)),
    ]
    assert tables == [(f"bench softmax, {config.name}, memory {memory}", [{"length": 3}])]
    assert written() == [{"length": 3, "memory": memory}]


@pytest.mark.parametrize("name", ["softmax", "gemm", "generate"])
def test_what_runs_no_instructions_has_no_bench(transept_command, name):
    _, _, (line,) = transept_command("bench", name, "--device", "golden")
    assert line == "error: no accelerator 'golden', there is rtl and emulator"


@pytest.mark.parametrize("name", ["cpu", "compile"])
def test_rows_are_shown_and_written(transept_command, stand_in, tables, name):
    stand_in(f"{BENCH}.{name}.bench_{name}", [{"ms": 3}])
    assert transept_command("bench", name, "--json", "x")[0] == 0
    assert tables == [(f"bench {name}", [{"ms": 3}])]
    assert written() == [{"ms": 3}]


def test_hls(transept_command, stand_in, tables):
    found = {"config": "it", "rows": [{"block": "a"}, {"block": "b"}], "product": {"bytes": 3}}
    stand_in(f"{BENCH}.hls.bench_hls", found)
    assert transept_command("bench", "hls", "--json", "x")[0] == 0
    assert tables == [
        ("bench hls, it", found["rows"]),
        ("a product that avoids communication", [{"bytes": 3}]),
    ]
    assert written() == found


def test_gpu_needs_its_packages_and_says_what_it_does(transept_command, stand_in, tables):
    def bench(say):
        say("linear 1x2x3")
        return {"card": "", "torch": "", "triton": "", "rows": []}

    stand_in(f"{BENCH}.gpu.bench_gpu", bench)
    asked = stand_in(f"{CLI}.tools.require")
    code, out, _ = transept_command("bench", "gpu")
    assert (code, out) == (0, "linear 1x2x3\n")
    assert asked[0] == ("require", GPU)


@pytest.mark.parametrize(("options", "config", "device", "memory", "seed", "rate"), CHOICES)
def test_sim(transept_command, stand_in, tables, options, config, device, memory, seed, rate):
    stand_in(f"{CLI}.build_simulation")
    stand_in(f"{CLI}.build.missing_tools", ("amaranth",))
    stand_in(f"{CLI}.tools.require")
    asked = stand_in(f"{BENCH}.sim.bench_sim", {"khz": 3})
    assert transept_command("bench", "sim", *options.split(), "--json", "x")[0] == 0
    assert asked == [
        ("missing_tools", config),
        ("require", ("amaranth", *tools.COCOTB)),
        ("build_simulation", config, DeviceName.rtl),
        ("bench_sim", config, {"memory": memory, "seed": seed}),
    ]
    assert tables == [(f"bench sim, {config.name}, memory {memory}", [{"khz": 3}])]
    assert written() == {"khz": 3, "memory": memory}


@pytest.mark.parametrize(("options", "config", "device", "memory", "seed", "rate"), CHOICES)
@pytest.mark.parametrize("plot", [[], ["--plot", "x.svg"]])
def test_model(
    transept_command, stand_in, tmp_path, options, config, device, memory, seed, rate, plot
):
    @contextlib.contextmanager
    def running(text, cycles, options):
        yield

    ready, result = SimpleNamespace(macs=512), {"cycles": 3, "memory": memory}
    for name, found in (("prepare", ready), ("build_simulation", None), ("running", running)):
        stand_in(f"{CLI}.{name}", found)
    stand_in(f"{BENCH}.model.bench_model", lambda *told, **options: {"cycles": 3})
    stand_in("transept.host.report.show_model")
    stand_in(f"{BENCH}.plot.check_plot", check_plot)
    asked = stand_in(f"{BENCH}.plot.plot_model")
    command = ["bench", "model", *options.split(), *plot, "--json", "x"]
    command += ["--tokens", "8", "--batch", "2", "--filter", "causal", "--model", "m"]
    assert transept_command(*command)[0] == 0
    told = opened(device, memory, seed)
    bare = {name: value for name, value in told.items() if name != "device"}
    picture = tmp_path.joinpath("x.svg").relative_to(tmp_path)
    assert asked == [
        *([("check_plot", picture)] if plot else []),
        ("prepare", "m", config, {"tokens": 8, "batch": 2, "key_filter": "causal"}),
        ("build_simulation", config, DeviceName.rtl),
        ("running", "running on rtl", 512 / config.macs, bare),
        ("bench_model", ready, told),
        ("show_model", result, config, memory),
        *([("plot_model", result, config, rate, picture)] if plot else []),
    ]
    assert written() == result


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ("", passages(200)),
        ("--count 3", passages(3)),
        ("--degenerate", degenerate_texts()),
        ("--texts lines", ["one", "two"]),
    ],
)
def test_accuracy(transept_command, stand_in, tables, tmp_path, options, texts):
    def bench(*told, device, progress):
        progress(1)
        return {"mean": 0.5}

    (tmp_path / "lines").write_text("one\ntwo\n")
    stand_in("transept.host.models.load_text_model", "model")
    asked = stand_in(f"{BENCH}.accuracy.bench_accuracy", bench)
    command = ["bench", "accuracy", *options.split(), "--model", "m", "--json", "x"]
    code, out, _ = transept_command(*command, "--device", "cpu", "--config", "tiny")
    assert code == 0
    assert f"{len(texts)} passages on cpu" in out
    load, (*rest, told) = asked
    assert load == ("load_text_model", "m")
    assert rest == ["bench_accuracy", "model", texts, preset("tiny")]
    assert told["device"] == "cpu"
    assert f"{100 // len(texts)}%" in out
    assert tables == [("bench accuracy", [{"mean": 0.5}])]
    assert written() == {"mean": 0.5}
