"""Delays of the cells and nets of Xilinx 7-series fabric, speed grade -1, in nanoseconds.

Cells have the slowest corner of an open database of the parts; nets are assumed by their fan-out,
because where they run is not known before place and route. ``DELAYS`` names every figure and where
it is from; ``cell_arcs`` says which of them a cell has.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

__all__ = [
    "ASSUMPTIONS",
    "CORNERS",
    "DELAYS",
    "Arcs",
    "NetDelay",
    "cell_arcs",
    "is_dedicated",
]

_SLICE = "prjxray-db zynq7/timings/CLBLL_L.sdf"
_SLICEM = "prjxray-db zynq7/timings/CLBLM_L.sdf"
_DSP = "prjxray-db zynq7/timings/DSP_L.sdf"
_BRAM = "Yosys 0.70 techlibs/xilinx/cells_sim.v, of prjxray-db artix7/timings/BRAM_L.sdf"
_MODEL = "assumption of this model"

#: Every delay that is one figure: name, nanoseconds, source. Those of CARRY4 and of DSP48E1 depend
#: on the pin and on the registers in use and follow below, from the same database.
DELAYS: dict[str, tuple[float, str]] = {
    "lut": (0.124, _SLICE),
    "inverter": (0.124, "a LUT: " + _SLICE),
    "muxf7.data": (0.223, _SLICE),
    "muxf7.select": (0.296, _SLICE),
    "muxf8.data": (0.104, _SLICE),
    "muxf8.select": (0.273, _SLICE),
    "ff.clock_to_q": (0.303, _SLICE),
    "ff.data": (0.0, "negative there: " + _SLICE),
    "ff.enable": (0.109, _SLICE),
    "ff.reset": (0.404, _SLICE),
    "lutram.clock_to_q": (1.190, _SLICEM),
    "lutram.data": (0.461, "Yosys 0.70 cells_sim.v, of prjxray-db artix7/timings/CLBLM_R.sdf"),
    "lutram.address": (0.362, _SLICEM),
    "lutram.enable": (0.654, _SLICEM),
    "srl.clock_to_q": (1.472, "Yosys 0.70 cells_sim.v, of prjxray-db artix7/timings/CLBLM_R.sdf"),
    "srl.data": (0.173, "Yosys 0.70 cells_sim.v, of prjxray-db artix7/timings/CLBLM_R.sdf"),
    "srl.enable": (0.638, _SLICEM),
    "bram.clock_to_q": (2.454, _BRAM),
    "bram.clock_to_q.registered": (0.882, _BRAM),
    "bram.address": (0.566, _BRAM),
    "bram.write": (0.532, _BRAM),
    "bram.data": (0.737, _BRAM),
    "bram.register": (0.360, _BRAM),
    "bram.enable": (0.566, "as the address: the database has none"),
    "port": (0.0, _MODEL),
}

#: What the model takes for granted.
ASSUMPTIONS = (
    "a net costs base + slope * log2(fan-out), whoever drives it and wherever its ends lie",
    "a LUT drives CARRY4 S, MUXF7, or as its only end the data of a flip-flop inside its slice: 0",
    "MUXF7 to MUXF8, CARRY4 CO[3] to CI and the cascades of DSP48E1 are wires of their own: 0",
    "one clock, no skew, no uncertainty; ports start and end at registers outside",
    "registers inside one DSP48E1 are not looked at (at most 5.1 ns)",
)


@dataclass(frozen=True)
class NetDelay:
    """Nanoseconds of a net with so many ends."""

    base: float
    slope: float

    def __call__(self, fanout: int) -> float:
        """base + slope * log2(fan-out)."""
        return self.base + self.slope * math.log2(fanout)


#: The three net models. Blocks routed on an ECP5 came to 1.06 to 1.2 times the optimistic one.
CORNERS = {
    "optimistic": NetDelay(0.42, 0.10),
    "nominal": NetDelay(0.62, 0.17),
    "pessimistic": NetDelay(0.85, 0.24),
}


@dataclass(frozen=True)
class Arcs:
    """Delays of one cell, by pin: ``PORT`` for all its bits, or ``PORT[i]``.

    launch: clock to output; capture: setup of an input before the clock; through: input to output;
    ignored: inputs without timing, clocks and configuration.
    """

    launch: Mapping[str, float]
    capture: Mapping[str, float]
    through: Mapping[tuple[str, str], float]
    ignored: frozenset[str] = frozenset()


def _ns(name: str) -> float:
    return DELAYS[name][0]


def _all(names: Iterable[str], ns: float) -> dict[str, float]:
    return dict.fromkeys(names, ns)


# --- slices --------------------------------------------------------------------------------------


def _lut(inputs: int) -> Arcs:
    return Arcs({}, {}, {(f"I{i}", "O"): _ns("lut") for i in range(inputs)})


def _buffer(ns: float) -> Arcs:
    return Arcs({}, {}, {("I", "O"): ns})


def _mux(kind: str) -> Arcs:
    data, select = _ns(f"{kind}.data"), _ns(f"{kind}.select")
    return Arcs({}, {}, {("I0", "O"): data, ("I1", "O"): data, ("S", "O"): select})


def _flip_flop() -> Arcs:
    resets = _all(("R", "S", "CLR", "PRE"), _ns("ff.reset"))
    capture = {"D": _ns("ff.data"), "CE": _ns("ff.enable"), **resets}
    return Arcs({"Q": _ns("ff.clock_to_q")}, capture, {}, frozenset({"C"}))


#: CARRY4, CLBLL_L.sdf: rows are inputs, columns the outputs of bits 0 to 3.
_CARRY = {
    "O": {
        "CYINIT": (0.482, 0.598, 0.584, 0.642),
        "CI": (0.222, 0.334, 0.239, 0.313),
        "DI[0]": (None, 0.407, 0.556, 0.615),
        "DI[1]": (None, None, 0.537, 0.596),
        "DI[2]": (None, None, None, 0.438),
        "S[0]": (0.223, 0.400, 0.523, 0.582),
        "S[1]": (None, 0.205, 0.558, 0.618),
        "S[2]": (None, None, 0.226, 0.330),
        "S[3]": (None, None, None, 0.227),
    },
    "CO": {
        "CYINIT": (0.536, 0.494, 0.592, 0.580),
        "CI": (0.271, 0.157, 0.228, 0.114),
        "DI[0]": (0.379, 0.465, 0.540, 0.526),
        "DI[1]": (None, 0.445, 0.520, 0.507),
        "DI[2]": (None, None, 0.356, 0.398),
        "DI[3]": (None, None, None, 0.385),
        "S[0]": (0.340, 0.433, 0.512, 0.508),
        "S[1]": (None, 0.469, 0.548, 0.528),
        "S[2]": (None, None, 0.292, 0.376),
        "S[3]": (None, None, None, 0.380),
    },
}


def _carry() -> Arcs:
    through = {
        (pin, f"{port}[{bit}]"): ns
        for port, rows in _CARRY.items()
        for pin, row in rows.items()
        for bit, ns in enumerate(row)
        if ns is not None
    }
    # the last bit's data does not reach the last sum
    return Arcs({}, {}, through)


# --- memories ------------------------------------------------------------------------------------


def _lut_memory(reads: Mapping[str, Iterable[str]], data: Iterable[str], write: str) -> Arcs:
    """reads: output to the pins of its address; write: the output whose address also writes."""
    through = {(pin, out): _ns("lut") for out, pins in reads.items() for pin in pins}
    capture = {
        **_all(data, _ns("lutram.data")),
        **_all(reads[write], _ns("lutram.address")),
        "WE": _ns("lutram.enable"),
    }
    launch = _all(reads, _ns("lutram.clock_to_q"))
    return Arcs(launch, capture, through, frozenset({"WCLK"}))


def _quad_memory() -> Arcs:
    reads = {f"DO{port}": [f"ADDR{port}"] for port in "ABCD"}
    return _lut_memory(reads, [f"DI{port}" for port in "ABCD"], "DOD")


def _dual_memory(bits: int) -> Arcs:
    reads = {
        "SPO": [f"A{i}" for i in range(bits)] + ["A"],
        "DPO": [f"DPRA{i}" for i in range(bits)] + ["DPRA"],
    }
    return _lut_memory(reads, ["D"], "SPO")


def _single_memory(bits: int) -> Arcs:
    return _lut_memory({"O": [f"A{i}" for i in range(bits)] + ["A"]}, ["D"], "O")


def _shift_register(address: Iterable[str], outputs: Iterable[str]) -> Arcs:
    return Arcs(
        _all(outputs, _ns("srl.clock_to_q")),
        {"D": _ns("srl.data"), "CE": _ns("srl.enable")},
        {(pin, "Q"): _ns("lut") for pin in address},
        frozenset({"CLK"}),
    )


def _block_memory(parameters: Mapping[str, str]) -> Arcs:
    launch: dict[str, float] = {}
    for port in "AB":
        registered = int(parameters[f"DO{port}_REG"], 2)
        ns = _ns("bram.clock_to_q.registered" if registered else "bram.clock_to_q")
        launch |= _all((f"DO{port}DO", f"DOP{port}DOP"), ns)
    capture = {
        **_all(("ADDRARDADDR", "ADDRBWRADDR"), _ns("bram.address")),
        **_all(("ENARDEN", "ENBWREN"), _ns("bram.enable")),
        **_all(("WEA", "WEBWE"), _ns("bram.write")),
        **_all(("DIADI", "DIBDI", "DIPADIP", "DIPBDIP"), _ns("bram.data")),
        **_all(("REGCEAREGCE", "REGCEB", "RSTREGARSTREG", "RSTREGB"), _ns("bram.register")),
        **_all(("RSTRAMARSTRAM", "RSTRAMB"), _ns("bram.register")),
    }
    return Arcs(launch, capture, {}, frozenset({"CLKARDCLK", "CLKBWRCLK"}))


# --- DSP48E1 -------------------------------------------------------------------------------------

#: An input on its way to P and PCOUT without a register, and its setup at P. A and D go through
#: the pre-adder ("with") or not ("without"), or A through no multiplier at all ("none").
_DSP_THROUGH = {
    ("A", "with"): (5.201, 5.396, 5.081),
    ("A", "without"): (3.841, 4.036, 3.722),
    ("A", "none"): (2.077, 2.271, 1.958),
    ("B", "with"): (3.656, 3.851, 3.536),
    ("B", "without"): (3.656, 3.851, 3.536),
    ("B", "none"): (2.057, 2.252, 1.938),
    ("D", "with"): (5.070, 5.046, 4.951),
}
#: The same for what goes to the adder alone.
_DSP_ADDER = {
    "C": (1.820, 2.016, 1.701),
    "PCIN": (1.518, 1.713, 1.400),
    "CARRYIN": (1.416, 1.613, 1.298),
    "OPMODE": (2.326, 2.522, 2.209),
    "ALUMODE": (2.098, 2.292, 1.978),
}
#: Setup at the multiplier's register, and at that of the pre-adder.
_DSP_AT_M = {("A", "with"): 3.288, ("A", "without"): 1.928, "B": 1.743, "D": 3.158}
_DSP_AT_AD = {"A": 1.756, "D": 1.626}
#: Setup at the input's own register.
_DSP_AT_INPUT = {"A": 0.362, "B": 0.450, "C": 0.233, "D": 0.413}
#: Clock of a register to P and PCOUT.
_DSP_CLOCK = {
    "PREG": (0.434, 0.478),
    "MREG": (2.305, 2.500),
    "CREG": (2.291, 2.488),
    "ADREG": (3.684, 3.879),
    ("AREG", "with"): (5.368, 5.565),
    ("AREG", "without"): (4.009, 4.206),
    ("AREG", "none"): (2.215, 2.411),
    "DREG": (5.320, 5.515),
    "BREG": (3.813, 4.008),
    ("BREG", "none"): (2.191, 2.387),
}
_DSP_ENABLES = {"CEA1": 0.497, "CEA2": 0.497, "CEB1": 0.514, "CEB2": 0.514, "CEC": 0.414}
_DSP_ENABLES |= {"CED": 0.513, "CEAD": 0.426, "CEM": 0.266, "CEP": 0.524}
_DSP_RESETS = {"RSTA": 0.507, "RSTB": 0.543, "RSTC": 0.084, "RSTD": 0.589}
_DSP_RESETS |= {"RSTM": 0.270, "RSTP": 0.347}
_DSP_CASCADES = ("ACIN", "BCIN", "CARRYCASCIN", "MULTSIGNIN", "INMODE", "CARRYINSEL", "CLK")


def _dsp(parameters: Mapping[str, str]) -> Arcs:
    """Delays of a DSP48E1 with the registers that its parameters turn on."""
    registers = ("AREG", "BREG", "CREG", "DREG", "ADREG", "MREG", "PREG")
    has = {name: bool(int(parameters[name], 2)) for name in registers}
    adder = "with" if parameters["USE_DPORT"] == "TRUE" else "without"
    way = "none" if parameters["USE_MULT"] == "NONE" else adder
    capture = {**_DSP_ENABLES, **_DSP_RESETS}
    through: dict[tuple[str, str], float] = {}

    def path(port: str, delays: tuple[float, float, float]) -> None:
        """To P without a register on the way, or to the register P."""
        if has["PREG"]:
            capture[port] = delays[2]
        else:
            through.update({(port, "P"): delays[0], (port, "PCOUT"): delays[1]})

    for port in "ABD":
        if has[f"{port}REG"]:
            capture[port] = _DSP_AT_INPUT[port]
        elif way == "with" and port in _DSP_AT_AD and has["ADREG"]:
            capture[port] = _DSP_AT_AD[port]
        elif way != "none" and has["MREG"] and (port != "D" or way == "with"):
            capture[port] = _DSP_AT_M[(port, way) if port == "A" else port]
        elif (port, way) in _DSP_THROUGH:
            path(port, _DSP_THROUGH[port, way])
    for port, delays in _DSP_ADDER.items():
        if port == "C" and has["CREG"]:
            capture["C"] = _DSP_AT_INPUT["C"]
        else:
            path(port, delays)
    return Arcs(_dsp_launch(has, way), capture, through, frozenset(_DSP_CASCADES))


def _dsp_launch(has: Mapping[str, bool], way: str) -> dict[str, float]:
    """Clock to P and PCOUT: of the last register, or the slowest of those that feed the adder."""
    feeding = [("CREG", "CREG")] if has["CREG"] else []
    if has["PREG"]:
        feeding = [("PREG", "PREG")]
    elif way != "none" and has["MREG"]:
        feeding.append(("MREG", "MREG"))
    else:
        feeding += _unregistered(has, way)
    found = [_DSP_CLOCK.get((name, way), _DSP_CLOCK.get(name)) for name, _ in feeding]
    if not found:
        return {}
    return {out: max(pair[i] for pair in found if pair) for i, out in enumerate(("P", "PCOUT"))}


def _unregistered(has: Mapping[str, bool], way: str) -> list[tuple[str, str]]:
    """Registers in front of the multiplier whose contents reach the adder in the same cycle."""
    names = ["BREG"]
    if way == "with":
        names += ["ADREG"] if has["ADREG"] else ["AREG", "DREG"]
    else:
        names += ["AREG"]
    return [(name, name) for name in names if has[name]]


# --- all of them ---------------------------------------------------------------------------------

_FIXED: dict[str, Callable[[], Arcs]] = {
    **{f"LUT{n}": functools.partial(_lut, n) for n in range(1, 7)},
    "INV": lambda: _buffer(_ns("inverter")),
    **{name: (lambda: _buffer(_ns("port"))) for name in ("BUFG", "IBUF", "OBUF")},
    "MUXF7": lambda: _mux("muxf7"),
    "MUXF8": lambda: _mux("muxf8"),
    "CARRY4": _carry,
    **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), _flip_flop),
    "RAM32M": _quad_memory,
    "RAM64M": _quad_memory,
    "RAM32X1D": lambda: _dual_memory(5),
    "RAM64X1D": lambda: _dual_memory(6),
    "RAM128X1D": lambda: _dual_memory(7),
    "RAM32X1S": lambda: _single_memory(5),
    "RAM64X1S": lambda: _single_memory(6),
    "RAM128X1S": lambda: _single_memory(7),
    "RAM256X1S": lambda: _single_memory(8),
    "SRL16E": lambda: _shift_register([f"A{i}" for i in range(4)], ["Q"]),
    "SRLC32E": lambda: _shift_register(["A"], ["Q", "Q31"]),
}
_CONFIGURED: dict[str, Callable[[Mapping[str, str]], Arcs]] = {
    "RAMB18E1": _block_memory,
    "RAMB36E1": _block_memory,
    "DSP48E1": _dsp,
}


def cell_arcs(kind: str, parameters: Mapping[str, str]) -> Arcs:
    """The delays of a cell.

    Raises
    ------
    ValueError
        If the kind of cell is unknown.
    """
    if kind in _FIXED:
        return _FIXED[kind]()
    if kind in _CONFIGURED:
        return _CONFIGURED[kind](parameters)
    raise ValueError(f"cell {kind} has no delays, there are {', '.join([*_FIXED, *_CONFIGURED])}")


def is_dedicated(driver: tuple[str, str], end: tuple[str, str], fanout: int) -> bool:
    """Whether a wire between (kind, pin) and (kind, pin) never leaves a slice or a column."""
    (kind, pin), (to_kind, to_pin) = driver, end
    if kind.startswith("LUT") or kind == "INV":
        if to_kind.startswith("FD"):
            return to_pin == "D" and fanout == 1
        return (to_kind == "CARRY4" and to_pin.startswith("S[")) or (
            to_kind == "MUXF7" and to_pin != "S"
        )
    return (kind, pin, to_kind, to_pin.partition("[")[0]) in {
        ("MUXF7", "O", "MUXF8", "I0"),
        ("MUXF7", "O", "MUXF8", "I1"),
        ("CARRY4", "CO[3]", "CARRY4", "CI"),
    } or (kind == to_kind == "DSP48E1" and pin.startswith("PCOUT") and to_pin.startswith("PCIN"))
