"""Boards: their part, their processing system, and the addresses of the accelerator."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from transept.golden import registers
from transept.golden.config import KV260_BOARD, PYNQ_Z2_BOARD, ULTRA96, Config

__all__ = ["BOARDS", "INSTANCE", "VLNV", "Board", "Family", "board"]

#: Vendor, library, name and version of the packaged accelerator, by which a driver finds it; what
#: the hardware is in detail stands in its registers.
VLNV = "transept:ip:accelerator:1.0"
#: The accelerator in a block design.
INSTANCE = "accelerator_0"


#: Bits that a memory port of each family can have.
_PORT_BITS = {"processing_system7": (32, 64), "zynq_ultra_ps_e": (32, 64, 128)}


class Family(enum.Enum):
    """Processing systems, by the names that ``.hwh`` files have for them."""

    ZYNQ_7000 = "processing_system7"
    ZYNQ_ULTRASCALE = "zynq_ultra_ps_e"

    @property
    def port_bits(self) -> tuple[int, ...]:
        """Data bits that a port to memory can have."""
        return _PORT_BITS[self.value]


@dataclass(frozen=True)
class Board:
    """One board.

    part: of the FPGA; machine: of its processor, as Linux names it; config: the accelerator that is
    built for it; register_base: physical address of the accelerator's registers, register_bytes: of
    the range that is mapped for them; memory_bytes: of DRAM from address 0 that the accelerator
    reaches. board_files: pattern of the vendor's names of its board files, which say how memory and
    pins of the processing system are set; system: settings of it where they are not installed;
    ultra_ram: the part has UltraRAM.
    """

    name: str
    part: str
    family: Family
    machine: str
    config: Config
    register_base: int
    memory_bytes: int
    board_files: str
    register_bytes: int = 0x1_0000
    system: tuple[tuple[str, str], ...] = ()
    ultra_ram: bool = False

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
            memory_bytes=512 << 20,
            board_files="tul.com.tw:pynq-z2:part0:*",
            system=(
                ("PCW_CRYSTAL_PERIPHERAL_FREQMHZ", "50"),
                ("PCW_APU_PERIPHERAL_FREQMHZ", "650"),
            ),
        ),
        Board(
            "ultra96",
            part="xczu3eg-sbva484-1-i",
            family=Family.ZYNQ_ULTRASCALE,
            machine="aarch64",
            config=ULTRA96,
            register_base=0xA000_0000,
            memory_bytes=2 << 30,
            board_files="avnet.com:ultra96v2:part0:*",
        ),
        Board(
            "kv260",
            part="xck26-sfvc784-2LV-c",
            family=Family.ZYNQ_ULTRASCALE,
            machine="aarch64",
            config=KV260_BOARD,
            register_base=0xA000_0000,
            memory_bytes=2 << 30,
            board_files="xilinx.com:kv260_som:part0:*",
            ultra_ram=True,
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
