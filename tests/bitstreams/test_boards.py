"""What is known of boards."""

import dataclasses

import pytest

from transept.bitstreams.boards import BOARDS, INSTANCE, VLNV, Family, board
from transept.golden.config import KV260_BOARD, PYNQ_Z2_BOARD, ULTRA96


def test_boards_by_value():
    assert (VLNV, INSTANCE) == ("transept:ip:accelerator:1.0", "accelerator_0")
    assert list(BOARDS) == ["pynq_z2", "ultra96", "kv260"]
    found = board("pynq_z2")
    assert found.config == PYNQ_Z2_BOARD
    assert found.config.memories.axi_data_bits == 64  # of a port of a Zynq-7000
    assert (found.part, found.machine) == ("xc7z020clg400-1", "armv7l")
    assert found.family == Family.ZYNQ_7000
    assert (found.register_base, found.register_bytes) == (0x4000_0000, 0x1_0000)
    assert (found.memory_bytes, found.ultra_ram) == (512 << 20, False)


@pytest.mark.parametrize(
    ("name", "part", "config", "ultra_ram"),
    [
        ("ultra96", "xczu3eg-sbva484-1-i", ULTRA96, False),
        ("kv260", "xck26-sfvc784-2LV-c", KV260_BOARD, True),
    ],
)
def test_boards_with_an_ultrascale(name, part, config, ultra_ram):
    found = board(name)
    assert (found.part, found.config, found.ultra_ram) == (part, config, ultra_ram)
    assert (found.family, found.machine) == (Family.ZYNQ_ULTRASCALE, "aarch64")
    assert config.memories.axi_data_bits == 128  # of a port of an UltraScale+
    assert (found.register_base, found.register_bytes) == (0xA000_0000, 0x1_0000)
    assert found.memory_bytes == 2 << 30  # lower part of memory


def test_an_unknown_board_is_told():
    with pytest.raises(ValueError, match=r"^no board 'z3', there is pynq_z2, ultra96, kv260$"):
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
