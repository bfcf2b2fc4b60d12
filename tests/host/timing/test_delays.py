"""Delays by value, and which of them a configured cell has."""

import pytest

from transept.host.timing.delays import CORNERS, DELAYS, Arcs, cell_arcs, is_dedicated

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


def arcs(launch=(), capture=(), through=(), ignored=()):
    """Pins with one delay are told together."""
    told = [{pin: ns for pins, ns in part for pin in pins.split()} for part in (launch, capture)]
    ways = {(pin, out): ns for pins, out, ns in through for pin in pins.split()}
    return Arcs(*told, ways, frozenset(ignored))


FLOP = arcs([("Q", 0.303)], [("D", 0), ("CE", 0.109), ("R S CLR PRE", 0.404)], ignored={"C"})
QUAD = arcs(
    [("DOA DOB DOC DOD", 1.19)],
    [("DIA DIB DIC DID", 0.461), ("ADDRD", 0.362), ("WE", 0.654)],
    [(f"ADDR{port}", f"DO{port}", 0.124) for port in "ABCD"],
    {"WCLK"},
)
SMALL = {
    **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), FLOP),
    **dict.fromkeys(("RAM32M", "RAM64M"), QUAD),
    "LUT1": arcs(through=[("I0", "O", 0.124)]),
    "LUT6": arcs(through=[("I0 I1 I2 I3 I4 I5", "O", 0.124)]),
    "INV": arcs(through=[("I", "O", 0.124)]),
    **dict.fromkeys(("BUFG", "IBUF", "OBUF"), arcs(through=[("I", "O", 0)])),
    "MUXF7": arcs(through=[("I0 I1", "O", 0.223), ("S", "O", 0.296)]),
    "MUXF8": arcs(through=[("I0 I1", "O", 0.104), ("S", "O", 0.273)]),
    "SRL16E": arcs(
        [("Q", 1.472)], [("D", 0.173), ("CE", 0.638)], [("A0 A1 A2 A3", "Q", 0.124)], {"CLK"}
    ),
    "SRLC32E": arcs(
        [("Q Q31", 1.472)], [("D", 0.173), ("CE", 0.638)], [("A", "Q", 0.124)], {"CLK"}
    ),
    "RAM32X1D": arcs(
        [("SPO DPO", 1.19)],
        [("D", 0.461), ("A A0 A1 A2 A3 A4", 0.362), ("WE", 0.654)],
        [
            ("A A0 A1 A2 A3 A4", "SPO", 0.124),
            ("DPRA DPRA0 DPRA1 DPRA2 DPRA3 DPRA4", "DPO", 0.124),
        ],
        {"WCLK"},
    ),
    "RAM32X1S": arcs(
        [("O", 1.19)],
        [("D", 0.461), ("A A0 A1 A2 A3 A4", 0.362), ("WE", 0.654)],
        [("A A0 A1 A2 A3 A4", "O", 0.124)],
        {"WCLK"},
    ),
}


@pytest.mark.parametrize("kind", SMALL)
def test_all_that_a_cell_of_a_slice_has(kind):
    assert cell_arcs(kind, {}) == SMALL[kind]


@pytest.mark.parametrize("inputs", range(1, 7))
def test_a_lut_has_its_inputs(inputs):
    assert set(cell_arcs(f"LUT{inputs}", {}).through) == {(f"I{n}", "O") for n in range(inputs)}


@pytest.mark.parametrize("kind", ["RAMB18E1", "RAMB36E1"])
def test_all_that_a_block_memory_has(kind):
    assert cell_arcs(kind, {"DOA_REG": "0", "DOB_REG": "1"}) == arcs(
        [("DOADO DOPADOP", 2.454), ("DOBDO DOPBDOP", 0.882)],
        [
            ("ADDRARDADDR ADDRBWRADDR ENARDEN ENBWREN", 0.566),
            ("WEA WEBWE", 0.532),
            ("DIADI DIBDI DIPADIP DIPBDIP", 0.737),
            ("REGCEAREGCE REGCEB RSTREGARSTREG RSTREGB RSTRAMARSTRAM RSTRAMB", 0.36),
        ],
        ignored={"CLKARDCLK", "CLKBWRCLK"},
    )


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


#: Ways to P, to PCOUT, and to the register P, of inputs that reach the adder alone.
ADDER = {
    "C": (1.820, 2.016, 1.701),
    "PCIN": (1.518, 1.713, 1.400),
    "CARRYIN": (1.416, 1.613, 1.298),
    "OPMODE": (2.326, 2.522, 2.209),
    "ALUMODE": (2.098, 2.292, 1.978),
}
#: The same of factors: with a pre-adder, without, and without a multiplier.
FACTORS = {
    ("TRUE", "MULTIPLY"): {
        "A": (5.201, 5.396, 5.081),
        "B": (3.656, 3.851, 3.536),
        "D": (5.070, 5.046, 4.951),
    },
    ("FALSE", "MULTIPLY"): {"A": (3.841, 4.036, 3.722), "B": (3.656, 3.851, 3.536)},
    ("FALSE", "NONE"): {"A": (2.077, 2.271, 1.958), "B": (2.057, 2.252, 1.938)},
}
CONTROL = {
    **{"CEA1": 0.497, "CEA2": 0.497, "CEB1": 0.514, "CEB2": 0.514, "CEC": 0.414},
    **{"CED": 0.513, "CEAD": 0.426, "CEM": 0.266, "CEP": 0.524},
    **{"RSTA": 0.507, "RSTB": 0.543, "RSTC": 0.084, "RSTD": 0.589, "RSTM": 0.270, "RSTP": 0.347},
}
UNTIMED = {"ACIN", "BCIN", "CARRYCASCIN", "MULTSIGNIN", "INMODE", "CARRYINSEL", "CLK"}


@pytest.mark.parametrize(("adder", "mult"), FACTORS)
def test_a_multiplier_without_registers_is_logic(adder, mult):
    """With a register behind it, all ends there."""
    ways = FACTORS[adder, mult] | ADDER
    through = {
        (port, out): ns
        for port, (*of, _) in ways.items()
        for out, ns in zip(("P", "PCOUT"), of, strict=True)
    }
    assert dsp(adder=adder, mult=mult) == Arcs({}, CONTROL, through, frozenset(UNTIMED))
    setup = {port: ns for port, (*_, ns) in ways.items()}
    launch = {"P": 0.434, "PCOUT": 0.478}
    found = dsp("PREG", adder=adder, mult=mult)
    assert found == Arcs(launch, CONTROL | setup, {}, frozenset(UNTIMED))


@pytest.mark.parametrize(
    ("on", "adder", "mult", "setup"),
    [
        (("MREG",), "TRUE", "MULTIPLY", {"A": 3.288, "B": 1.743, "D": 3.158}),
        (("MREG",), "FALSE", "MULTIPLY", {"A": 1.928, "B": 1.743}),
        (("MREG",), "FALSE", "NONE", {}),
        (("ADREG",), "TRUE", "MULTIPLY", {"A": 1.756, "D": 1.626}),
        (("ADREG", "MREG"), "TRUE", "MULTIPLY", {"A": 1.756, "B": 1.743, "D": 1.626}),
        (("ADREG",), "FALSE", "MULTIPLY", {}),
        (("AREG", "BREG", "CREG", "DREG"), "TRUE", "MULTIPLY",
         {"A": 0.362, "B": 0.450, "C": 0.233, "D": 0.413}),
    ],
)  # fmt: skip
def test_which_inputs_end_in_a_multiplier(on, adder, mult, setup):
    found = dsp(*on, adder=adder, mult=mult)
    assert found.capture == CONTROL | setup
    ways = FACTORS[adder, mult] | ADDER
    assert {port for port, _ in found.through} == ways.keys() - setup.keys()


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
        (("CREG", "MREG"), "FALSE", 2.305, 2.5),
        (("CREG", "PREG"), "FALSE", 0.434, 0.478),
        (("ADREG",), "TRUE", 3.684, 3.879),
        (("ADREG", "AREG"), "TRUE", 3.684, 3.879),
        (("ADREG", "MREG"), "TRUE", 2.305, 2.5),
        (("BREG",), "FALSE", 3.813, 4.008),
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
    assert dsp("BREG", "MREG", mult="NONE").launch == {"P": 2.191, "PCOUT": 2.387}
    assert dsp("MREG", mult="NONE").launch == {}


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
