"""Hand-offs: every register with its fields, where a driver looks for them. pynq's own parser reads
them in ``tests/board``."""

import dataclasses
from xml.etree import ElementTree

import pytest

from transept.bitstreams.boards import BOARDS, INSTANCE, VLNV, Family
from transept.bitstreams.hwh import check_hwh, hwh
from transept.golden import registers
from transept.golden.config import TINY

Z2 = BOARDS["pynq_z2"]
ULTRA = dataclasses.replace(Z2, family=Family.ZYNQ_ULTRASCALE, register_base=0xA000_0000)


def properties(element):
    return {p.get("NAME"): p.get("VALUE") for p in element.findall("PROPERTY")}


def module(root, instance):
    (found,) = (m for m in root.iter("MODULE") if m.get("INSTANCE") == instance)
    return found


@pytest.mark.parametrize("config", [Z2.config, TINY])
def test_every_register_is_there(config):
    root = ElementTree.fromstring(hwh(dataclasses.replace(Z2, config=config)))
    ip = module(root, INSTANCE)
    assert ip.get("VLNV") == VLNV
    found = {r.get("NAME"): r for r in ip.iter("REGISTER")}
    wanted = {
        (name := r.name if r.count == 1 else f"{r.name}_{i}"): (name, r, offset)
        for r in registers.table(config)
        for i, offset in enumerate(r.offsets)
    }
    assert list(found) == list(wanted)
    for name, register, offset in wanted.values():
        told = properties(found[name])
        assert int(told["ADDRESS_OFFSET"], 16) == offset
        assert told["SIZE"] == "32"
        assert told["ACCESS"] == ("read-write" if register.writable else "read-only")
        fields = {f.get("NAME"): properties(f) for f in found[name].iter("FIELD")}
        assert {n: (f["BIT_OFFSET"], f["BIT_WIDTH"]) for n, f in fields.items()} == {
            f.name.upper(): (str(f.low), str(f.width)) for f in register.fields
        }


@pytest.mark.parametrize(
    ("board", "system", "kind", "port", "high"),
    [
        (Z2, "ps7", "processing_system7", "M_AXI_GP0", "0x4000ffff"),
        (ULTRA, "ps8", "zynq_ultra_ps_e", "M_AXI_HPM0_FPD", "0xa000ffff"),
    ],
)
def test_the_processing_system_maps_the_registers(board, system, kind, port, high):
    root = ElementTree.fromstring(hwh(board))
    assert root.find("EXTERNALPORTS") is not None
    found = module(root, system)
    assert found.get("MODTYPE") == kind
    (mapped,) = found.iter("MEMRANGE")
    assert mapped.attrib == {
        "INSTANCE": INSTANCE,
        "MASTERBUSINTERFACE": port,
        "SLAVEBUSINTERFACE": "s_axil",
        "ADDRESSBLOCK": "reg0",
        "MEMTYPE": "REGISTER",
        "BASEVALUE": f"{board.register_base:#x}",
        "HIGHVALUE": high,
    }
    assert [b.get("NAME") for b in found.iter("BUSINTERFACE")] == [port]


def test_one_clock_runs_at_the_accelerators_rate():
    slow = dataclasses.replace(Z2, config=Z2.config.replace(clock_mhz=50))
    for board, divisor in ((Z2, "10"), (slow, "20")):
        root = ElementTree.fromstring(hwh(board))
        told = {p.get("NAME"): p.get("VALUE") for p in module(root, "ps7").iter("PARAMETER")}
        assert [told[f"PCW_FPGA_FCLK{i}_ENABLE"] for i in range(4)] == ["1", "0", "0", "0"]
        assert told["PCW_FCLK0_PERIPHERAL_DIVISOR0"] == divisor
        assert told["PCW_FCLK0_PERIPHERAL_DIVISOR1"] == "1"
        assert told["PCW_ACT_FPGA0_PERIPHERAL_FREQMHZ"] == f"{board.config.clock_mhz}.000000"
    told = {
        p.get("NAME"): p.get("VALUE")
        for p in module(ElementTree.fromstring(hwh(ULTRA)), "ps8").iter("PARAMETER")
    }
    assert told["PSU__FPGA_PL0_ENABLE"] == "1"
    assert told["PSU__CRL_APB__PL0_REF_CTRL__ACT_FREQMHZ"] == "100.000000"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_hand_offs_of_every_board_are_right(board):
    check_hwh(hwh(board), board)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</EDKSYSTEM>", "", "the hand-off is no XML"),
        (VLNV, "somebody:else:s:1.0", "the hand-off has 0 accelerators transept:ip:accelerator:1"),
        ("0x40000000", "0x43c00000", "has registers at 0x43c00000, not at 0x40000000$"),
        ('MEMTYPE="REGISTER"', 'MEMTYPE="MEMORY"', "has registers at nowhere, not at 0x40000000"),
        ('VALUE="0x98"', 'VALUE="0x9c"', "register ERROR at 156, the hardware at 152$"),
        ('NAME="CLIPPED_63"', 'NAME="X"', "register CLIPPED_63 at None, the hardware at 1276$"),
        (
            'FPGA0_PERIPHERAL_FREQMHZ" VALUE="100.0',
            'FPGA0_PERIPHERAL_FREQMHZ" VALUE="50.0',
            "the hand-off has a clock of 50.000000 MHz, not 100$",
        ),
        ('VALUE="100.000000"', 'VALUE="nan"', "the hand-off has a clock of nan MHz, not 100$"),
        ('VALUE="100.000000"', 'VALUE="fast"', "the hand-off has a clock of fast MHz, not 100$"),
        ("0x40000000", "0x98:0", "has registers at 0x98:0, not at 0x40000000$"),
        ("PCW_ACT_FPGA0", "PCW_FPGA0", "the hand-off has a clock of no MHz, not 100$"),
        ('NAME="ADDRESS_OFFSET" VALUE="0x4"', "", "register CONTRACT at None, the hardware at 4$"),
    ],
)
def test_a_wrong_hand_off_is_told(old, new, message):
    text = hwh(Z2)
    assert old in text
    with pytest.raises(ValueError, match=message):
        check_hwh(text.replace(old, new), Z2)


def test_a_clock_is_as_near_as_its_dividers_allow():
    check_hwh(hwh(Z2).replace('VALUE="100.000000"', 'VALUE="99.000000"'), Z2)


def test_offsets_may_be_written_as_any_number():
    check_hwh(hwh(Z2).replace('VALUE="0x98"', 'VALUE="152"'), Z2)
