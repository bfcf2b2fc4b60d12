"""Delays by value, and which of them a configured cell has."""

import pytest

from transept.host.timing.delays import CORNERS, DELAYS, cell_arcs, is_dedicated

REGISTERS = ("AREG", "BREG", "CREG", "DREG", "ADREG", "MREG", "PREG")


def dsp(*on, adder="FALSE", mult="MULTIPLY"):
    """Delays of a DSP48E1 with those registers."""
    parameters = {name: "1" if name in on else "0" for name in REGISTERS}
    return cell_arcs("DSP48E1", parameters | {"USE_DPORT": adder, "USE_MULT": mult})


def test_delays_by_value():
    assert {name: ns for name, (ns, _) in DELAYS.items()} == {
        **{"lut": 0.124, "inverter": 0.124, "port": 0.0},
        **{"muxf7.data": 0.223, "muxf7.select": 0.296},
        **{"muxf8.data": 0.104, "muxf8.select": 0.273},
        **{"ff.clock_to_q": 0.303, "ff.data": 0.0, "ff.enable": 0.109, "ff.reset": 0.404},
        **{"lutram.clock_to_q": 1.19, "lutram.data": 0.461},
        **{"lutram.address": 0.362, "lutram.enable": 0.654},
        **{"srl.clock_to_q": 1.472, "srl.data": 0.173, "srl.enable": 0.638},
        **{"bram.clock_to_q": 2.454, "bram.clock_to_q.registered": 0.882},
        **{"bram.address": 0.566, "bram.enable": 0.566, "bram.write": 0.532},
        **{"bram.data": 0.737, "bram.register": 0.36},
    }


def test_every_delay_has_a_source():
    assert all(source for _, source in DELAYS.values())


def test_nets_by_value():
    """ns of a net with one end and with sixteen."""
    assert {name: (round(net(1), 3), round(net(16), 3)) for name, net in CORNERS.items()} == {
        "optimistic": (0.42, 0.82),
        "nominal": (0.62, 1.3),
        "pessimistic": (0.85, 1.81),
    }


def test_a_carry_chain_by_value():
    through, rows = cell_arcs("CARRY4", {}).through, {}
    for (pin, out), ns in sorted(through.items()):
        rows.setdefault((pin, out[:-3]), []).append(ns)
    assert rows == {
        ("CI", "CO"): [0.271, 0.157, 0.228, 0.114],
        ("CI", "O"): [0.222, 0.334, 0.239, 0.313],
        ("CYINIT", "CO"): [0.536, 0.494, 0.592, 0.580],
        ("CYINIT", "O"): [0.482, 0.598, 0.584, 0.642],
        ("DI[0]", "CO"): [0.379, 0.465, 0.540, 0.526],
        ("DI[0]", "O"): [0.407, 0.556, 0.615],
        ("DI[1]", "CO"): [0.445, 0.520, 0.507],
        ("DI[1]", "O"): [0.537, 0.596],
        ("DI[2]", "CO"): [0.356, 0.398],
        ("DI[2]", "O"): [0.438],
        ("DI[3]", "CO"): [0.385],
        ("S[0]", "CO"): [0.340, 0.433, 0.512, 0.508],
        ("S[0]", "O"): [0.223, 0.400, 0.523, 0.582],
        ("S[1]", "CO"): [0.469, 0.548, 0.528],
        ("S[1]", "O"): [0.205, 0.558, 0.618],
        ("S[2]", "CO"): [0.292, 0.376],
        ("S[2]", "O"): [0.226, 0.330],
        ("S[3]", "CO"): [0.380],
        ("S[3]", "O"): [0.227],
    }
    assert ("DI[3]", "O[3]") not in through
    assert ("S[1]", "CO[0]") not in through


def test_a_flip_flop_and_a_lut():
    flop = cell_arcs("FDSE", {})
    assert flop.launch == {"Q": 0.303}
    assert (flop.capture["D"], flop.capture["CE"], flop.capture["S"]) == (0, 0.109, 0.404)
    assert cell_arcs("LUT2", {}).through == {("I0", "O"): 0.124, ("I1", "O"): 0.124}


@pytest.mark.parametrize(("register", "ns"), [("0", 2.454), ("1", 0.882)])
def test_block_memories_with_and_without_an_output_register(register, ns):
    arcs = cell_arcs("RAMB36E1", {"DOA_REG": register, "DOB_REG": "0"})
    assert (arcs.launch["DOADO"], arcs.launch["DOBDO"]) == (ns, 2.454)
    assert (arcs.capture["ADDRARDADDR"], arcs.capture["DIBDI"]) == (0.566, 0.737)


def test_lut_memories_read_by_address_and_by_clock():
    arcs = cell_arcs("RAM32M", {})
    assert arcs.through["ADDRB", "DOB"] == 0.124
    assert arcs.launch["DOB"] == 1.19
    assert (arcs.capture["ADDRD"], arcs.capture["WE"]) == (0.362, 0.654)
    assert "ADDRB" not in arcs.capture  # reads alone
    assert cell_arcs("RAM64X1D", {}).through["DPRA5", "DPO"] == 0.124
    assert cell_arcs("SRL16E", {}).launch == {"Q": 1.472}


@pytest.mark.parametrize("depth", [32, 64, 128])
def test_each_port_of_a_dual_lut_memory_has_the_address_pins_of_its_depth(depth):
    pins = range(depth.bit_length() - 1)
    expected = {("A", "SPO"), ("DPRA", "DPO")}
    expected |= {(f"A{n}", "SPO") for n in pins} | {(f"DPRA{n}", "DPO") for n in pins}
    assert set(cell_arcs(f"RAM{depth}X1D", {}).through) == expected


@pytest.mark.parametrize("depth", [32, 64, 128, 256])
def test_a_single_lut_memory_has_the_address_pins_of_its_depth(depth):
    pins = range(depth.bit_length() - 1)
    expected = {("A", "O")} | {(f"A{n}", "O") for n in pins}
    assert set(cell_arcs(f"RAM{depth}X1S", {}).through) == expected


def test_a_multiplier_without_registers_is_logic():
    arcs = dsp()
    assert not arcs.launch
    assert arcs.through["A", "P"] == 3.841
    assert arcs.through["B", "PCOUT"] == 3.851
    assert arcs.through["PCIN", "PCOUT"] == 1.713


@pytest.mark.parametrize(
    ("on", "adder", "p", "pcout"),
    [
        (("AREG", "BREG"), "FALSE", 4.009, 4.206),
        (("AREG", "BREG", "MREG"), "FALSE", 2.305, 2.5),
        (("AREG", "BREG", "MREG", "PREG"), "FALSE", 0.434, 0.478),
        (("AREG", "DREG"), "TRUE", 5.368, 5.565),
        (("DREG",), "TRUE", 5.32, 5.515),
        (("ADREG", "DREG", "BREG"), "TRUE", 3.813, 4.008),
        (("CREG",), "FALSE", 2.291, 2.488),
    ],
)
def test_the_last_register_of_a_multiplier_counts(on, adder, p, pcout):
    assert dsp(*on, adder=adder).launch == {"P": p, "PCOUT": pcout}


@pytest.mark.parametrize(
    ("on", "adder", "port", "ns"),
    [
        (("AREG", "MREG"), "FALSE", "A", 0.362),
        (("MREG",), "FALSE", "A", 1.928),
        (("PREG",), "FALSE", "A", 3.722),
        (("MREG",), "TRUE", "A", 3.288),
        (("ADREG", "MREG"), "TRUE", "A", 1.756),
        (("ADREG", "MREG"), "TRUE", "D", 1.626),
        (("DREG", "ADREG"), "TRUE", "D", 0.413),
        (("MREG",), "TRUE", "D", 3.158),
        (("PREG",), "FALSE", "B", 3.536),
        (("MREG",), "FALSE", "B", 1.743),
        (("CREG",), "FALSE", "C", 0.233),
        (("PREG",), "FALSE", "C", 1.701),
        (("PREG",), "FALSE", "PCIN", 1.4),
    ],
)
def test_the_first_register_of_a_multiplier_counts(on, adder, port, ns):
    arcs = dsp(*on, adder=adder)
    assert arcs.capture[port] == ns
    assert not any(pin == port for pin, _ in arcs.through)


def test_an_adder_alone_has_no_multiplier():
    assert dsp("PREG", mult="NONE").capture["A"] == 1.958
    assert dsp("MREG", "PREG", mult="NONE").capture["A"] == 1.958
    assert dsp("AREG", mult="NONE").launch == {"P": 2.215, "PCOUT": 2.411}


def test_unknown_cells_are_named():
    with pytest.raises(ValueError, match="cell LATCH has no delays, there are LUT1, LUT2"):
        cell_arcs("LATCH", {})


@pytest.mark.parametrize(
    ("driver", "end", "fanout", "dedicated"),
    [
        (("LUT6", "O"), ("FDRE", "D"), 1, True),
        (("LUT6", "O"), ("FDRE", "D"), 2, False),
        (("LUT6", "O"), ("FDRE", "CE"), 1, False),
        (("LUT6", "O"), ("CARRY4", "S[2]"), 3, True),
        (("INV", "O"), ("CARRY4", "S[2]"), 1, True),
        (("LUT6", "O"), ("CARRY4", "DI[2]"), 1, False),
        (("FDRE", "Q"), ("CARRY4", "S[2]"), 1, False),
        (("LUT6", "O"), ("MUXF7", "I1"), 1, True),
        (("LUT6", "O"), ("MUXF7", "S"), 1, False),
        (("MUXF7", "O"), ("MUXF8", "I0"), 1, True),
        (("MUXF8", "O"), ("FDRE", "D"), 1, False),
        (("CARRY4", "CO[3]"), ("CARRY4", "CI"), 2, True),
        (("CARRY4", "CO[2]"), ("CARRY4", "CI"), 1, False),
        (("CARRY4", "O[3]"), ("FDRE", "D"), 1, False),
        (("DSP48E1", "PCOUT[4]"), ("DSP48E1", "PCIN[4]"), 1, True),
        (("DSP48E1", "P[4]"), ("DSP48E1", "C[4]"), 1, False),
        (("LUT6", "O"), ("LUT6", "I0"), 1, False),
    ],
)
def test_wires_inside_a_slice_cost_nothing(driver, end, fanout, dedicated):
    assert is_dedicated(driver, end, fanout) is dedicated
