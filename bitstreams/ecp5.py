"""Boards with an ECP5: their part, pins, clock, and the accelerator that is built for them."""

from __future__ import annotations

from dataclasses import dataclass

from transept.golden.config import ULX3S_BOARD, Config

__all__ = ["ECP5_BOARDS", "Ecp5Board", "Pll", "constraints", "ecp5_board", "find_pll"]

#: Limits of the oscillator in the PLL of an ECP5, in MHz, and of its dividers.
VCO_MHZ, DIVIDERS = (400, 800), range(1, 129)


@dataclass(frozen=True)
class Pll:
    """Dividers of an EHXPLLL whose phase detector compares the input with an output of the same
    frequency: the oscillator runs at input * feedback, the clock is that / output."""

    feedback: int
    output: int


@dataclass(frozen=True)
class Ecp5Board:
    """One board.

    device, package, speed: as nextpnr takes them; oscillator_mhz: of the clock pin; pins: site of
    each port of the top; memory_bytes: of block RAM in place of DRAM; baud: of the serial link.
    """

    name: str
    device: str
    package: str
    speed: int
    oscillator_mhz: int
    pins: dict[str, str]
    config: Config
    memory_bytes: int
    baud: int

    @property
    def pll(self) -> Pll:
        """Dividers that make the configuration's clock."""
        return find_pll(self.oscillator_mhz, self.config.clock_mhz)


def find_pll(input_mhz: int, output_mhz: int) -> Pll:
    """Dividers that make a clock, with the oscillator nearest to the middle of its range.

    The input is not divided: a phase detector wants 10 MHz or more.

    Raises
    ------
    ValueError
        If there are none.
    """
    middle = sum(VCO_MHZ) / 2
    found = [
        Pll(feedback, input_mhz * feedback // output_mhz)
        for feedback in DIVIDERS
        if VCO_MHZ[0] <= input_mhz * feedback <= VCO_MHZ[1]
        and input_mhz * feedback % output_mhz == 0
        and input_mhz * feedback // output_mhz in DIVIDERS
    ]
    if not found:
        raise ValueError(f"a PLL makes no {output_mhz} MHz of {input_mhz} MHz")
    return min(found, key=lambda pll: abs(input_mhz * pll.feedback - middle))


def constraints(board: Ecp5Board) -> str:
    """The pins and the frequency of the clock pin, as nextpnr reads them (LPF)."""
    lines = [f'FREQUENCY PORT "clock" {board.oscillator_mhz} MHZ;']
    for port, site in board.pins.items():
        lines.append(f'LOCATE COMP "{port}" SITE "{site}";')
        lines.append(f'IOBUF PORT "{port}" IO_TYPE=LVCMOS33 PULLMODE={_PULLS.get(port, "NONE")};')
    return "\n".join(lines) + "\n"


#: A line that nobody drives is at rest.
_PULLS = {"rx": "UP"}

ECP5_BOARDS = {
    known.name: known
    for known in (
        Ecp5Board(
            "ulx3s_85f",
            device="85k",
            package="CABGA381",
            speed=6,
            oscillator_mhz=25,
            # rx and tx as the FPGA sees them: the schematic's ftdi_txd and ftdi_rxd are the USB
            # bridge's; keep_awake is wifi_gpio0, which holds off a reset by the ESP32
            pins={"clock": "G2", "rx": "M1", "tx": "L4", "busy": "B2", "keep_awake": "L2"},
            config=ULX3S_BOARD,
            memory_bytes=1 << 16,
            baud=1_000_000,
        ),
    )
}


def ecp5_board(name: str) -> Ecp5Board:
    """The named board.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in ECP5_BOARDS:
        raise ValueError(f"no ECP5 board {name!r}, there is {', '.join(ECP5_BOARDS)}")
    return ECP5_BOARDS[name]
