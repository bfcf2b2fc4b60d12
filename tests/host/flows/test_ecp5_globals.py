"""Which nets become global, and that they are the same nets."""

import copy

from transept.host.flows.ecp5_globals import FEWEST, MOST, promote


def flop(**pins):
    return {"type": "TRELLIS_FF", "connections": {"CLK": [2], **pins}}


def netlist(**cells):
    bits = {bit for cell in cells.values() for pin in cell["connections"].values() for bit in pin}
    names = {f"n{bit}": {"bits": [bit]} for bit in bits if isinstance(bit, int)}
    names["constant"] = {"bits": ["0"]}
    return {"modules": {"top": {"cells": cells, "netnames": names}}}


def busy(pin, net, count=FEWEST):
    return {f"{pin}{net}_{number}": flop(**{pin: [net]}) for number in range(count)}


def cells(design):
    return design["modules"]["top"]["cells"]


def buffers(design):
    """Of the net before it, the net after it."""
    found = (cell for cell in cells(design).values() if cell["type"] == "DCCA")
    return {cell["connections"]["CLKI"][0]: cell["connections"]["CLKO"][0] for cell in found}


def test_the_ends_of_a_busy_net_move_behind_a_buffer():
    lut = {"type": "LUT4", "connections": {"A": [7], "Z": [8]}}
    data = flop(DI=[7], CE=[7])  # one enable is one end
    before = netlist(lut=lut, data=data, **busy("LSR", 7))
    kept = copy.deepcopy(before)
    after = promote(before, "top")
    assert before == kept
    (new,) = buffers(after).values()
    assert buffers(after) == {7: new}
    assert new == 9  # the first number that is free
    assert cells(after)["LSR7_0"]["connections"] == {"CLK": [2], "LSR": [new]}
    assert cells(after)["lut"] == lut
    assert cells(after)["data"] == data
    assert cells(after)[f"global${new}"] == {
        **{"type": "DCCA", "hide_name": 0, "parameters": {}, "attributes": {}},
        "port_directions": {"CLKI": "input", "CLKO": "output", "CE": "input"},
        "connections": {"CLKI": [7], "CLKO": [new], "CE": ["1"]},
    }
    names = after["modules"]["top"]["netnames"]
    assert names[f"global_net${new}"] == {"hide_name": 0, "bits": [new], "attributes": {}}


def test_resets_and_enables_of_one_net_are_counted_apart():
    after = promote(netlist(**busy("LSR", 7), **busy("CE", 7, FEWEST - 1)), "top")
    assert cells(after)["CE7_0"]["connections"]["CE"] == [7]
    assert cells(after)["LSR7_0"]["connections"]["LSR"] != [7]


def test_what_has_few_ends_or_no_net_stays():
    before = netlist(**busy("CE", 7, FEWEST - 1), **busy("LSR", "0"))
    assert promote(before, "top") == before


def test_the_busiest_are_taken_and_no_more_than_there_are_globals():
    many = [busy("CE", 10 + number, FEWEST + number) for number in range(MOST + 2)]
    after = promote(netlist(**{name: cell for of in many for name, cell in of.items()}), "top")
    assert set(buffers(after)) == {12 + number for number in range(MOST)}
    assert MOST == 7  # of eight, one is the clock's
