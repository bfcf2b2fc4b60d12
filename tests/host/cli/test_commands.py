"""Commands of a few lines: what they are told, show and write."""

import hashlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from transept.golden.config import PRESETS, TINY, preset
from transept.golden.isa import INSTRUCTION_BYTES
from transept.host.cli import cache, test
from transept.host.cli.options import choose_config
from transept.host.compiler.cut import Shape
from transept.host.doctor import Check
from transept.host.placement.costs import DeviceCosts
from transept.sim.cache import Entry

CLI = "transept.host.cli"
DAY = 24 * 60 * 60


def test_the_cache_is_shown_by_kind_and_label(transept_command, stand_in, tables, monkeypatch):
    monkeypatch.setattr(cache.time, "time", lambda: 100.0 * DAY)
    monkeypatch.setenv("TRANSEPT_CACHE", "/kept")
    places = [("verilog/a", "tiny", 1), ("verilog/b", "tiny", 2), ("verilog/c.scratch", "c", 1)]
    found = [
        Entry(Path(f"/kept/{place}"), label, (index + 1) << 20, days * DAY)
        for index, (place, label, days) in enumerate(places)
    ]
    stand_in(f"{CLI}.cache.entries", found)
    calls = stand_in(f"{CLI}.cache.prune", found[:1])
    whole = [
        {"kind": "verilog", "what": "tiny", "entries": 2, "MiB": 3.0, "days_unused": 98.0},
        {"kind": "verilog", "what": "unfinished", "entries": 1, "MiB": 3.0, "days_unused": 99.0},
    ]
    assert transept_command("cache")[1] == "3 entries, 6.0 MiB\n"
    assert calls == [("entries",)]
    assert tables == [("/kept", whole)]
    out = transept_command("cache", "--prune")[1]
    assert out == "1 entries, 1.0 MiB\n3 entries, 6.0 MiB\n"
    assert transept_command("cache", "--prune", "--days", "0.5")[0] == 0
    assert calls[1::2] == [("prune", 30.0 * DAY), ("prune", 0.5 * DAY)]
    removed = {"kind": "verilog", "what": "tiny", "entries": 1, "MiB": 1.0, "days_unused": 99.0}
    assert tables[1:3] == [("removed from /kept", [removed]), ("/kept", whole)]


@pytest.fixture
def calibrated(stand_in, monkeypatch):
    """Calls of a calibration of one region at two shapes, and what is measured."""
    costs = {"cpu": DeviceCosts(2e-6, 3e9), "rtl": DeviceCosts(5e-6, 7e9)}
    region = SimpleNamespace(graph="graph", shapes={Shape(1, {"rows": n}): None for n in (2, 3)})

    def measure(*told, progress, clock, around):
        progress("an operator")
        return costs

    program = SimpleNamespace(regions=[region], around=lambda *inputs: f"around {inputs}")
    ready = SimpleNamespace(program=program, inputs=("ids", "mask"))
    name = f"{CLI}.calibrate"
    stand_in(f"{name}.prepare", ready)
    stand_in(f"{name}.available", ["cpu", "rtl"])
    stand_in(f"{name}.measure_costs", measure)
    stand_in(f"{name}.costs_path", "the-file")
    stand_in(f"{name}.machine", {"processor": "a processor"})
    stand_in(f"{name}.costs_file", lambda found, command: [sorted(found), command])
    return stand_in(f"{name}.save_costs"), costs


@pytest.mark.parametrize(
    ("options", "model", "tokens", "devices", "clock", "kept"),
    [
        ("", "minilm", 32, ["cpu", "rtl"], None, ["cpu", "rtl"]),
        ("--tokens 9 --device rtl --clock 2.5", "minilm", 9, ["rtl"], 2.5e6, ["cpu"]),
        ("--model m:f", "m:f", None, ["cpu", "rtl"], None, ["cpu", "rtl"]),
    ],
)
def test_calibrate(
    transept_command, calibrated, tables, options, model, tokens, devices, clock, kept
):
    calls, costs = calibrated
    command = ["calibrate", *options.split(), "--batch", "2", "--config", "tiny", "--json", "x"]
    code, out, _ = transept_command(*command)
    assert code == 0
    found = {call[0]: call[1:] for call in calls}
    assert found["prepare"] == (model, TINY, {"tokens": tokens, "batch": 2})
    works, *told, asked = found["measure_costs"]
    assert [(work.graph, work.shape) for work in works] == [
        ("graph", Shape(1, {"rows": n})) for n in (2, 3)
    ]
    assert told == [devices, TINY]
    assert (asked["clock"], asked["around"]) == (clock, "around ('ids', 'mask')")
    assert found["save_costs"] == ({name: costs[name] for name in kept}, TINY)
    assert "an operator" in out
    assert out.endswith("kept in the-file\n")
    assert tables == [
        (
            "calibrate, a processor",
            [
                {"device": "cpu", "launch_us": 2.0, "GB_per_second": 3.0, "operators": 0},
                {"device": "rtl", "launch_us": 5.0, "GB_per_second": 7.0, "operators": 0},
            ],
        )
    ]
    wanted = [["cpu", "rtl"], " ".join(["transept", *command])]
    assert json.loads(Path("x").read_text()) == wanted


def test_times_at_a_clock_alone_are_kept_nowhere(transept_command, calibrated, tables):
    calls, costs = calibrated
    del costs["cpu"]
    out = transept_command("calibrate", "--device", "rtl", "--clock", "2", "--config", "tiny")[1]
    assert ("save_costs", {}, TINY) in calls
    assert "kept in" not in out
    assert [row["device"] for row in tables[0][1]] == ["rtl"]


def test_what_was_compiled_is_counted(transept_command, stand_in, tmp_path):
    def executable(count):
        return SimpleNamespace(instructions=bytes(count * INSTRUCTION_BYTES))

    regions = [
        SimpleNamespace(
            executables={n: executable(n) for n in counts}, weights=np.zeros(1000 * len(counts))
        )
        for counts in [(600, 700), (1,)]
    ]
    calls = stand_in(
        f"{CLI}.compile.prepare",
        SimpleNamespace(
            program=SimpleNamespace(regions=regions, save=lambda path: calls.append(path))
        ),
    )
    options = "-o file --config pynq_z2 --memory board --tokens 8 --batch 2 --filter causal"
    code, out, _ = transept_command("compile", "m", *options.split())
    assert (code, out) == (
        0,
        "file: 2 regions, 1,301 instructions, 3,000 bytes of weights\n",
    )
    told = {"tokens": 8, "batch": 2, "key_filter": "causal"}
    assert calls == [("prepare", "m", preset("pynq_z2_board"), told), Path("file")]


def test_the_doctor_ends_with_what_is_missing(transept_command, stand_in, tables):
    checks = [Check("a", "all", "1.2"), Check("b", "some", "missing", "get it")]
    stand_in(f"{CLI}.doctor.examine", lambda: checks)
    code, _, lines = transept_command("doctor")
    assert (code, lines) == (1, ["error: missing: b (get it)"])
    rows = [
        {"what": "a", "for": "all", "found": "1.2", "remedy": ""},
        {"what": "b", "for": "some", "found": "missing", "remedy": "get it"},
    ]
    assert tables == [("transept doctor", rows)]
    del checks[1]
    assert transept_command("doctor")[::2] == (0, [])


def test_devices_and_configurations(transept_command, stand_in, tables):
    names = ["rtl", "emulator", "gpu", "cpu", "golden"]
    stand_in(f"{CLI}.devices.device_states", {name: f"state of {name}" for name in names})
    assert transept_command("devices")[0] == 0
    (first, devices), (second, configurations) = tables
    assert (first, second) == ("devices", "configurations")
    assert [(row["device"], row["state"]) for row in devices] == [
        (name, f"state of {name}") for name in names
    ]
    sizes = ["config", "array", "act_KiB", "stat_KiB", "bus_bits"]
    found = {row["config"]: [row[name] for name in sizes[1:]] for row in configurations}
    assert list(found) == list(PRESETS)
    assert found["tiny"] == ["4x4", 12.5, 4.0, 32]
    assert found["pynq_z2"] == ["16x16", 368.0, 96.0, 128]
    assert configurations[0]["digest"] == f"{next(iter(PRESETS.values())).digest:08x}"


def test_what_is_explained_is_shown_and_written(transept_command, stand_in, tables):
    found = {
        **{"linears_on": 1, "linears_total": 2, "attention_on": 3, "attention_total": 4},
        **{"macs_share": 0.25, "predicted_cycles": 12345, "fallback": [{"name": "fft"}]},
        "regions": [{"name": "r", "operators": ["a", "b"], "macs": 7, "predicted_cycles": 9}],
    }
    ready = SimpleNamespace(program=SimpleNamespace(explain=lambda: found))
    calls = stand_in(f"{CLI}.explain.prepare", ready)
    out = transept_command("explain", "m", "--memory", "board", "--json", "x")[1]
    assert " ".join(out.split()) == (
        "1 of 2 linears, 3 of 4 attentions, 25.0% of the multiply-accumulates on the accelerator; "
        "12,345 cycles predicted"
    )
    rows = [{"region": "r", "operators": 2, "macs": 7, "predicted_cycles": 9}]
    assert tables == [("on the accelerator", rows), ("with torch", [{"name": "fft"}])]
    assert json.loads(Path("x").read_text()) == found
    assert calls[0][:3] == ("prepare", "m", preset("pynq_z2_board"))
    found["fallback"] = []
    transept_command("explain", "m")
    assert len(tables) == 3


def test_resources_are_shown_beside_their_limits(transept_command, stand_in, tables):
    blocks = {"gemm": {"dsp": 1, "lut": 2}}
    limits = {"dsp": 200, "lut": 400}
    found = {"part": "a part", "dsp": 50, "lut": 300, "limits": limits, "blocks": blocks}
    calls = stand_in(f"{CLI}.synth.synthesise", found)
    assert transept_command("synth", "--memory", "board", "--json", "x")[0] == 0
    assert transept_command("synth", "--config", "tiny", "--hls", "rsqrt")[0] == 0
    hls = TINY.replace(hls=("rsqrt",))
    assert calls == [("synthesise", preset("pynq_z2_board")), ("synthesise", hls)]
    del tables[2:]
    assert tables == [
        (
            "pynq_z2_board on a part",
            [
                {"resource": "dsp", "used": 50, "limit": 200, "share": 0.25},
                {"resource": "lut", "used": 300, "limit": 400, "share": 0.75},
            ],
        ),
        ("blocks", [{"block": "gemm", "dsp": 1, "lut": 2}]),
    ]
    assert json.loads(Path("x").read_text()) == found


def test_the_clock_is_shown_by_model_and_paths_by_block(transept_command, stand_in, tables):
    path = {"ns": 9.5, "levels": 3, "fanout": 7, "from": "a", "to": "b", "block": "c"}
    step = {"ns": 0.3, "cell": "FDRE", "fanout": 1, "at": "a", "beside": ["b", "c"]}
    path["steps"] = [step]
    nets = {"nominal": "0.62 + 0.17 * log2(fan-out)"}
    found = {"longest_ns": {"nominal": 9.5}, "period_ns": 8.0, "late": {"nominal": 4}}
    found |= {"paths": [path], "method": {"nets_ns": nets}}
    calls = stand_in(f"{CLI}.timing.estimate", found)
    assert transept_command("timing", "--config", "tiny", "--paths", "5", "--json", "x")[0] == 0
    assert calls == [("estimate", preset("tiny"), 5)]
    model = {"net model": "nominal", "longest_ns": 9.5, "mhz": 1000 / 9.5}
    model |= {"nets_ns": nets["nominal"], "ends above 8 ns": 4}
    assert tables[0] == ("tiny: estimate before place and route", [model])
    assert tables[1][1] == [{"ns": 9.5, "levels": 3, "fanout": 7, "from": "a", "to": "b"}]
    assert tables[2][1] == [step | {"beside": "b, c"}]
    assert json.loads(Path("x").read_text()) == found
    del tables[:]
    found["paths"] = []
    options = ("--filters", "dense", "--blocks", "attention,norm")
    assert transept_command("timing", "--config", "tiny", *options)[0] == 0
    assert calls[1] == ("estimate", choose_config("tiny", None, None, *options[1::2]), 20)
    assert [rows for _, rows in tables[1:]] == [[], []]


@pytest.mark.parametrize(
    ("options", "seed", "waves"), [([], "1", "0"), (["--seed", "7", "--waves"], "7", "1")]
)
def test_tests_of_a_block_have_its_seed(transept_command, stand_in, options, seed, waves):
    calls = stand_in(f"{CLI}.test.subprocess.run", SimpleNamespace(returncode=5))
    assert transept_command("test", "sim/test_cache.py", *options)[0] == 5
    ((_, command, told),) = calls
    files = [str(test.TESTS / "sim" / "test_cache.py")]
    root = str(test.TESTS.parent)
    assert command == [sys.executable, "-m", "pytest", "--rootdir", root, *files]
    assert told["cwd"] == test.TESTS
    more = {"TRANSEPT_SEED": seed, "TRANSEPT_WAVES": waves}
    assert told["env"] == {**os.environ, **more}


def test_without_pytest_no_test_runs(transept_command, stand_in):
    stand_in(f"{CLI}.test.importlib.util.find_spec")
    _, _, (line,) = transept_command("test", "sim/test_cache.py")
    assert line == "error: pytest missing; run: pip install 'transept[dev]'"


def test_verilog_is_written_with_its_hash(transept_command, stand_in, tmp_path):
    text = "module tiny\n" * 1234
    stand_in(f"{CLI}.verilog.accelerator_verilog", lambda config: config == TINY and text)
    for _ in range(2):
        code, out, _ = transept_command("verilog", "-o", "a/b", "--config", "tiny")
        assert code == 0
    assert "elaborating tiny" in out
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert f"a/b/accelerator.v:1,234lines,sha256{digest}" in "".join(out.split())
    assert (tmp_path / "a/b/accelerator.v").read_text() == text
    stand_in(f"{CLI}.verilog.accelerator_verilog", lambda config: ",".join(config.hls))
    transept_command("verilog", "-o", "a/b", "--hls", "exponential,rsqrt")
    assert (tmp_path / "a/b/accelerator.v").read_text() == "exponential,rsqrt"
