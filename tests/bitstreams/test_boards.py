"""What is known of boards."""

import dataclasses

import pytest

from transept.bitstreams.boards import BOARDS, INSTANCE, VLNV, Family, board
from transept.golden.config import PYNQ_Z2_BOARD


def test_boards_by_value():
    assert (VLNV, INSTANCE) == ("transept:ip:accelerator:1.0", "accelerator_0")
    assert list(BOARDS) == ["pynq_z2"]
    found = board("pynq_z2")
    assert found.config == PYNQ_Z2_BOARD
    assert found.config.memories.axi_data_bits == 64  # of a port of a Zynq-7000
    assert (found.part, found.machine) == ("xc7z020clg400-1", "armv7l")
    assert found.family == Family.ZYNQ_7000
    assert (found.register_base, found.register_bytes) == (0x4000_0000, 0x1_0000)


def test_an_unknown_board_is_told():
    with pytest.raises(ValueError, match=r"^no board 'z3', there is pynq_z2$"):
        board("z3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"register_bytes": 2048},
            "pynq_z2: 2048 bytes do not hold the registers, which need 4096",
        ),
        (
            {"register_base": 0x4000_8000},
            "registers at 0x40008000 are not at a multiple of 0x10000",
        ),
    ],
)
def test_registers_have_room(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(BOARDS["pynq_z2"], **changes)
