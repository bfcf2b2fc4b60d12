"""``transept build``: what it writes, what it makes of a Vivado, and how that fails."""

import dataclasses
import functools
import json
import os
import re
import shlex
import threading
from pathlib import Path

import pytest
import vivado as stand_in_vivado

from transept.bitstreams.boards import BOARDS
from transept.bitstreams.ecp5 import ECP5_BOARDS
from transept.bitstreams.hwh import hwh
from transept.bitstreams.overlay import find_overlay
from transept.golden.config import TINY
from transept.host.cli import build as command
from transept.host.flows import catalogue, ecp5, vivado
from transept.host.flows.base import Built, FlowError

pytest.importorskip("tkinter", reason="Python without Tcl")

BOARD = dataclasses.replace(BOARDS["pynq_z2"], config=TINY)
KEYS = ["board", "tool", "clock_mhz", "fmax_mhz", "lut", "ff", "dsp", "bram", "bitstream", "routed"]
NOTHING = dict.fromkeys(KEYS) | {
    "board": "pynq_z2", "tool": "none", "clock_mhz": 100, "routed": False,
}  # fmt: skip


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The board has a small accelerator; there is no Vivado but one that a test installs."""
    flows = {"pynq_z2": functools.partial(vivado.build, BOARD)}
    monkeypatch.setattr(command, "FLOWS", flows)
    (tmp_path / "bin").mkdir()
    found = [
        folder for folder in os.environ["PATH"].split(os.pathsep)
        if not os.path.exists(os.path.join(folder, "vivado"))  # noqa: PTH110, PTH118
    ]  # fmt: skip
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), *found]))
    return tmp_path


@pytest.fixture
def installed(small, monkeypatch):
    """Installs a Vivado that behaves as told; returns where its calls are kept."""

    def install(**behaviour):
        stand_in_vivado.install(small / "bin")
        told = {"handoff": hwh(BOARD)} | behaviour
        monkeypatch.setenv(stand_in_vivado.BEHAVIOUR, json.dumps(told))
        monkeypatch.setenv(stand_in_vivado.CALLS, str(small / "calls"))
        return small / "calls"

    return install


def result(folder):
    return json.loads((folder / "a.json").read_text())


def test_every_board_has_a_flow():
    assert list(catalogue.FLOWS) == ["pynq_z2", "ultra96", "kv260", "ulx3s_85f"]
    found = {name: (flow.func, flow.args) for name, flow in catalogue.FLOWS.items()}
    assert found.pop("ulx3s_85f") == (ecp5.build, (ECP5_BOARDS["ulx3s_85f"],))
    for name, flow in found.items():
        assert flow == (vivado.build, (BOARDS[name],))


def test_without_vivado_the_project_is_written(small, transept_command):
    code, out, lines = transept_command("build", "-o", "a b", "--json", "a.json")
    assert (code, lines) == (0, [])
    assert result(small) == NOTHING
    assert list(result(small)) == KEYS
    assert "pynq_z2: no bitstream, its tool is not on PATH" in out
    assert "\n    cd 'a b' && vivado -mode batch -source build.tcl\n" in out
    files = {path.name for path in (small / "a b").iterdir()}
    assert files == {
        "build.tcl", "steps.tcl", "package.tcl", "design.tcl", "settings.tcl", "accelerator.xdc",
        "transept_accelerator.v",
    }  # fmt: skip


def test_the_command_that_is_told_builds_it(small, installed, transept_command):
    _, out, _ = transept_command("build", "-o", "a b")
    (line,) = re.findall(r"^    (cd .*)$", out, re.MULTILINE)
    installed()
    assert os.system(line + " > " + shlex.quote(str(small / "log"))) == 0
    assert find_overlay(small / "a b" / "overlay", "pynq_z2").manifest.tool == "Vivado 2024.1"


def test_with_vivado_there_is_an_overlay(small, installed, transept_command):
    calls = installed()
    code, out, lines = transept_command("build", "-o", "out", "--json", "a.json")
    assert (code, lines) == (0, [])
    overlay = find_overlay(small / "out" / "overlay", "pynq_z2")
    assert result(small) == {
        "board": "pynq_z2", "tool": "Vivado 2024.1", "clock_mhz": 100, "fmax_mhz": 102.6,
        "lut": 34567, "ff": 25902, "dsp": 194, "bram": 127.5,
        "bitstream": f"out/overlay/{overlay.bitfile.name}", "routed": True,
    }  # fmt: skip
    assert f"out/overlay/{overlay.bitfile.name}" in out
    assert "34,567 LUT, 25,902 FF, 194 DSP, 127.5 BRAM; 100 MHz, 102.6 by its timing" in out
    assert [json.loads(line) for line in calls.read_text().splitlines()] == [
        ["-version"],
        ["-nojournal", "-nolog", "-mode", "batch", "-source", "build.tcl"],
    ]
    assert "transept: synthesis" in (small / "out" / "vivado.log").read_text()
    deployed = transept_command("deploy", "x:y", "-o", "p", "--overlay", "out/overlay")
    assert "overlay" not in deployed[2][0]  # it is the model that does not exist


def test_what_it_does_is_shown(small, installed):
    installed()
    told, before = [], set(threading.enumerate())
    vivado.build(BOARD, small / "out", 60.0, told.append)
    for thread in set(threading.enumerate()) - before:  # what stops a Vivado that hangs
        thread.join(5)
        assert not thread.is_alive()
    assert told[:4] == [
        "elaborating tiny", "Vivado: packaging the core", "Vivado: block design",
        "Vivado: synthesis",
    ]  # fmt: skip


def test_the_oldest_vivado_will_do(small, installed):
    installed(version="2022.1")
    assert vivado.build(BOARD, small / "out", 60.0, lambda text: None).tool == "Vivado 2022.1"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"fails": "impl_1"}, "impl_1: route_design ERROR (out/vivado.log has more)"),
        ({"parts": ()}, "this Vivado has no part xc7z020clg400-1: add its family"),
        ({"version": "2019.2"}, "Vivado 2019.2 is too old, the project needs 2022.1 or later"),
        ({"version": "?"}, "bin/vivado is no Vivado: it says no version"),
        ({"handoff": "<a/>"}, "what Vivado made is no overlay: the hand-off has 0 accelerators"),
    ],
)
def test_what_goes_wrong_is_told(behaviour, message, small, installed, transept_command):
    installed(**behaviour)
    code, _, lines = transept_command("build", "-o", "out", "--json", "a.json")
    assert code == 1
    assert message in lines[0]
    assert len(lines) == 1
    assert result(small)["bitstream"] is None


def test_an_overlay_of_another_configuration_is_refused(small, installed):
    installed()
    built = vivado.build(BOARD, small / "out", 60.0, lambda text: None)
    other = dataclasses.replace(BOARD, config=TINY.replace(name="other", max_rows=32))
    with pytest.raises(FlowError, match=r"is no overlay: \S+\.bit is of another configuration"):
        vivado._with_overlay(built, other, small / "out")


@pytest.mark.parametrize(("options", "seconds"), [("", 6 * 3600), ("--limit 0.5", 30)])
def test_a_flow_has_its_folder_and_its_time(
    transept_command, monkeypatch, tmp_path, options, seconds
):
    asked = []

    def flow(*told):
        *rest, tell = told
        asked.append(rest)
        tell("routing")
        return Built("it", 50, "tool 1", 51.25, 1234, 5, 6, 7.5, tmp_path / "it.bit", True)

    monkeypatch.setattr(command, "FLOWS", {"pynq_z2": flow})
    code, out, _ = transept_command("build", "-o", "out", *options.split(), "--json", "x")
    assert code == 0
    assert asked == [[Path("out"), seconds]]
    assert "routing" in out
    figures = "tool 1, 1,234 LUT, 5 FF, 6 DSP, 7.5 BRAM; 50 MHz, 51.25 by its timing"
    assert out.endswith(f"\n{tmp_path}/it.bit\n{figures}\n")
    assert json.loads(Path("x").read_text())["routed"] is True


def test_without_timing_the_figures_are_told_all_the_same(small, installed, transept_command):
    installed(slack=("-3.211", "0.03", "1.5"))
    code, _, lines = transept_command("build", "-o", "out", "--json", "a.json")
    assert code == 1
    assert "timing is not met at 100 MHz: worst setup slack -3.211 ns, 75.7 MHz" in lines[0]
    found = result(small)
    assert (found["routed"], found["bitstream"], found["fmax_mhz"]) == (True, None, 75.7)
    assert (found["tool"], found["lut"]) == ("Vivado 2024.1", 34567)


def test_what_hangs_is_stopped(small, installed, transept_command):
    installed(hangs=True)
    code, _, lines = transept_command("build", "-o", "out", "--json", "a.json", "--limit", "0.05")
    assert code == 1
    assert "Vivado has not ended within 0.05 minutes, it was at: implementation" in lines[0]
    assert result(small) == NOTHING


@pytest.mark.timeout(60)
def test_ctrl_c_stops_vivado_too(small, installed):
    """It has a session of its own, which hears of no Ctrl-C."""
    installed(hangs=True)

    def tell(what):
        if what == "Vivado: implementation":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vivado.build(BOARD, small / "out", 600.0, tell)


def test_a_vivado_that_dies_without_a_word_is_told(small, installed, transept_command):
    installed()
    (small / "bin" / "vivado").write_text(
        '#!/bin/sh\n[ "$1" = -version ] && echo "Vivado v2023.1 (64-bit)" && exit 0\nexit 9\n'
    )
    code, _, lines = transept_command("build", "-o", "out")
    assert code == 1
    assert "Vivado ended with exit status 9" in lines[0]
    (small / "bin" / "vivado").write_text(
        '#!/bin/sh\n[ "$1" = -version ] && echo "Vivado v2023.1 (64-bit)" && exit 0\n'
        'echo "ERROR: [Common 17-345] no license" >&2\necho "ERROR: later"\nexit 1\n'
    )
    assert "[Common 17-345] no license" in transept_command("build", "-o", "out")[2][0]


def test_a_version_that_never_comes_is_told(small, installed, monkeypatch):
    assert vivado._VERSION_S == 120
    installed()
    (small / "bin" / "vivado").write_text('#!/bin/sh\nsleep 0.8\necho "Vivado v2024.1"\n')
    monkeypatch.setattr(vivado, "_VERSION_S", 0.2)
    with pytest.raises(RuntimeError, match="vivado says no version within 0 s"):
        vivado.build(BOARD, small / "out", 60.0, print)


def test_wrong_places_are_told_first(small, transept_command):
    (small / "file").touch()
    assert transept_command("build", "-o", "file")[2] == ["error: file is no folder"]
    told = transept_command("build", "-o", "out", "--json", "no/a.json")[2]
    assert told == ["error: no folder no for a.json"]
    assert not (small / "out").exists()
    code, _, lines = transept_command("build", "--board", "z3", "-o", "out")
    assert code == 2
    assert "'z3'" in lines[0]
