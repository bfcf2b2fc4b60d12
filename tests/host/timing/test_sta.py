"""Longest paths of netlists small enough to add up by hand."""

import numpy as np
import pytest

from transept.host.timing.delays import CORNERS, NetDelay
from transept.host.timing.graph import build_graph
from transept.host.timing.netlist import Cell, Netlist
from transept.host.timing.sta import analyse

#: Sums stay easy: 1 ns for a net, and 1 more for each doubling of its ends.
PLAIN = NetDelay(1, 1)
CLOCK = 0


def make(kind, name, out="O", parameters=None, **pins):
    pins = {port: nets if isinstance(nets, tuple) else (nets,) for port, nets in pins.items()}
    return Cell(name, kind, parameters or {}, pins, frozenset({out} & set(pins)))


def flop(name, d, q, **pins):
    return make("FDRE", name, "Q", C=CLOCK, D=d, Q=q, **pins)


def netlist(*cells, inputs=(), outputs=()):
    return Netlist(
        cells, {f"i{net}": (net,) for net in inputs}, {f"o{net}": (net,) for net in outputs}
    )


def longest(*cells, **ports):
    return analyse(build_graph(netlist(*cells, **ports)), PLAIN).longest


def test_two_flip_flops_and_a_net():
    assert longest(flop("a", None, 1), flop("b", 1, 2)) == pytest.approx(0.303 + 1)


def test_a_net_costs_more_with_its_ends():
    cells = [flop("a", None, 1), *(flop(f"b{i}", 1, 10 + i) for i in range(4))]
    assert longest(*cells) == pytest.approx(0.303 + 3)


def test_a_lut_reaches_its_own_flip_flop_for_nothing():
    cells = [flop("a", None, 1), make("LUT1", "l", I0=1, O=2), flop("b", 2, 3)]
    assert longest(*cells) == pytest.approx(0.303 + 1 + 0.124)
    held = [*cells[:2], flop("b", None, 3, CE=2)]
    assert longest(*held) == pytest.approx(0.303 + 1 + 0.124 + 1 + 0.109)


def test_the_slower_of_two_ways_counts():
    cells = [
        flop("a", None, 1),
        make("LUT1", "l", I0=1, O=2),
        make("LUT2", "m", I0=1, I1=2, O=3),
        flop("b", None, 4, R=3),
    ]
    # the net of a has two ends
    assert longest(*cells) == pytest.approx(0.303 + 2 + 0.124 + 1 + 0.124 + 1 + 0.404)
    graph = build_graph(netlist(*cells))
    timing = analyse(graph, PLAIN)
    way = timing.way(int(timing.required.argmax()))
    assert [graph.cells[graph.driver[net]].name for net in way.nets] == ["a", "l", "m"]


def test_a_carry_chain_passes_from_slice_to_slice():
    first = make("CARRY4", "c", "CO", S=(2, None, None, None), CO=(None, None, None, 3))
    second = make("CARRY4", "d", "O", CI=3, O=(None, None, None, 4))
    cells = [flop("a", None, 1), make("LUT1", "l", I0=1, O=2), first, second, flop("b", 4, 5)]
    expected = 0.303 + 1 + 0.124 + 0.508 + 0.313 + 1
    assert longest(*cells) == pytest.approx(expected)


def test_cascades_of_multipliers_cost_no_net():
    registers = dict.fromkeys(("CREG", "DREG", "ADREG", "MREG"), "0")
    registers |= {"USE_DPORT": "FALSE", "USE_MULT": "MULTIPLY"}
    head = registers | {"AREG": "1", "BREG": "1", "PREG": "0"}
    tail = registers | {"AREG": "1", "BREG": "1", "PREG": "1"}
    cells = [
        make("DSP48E1", "h", "PCOUT", head, CLK=CLOCK, PCOUT=(1, 2)),
        make("DSP48E1", "t", "P", tail, CLK=CLOCK, PCIN=(1, 2), P=(3, 4)),
    ]
    assert longest(*cells) == pytest.approx(4.206 + 1.4)


def test_memories_start_and_end_paths():
    cells = [
        make("RAM32M", "m", "DOA", WCLK=CLOCK, ADDRA=(1, 2), DOA=(3, 4)),
        flop("a", None, 1),
        make("RAMB18E1", "r", "DOADO", {"DOA_REG": "0", "DOB_REG": "0"}, ADDRARDADDR=3, DOADO=5),
        flop("b", 5, 6),
    ]
    by_address = 0.303 + 1 + 0.124 + 1 + 0.566
    assert longest(*cells) == pytest.approx(max(by_address, 1.19 + 1 + 0.566, 2.454 + 1))


def test_ports_stand_for_registers_outside():
    cells = [make("LUT2", "l", I0=1, I1=2, O=3)]
    assert longest(*cells, inputs=(1, 2), outputs=(3,)) == pytest.approx(1 + 0.124 + 1)


def test_the_clock_is_no_path():
    cells = [make("BUFG", "g", I=9, O=CLOCK), flop("a", None, 1)]
    assert longest(*cells, inputs=(9,)) == 0


def test_the_way_has_its_cells_and_times():
    graph = build_graph(
        netlist(
            flop("a", None, 1),
            make("LUT1", "l", I0=1, O=2),
            flop("b", 2, 3),
            flop("c", None, 4, R=2),
        )
    )
    timing = analyse(graph, PLAIN)
    way = timing.way(int(timing.required.argmax()))
    names = [graph.cells[graph.driver[net]].name for net in way.nets]
    assert (names, graph.cells[way.start].name, graph.cells[way.end].name) == (
        *(["a", "l"], "a", "c"),
    )
    assert way.pin == "R"
    assert way.times == pytest.approx((0.303, 1.427))
    assert way.ns == pytest.approx(1.427 + 2 + 0.404)


def test_a_way_starts_where_the_clock_is_later_than_the_address():
    shift = make("SRL16E", "s", "Q", CLK=CLOCK, A0=1, Q=2)
    graph = build_graph(netlist(flop("a", None, 1), shift, flop("b", 2, 3)))
    timing = analyse(graph, PLAIN)
    assert timing.longest == pytest.approx(1.472 + 1)
    assert graph.cells[timing.way(int(timing.required.argmax())).start].name == "s"


def test_only_chosen_registers_start():
    cells = [flop("a", None, 1), make("LUT1", "l", I0=1, O=2), flop("b", None, 3)]
    graph = build_graph(netlist(*cells, flop("c", 2, 4), flop("d", 3, 5)))
    starts = np.array([graph.cells[cell].name == "b" for cell in graph.launch_cell])
    timing = analyse(graph, PLAIN, starts)
    assert timing.longest == pytest.approx(1.303)
    unreached = [graph.cells[cell].name for cell in graph.end_cell].index("c")
    with pytest.raises(ValueError, match="nothing arrives at c"):
        timing.way(unreached)


def test_worse_nets_make_longer_paths():
    graph = build_graph(netlist(flop("a", None, 1), flop("b", 1, 2)))
    found = [analyse(graph, net).longest for net in CORNERS.values()]
    assert found == pytest.approx([0.723, 0.923, 1.153])


def test_a_graph_by_value():
    """Nets by who drives them first: cells, then ports; edges by level, then by what they reach."""
    graph = build_graph(
        netlist(
            flop("a", 4, 1, CE=5),
            make("LUT3", "l", I0=1, I1=5, I2=None, O=2),
            make("LUT2", "m", I0=2, I1=1, O=3),
            make("LUT1", "n", I0=2, O=4),
            inputs=(5,),
            outputs=(3,),
        )
    )
    assert [cell.name for cell in graph.cells] == ["a", "l", "m", "n", "i5", "o3"]
    found = {
        name: value.tolist() for name, value in vars(graph).items() if hasattr(value, "tolist")
    }
    assert found == {
        "driver": [0, 1, 2, 3, 4],  # of the nets 1, 2, 3, 4, 5
        "fanout": [2, 2, 1, 1, 2],
        **{"launch_net": [0, 4], "launch_ns": [0.303, 0.0], "launch_cell": [0, 4]},
        **{"edge_source": [0, 4, 1, 0, 1], "edge_sink": [1, 1, 2, 2, 3]},
        **{"edge_ns": [0.124] * 5, "edge_wired": [1] * 5},
        **{"edge_first": [0, 0, 2, 4, 0], "edge_count": [0, 2, 2, 1, 0]},
        **{"end_net": [3, 4, 2], "end_ns": [0, 0.109, 0], "end_wired": [0, 1, 1]},
        "end_cell": [0, 0, 5],
    }
    assert graph.levels == ((0, 2), (2, 5))
    assert graph.end_pin == ("D", "CE", "o3")
    assert build_graph(netlist()).levels == ()


def test_inputs_of_outputs_that_drive_nothing_are_no_ends():
    """By the name of a port, or of one of its bits."""
    carry = make("CARRY4", "c", "O", DI=(None, None, None, 1), O=(2, None, None, None))
    memory = make("RAM32M", "m", "DOA", WCLK=CLOCK, ADDRB=(1, 3), DOA=(4, 5))
    graph = build_graph(netlist(carry, memory, inputs=(1, 3)))
    assert (graph.end_pin, graph.edge_source.size) == ((), 0)


def test_the_delays_of_a_cell_are_those_of_its_parameters():
    def memory(name, register, address, data):
        told = {"DOA_REG": register, "DOB_REG": "0"}
        return make("RAMB18E1", name, "DOADO", told, ADDRARDADDR=address, DOADO=data)

    cells = [memory("r", "1", None, 1), memory("s", "0", None, 2)]
    assert longest(*cells, flop("b", 1, 3)) == pytest.approx(0.882 + 1)
    assert longest(*cells, flop("b", 2, 3)) == pytest.approx(2.454 + 1)


def test_circular_logic_is_named():
    cells = [make("LUT2", "l", I0=1, I1=3, O=2), make("LUT1", "m", I0=2, O=3)]
    with pytest.raises(ValueError, match=r"circular logic through (l|m)"):
        build_graph(netlist(*cells, inputs=(1,)))


def test_a_cell_that_drives_itself_is_named():
    with pytest.raises(ValueError, match=r"circular logic through l$"):
        build_graph(netlist(make("LUT1", "l", I0=2, O=2)))


def test_two_drivers_are_named():
    cells = [make("LUT1", "l", I0=1, O=2), make("LUT1", "m", I0=1, O=2)]
    with pytest.raises(ValueError, match="net 2 is driven by l and m"):
        build_graph(netlist(*cells, inputs=(1,)))


def test_an_input_without_a_delay_is_named():
    cells = [make("LUT1", "l", I0=1, O=2), make("SRL16E", "s", "Q", X=2, Q=3)]
    with pytest.raises(ValueError, match="input X of SRL16E s has no delay"):
        build_graph(netlist(*cells, inputs=(1,)))
