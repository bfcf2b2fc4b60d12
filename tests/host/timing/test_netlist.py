"""What is read of a JSON netlist."""

import pytest

from transept.host.timing.netlist import Cell, read_netlist


def cell(kind, name="c", hidden=0, attributes=None, **pins):
    return {
        "hide_name": hidden,
        "type": kind,
        "parameters": {"INIT": "10"},
        "attributes": attributes or {},
        "port_directions": {port: "output" if port in "OQ" else "input" for port in pins},
        "connections": pins,
    }


def design(**cells):
    ports = {"a": {"direction": "input", "bits": [2, 3]}}
    ports["z"] = {"direction": "output", "bits": [4, "0"]}
    return {"modules": {"top": {"ports": ports, "cells": cells}, "LUT2": {}}}


def read_one(name, found):
    return read_netlist(design(**{name: found}), "top").cells[0]


def test_pins_have_nets_and_constants_have_none():
    netlist = read_netlist(design(c=cell("LUT2", I0=[2], I1=["1"], O=[4])), "top")
    assert netlist.inputs == {"a": (2, 3)}
    assert netlist.outputs == {"z": (4, None)}
    pins = {"I0": (2,), "I1": (None,), "O": (4,)}
    assert netlist.cells == (Cell("c", "LUT2", {"INIT": "10"}, pins, frozenset({"O"})),)


def test_notes_of_the_synthesiser_are_no_cells():
    assert not read_netlist(design(core=cell("$scopeinfo")), "top").cells


def test_a_scope_is_noted_or_in_a_public_name():
    noted = cell("FDRE", hidden=1, attributes={"scopename": "core gemm"})
    assert read_one("$auto$1", noted).scope == ("core", "gemm")
    assert read_one("core.act.bank0.page.0", cell("RAMB36E1")).scope == (
        *("core", "act", "bank0", "page"),
    )
    assert read_one("$abc$1.genblk1.x", cell("MUXF7", hidden=1)).scope == ()


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("rtl/a.py:7|/x/share/xilinx/ff_map.v:68.41-68.95", "rtl/a.py:7"),
        ("/x/share/xilinx/ff_map.v:1.1-2.2", ""),
        ("/x/python3.11/contextlib.py:144", ""),
        ("/x/python3.11/contextlib.py:144|rtl/a.py:7", "rtl/a.py:7"),
        ("", ""),
    ],
)
def test_a_source_is_the_first_in_the_rtl(text, source):
    assert read_one("c", cell("FDRE", attributes={"src": text})).source == source


def test_a_missing_module_is_named():
    with pytest.raises(ValueError, match=r"no module 'core' in the netlist, there is top, LUT2"):
        read_netlist(design(), "core")
