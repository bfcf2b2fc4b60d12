"""What a report of nextpnr says by blocks."""

import pytest

from transept.host.flows.ecp5_report import summarise
from transept.host.timing.netlist import Cell, Netlist

CORE = ("linked", "core", "core")
CLOCK = "posedge $glbnet$clk"


def cell(name, *scope):
    return Cell(name, "TRELLIS_FF", {}, {}, frozenset(), scope)


NETLIST = Netlist(
    (
        cell("a", *CORE, "gemm", "rows", "queue"),
        cell("b", *CORE, "act", "bank0", "page0"),
        cell("c", "linked", "link", "bridge"),
        cell("d"),
    ),
    {},
    {},
)


def step(kind, start, end, ns):
    where = [{"cell": name, "port": "X", "loc": [1, 2]} for name in (start, end)]
    return {"type": kind, "from": where[0], "to": where[1], "delay": ns}


PATH = {
    "from": CLOCK,
    "to": CLOCK,
    "path": [
        step("clk-to-q", "a", "a", 0.5),
        step("routing", "a", "lut$slice", 2.046),
        step("logic", "lut$slice", "lut$slice", 0.25),
        step("routing", "lut$slice", "b", 3.0),
        step("setup", "b", "b", 0.125),
    ],
}
PIN = {**PATH, "to": "<async>"}


def net(event, *ends):
    found = [{"cell": cell, "event": to, "delay": [0.0, ns]} for cell, to, ns in ends]
    return {"event": event, "endpoints": found}


REPORT = {
    "utilization": {
        "TRELLIS_FF": {"used": 4, "available": 83_640},
        "GSR": {"used": 0, "available": 1},
    },
    "fmax": {"$glbnet$clk": {"achieved": 170.2128, "constraint": 50.0}},
    "critical_paths": [PATH, PIN],
    "detailed_net_timings": [
        net(CLOCK, ("b", CLOCK, 5.875), ("b", CLOCK, 2.0), ("c$x$y", CLOCK, 0.5)),
        net(CLOCK, ("a", CLOCK, 4.0), ("d", CLOCK, 7.0), ("tx", "<async>", 9.0)),
        net("<async>", ("a", CLOCK, 8.0)),
    ],
}


@pytest.fixture(name="found")
def found_fixture():
    return summarise(REPORT, NETLIST)


def test_what_is_not_used_is_left_out(found):
    assert found["resources"] == {"TRELLIS_FF": {"used": 4, "available": 83_640}}
    assert found["clocks"] == {"$glbnet$clk": {"achieved": 170.2128, "constraint": 50.0}}


def test_the_longest_path_by_block(found):
    (path,) = found["paths"]  # from register to register
    steps = path.pop("steps")
    assert path == {
        "clock": "$glbnet$clk",
        "ns": 5.92,
        "routing_ns": 5.05,
        "levels": 1,
        "block": "gemm.rows -> act.bank0",
    }
    assert [step["block"] for step in steps] == ["gemm.rows", *["logic"] * 2, *["act.bank0"] * 2]
    assert steps[1] == {
        **{"ns": 2.05, "type": "routing", "cell": "lut$slice", "port": "X", "block": "logic"}
    }


def test_ends_by_block_longest_first(found):
    """Paths of pins are not timed; what is made of a cell is where that is."""
    assert list(found["ends"].items()) == [
        ("top", {"ns": 7.0, "count": 1}),
        ("act.bank0", {"ns": 5.88, "count": 2}),
        ("gemm.rows", {"ns": 4.0, "count": 1}),
        ("linked.link", {"ns": 0.5, "count": 1}),
    ]


def test_a_path_within_a_block_names_it_once():
    steps = [step("clk-to-q", "a", "a", 1.0), step("routing", "a", "a", 1.0)]
    report = {**REPORT, "critical_paths": [{**PATH, "path": steps}]}
    assert summarise(report, NETLIST)["paths"][0]["block"] == "gemm.rows"
