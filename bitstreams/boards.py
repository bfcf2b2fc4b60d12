"""Boards: their part, their processing system, and the addresses of the accelerator."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from transept.golden import registers
from transept.golden.config import PYNQ_Z2_BOARD, Config

__all__ = ["BOARDS", "INSTANCE", "VLNV", "Board", "Family", "board"]

#: Vendor, library, name and version of the packaged accelerator, by which a driver finds it; what
#: the hardware is in detail stands in its registers.
VLNV = "transept:ip:accelerator:1.0"
#: The accelerator in a block design.
INSTANCE = "accelerator_0"


class Family(enum.Enum):
    """Processing systems, by the names that ``.hwh`` files have for them."""

    ZYNQ_7000 = "processing_system7"
    ZYNQ_ULTRASCALE = "zynq_ultra_ps_e"


@dataclass(frozen=True)
class Board:
    """One board.

    part: of the FPGA; machine: of its processor, as Linux names it; config: the accelerator that is
    built for it; register_base: physical address of the accelerator's registers, register_bytes: of
    the range that is mapped for them.
    """

    name: str
    part: str
    family: Family
    machine: str
    config: Config
    register_base: int
    register_bytes: int = 0x1_0000

    def __post_init__(self) -> None:
        if self.register_bytes < 1 << registers.ADDRESS_BITS:
            raise ValueError(
                f"{self.name}: {self.register_bytes} bytes do not hold the registers, "
                f"which need {1 << registers.ADDRESS_BITS}"
            )
        if self.register_base % self.register_bytes:
            raise ValueError(
                f"{self.name}: registers at {self.register_base:#x} are not at a multiple of "
                f"{self.register_bytes:#x}"
            )


BOARDS = {
    known.name: known
    for known in (
        Board(
            "pynq_z2",
            part="xc7z020clg400-1",
            family=Family.ZYNQ_7000,
            machine="armv7l",
            config=PYNQ_Z2_BOARD,
            register_base=0x4000_0000,
        ),
    )
}


def board(name: str) -> Board:
    """The named board.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in BOARDS:
        raise ValueError(f"no board {name!r}, there is {', '.join(BOARDS)}")
    return BOARDS[name]
