"""Hardware hand-off (``.hwh``): the XML in which a driver reads what a bitstream has at which
address, register by register."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from transept.bitstreams.boards import INSTANCE, VLNV, Board, Family
from transept.golden import registers
from transept.golden.registers import Access, Register

__all__ = ["hwh"]

#: Of each family: the processing system's instance and VLNV, and its port to the registers.
_SYSTEMS = {
    Family.ZYNQ_7000: ("ps7", "xilinx.com:ip:processing_system7:5.5", "M_AXI_GP0"),
    Family.ZYNQ_ULTRASCALE: ("ps8", "xilinx.com:ip:zynq_ultra_ps_e:3.5", "M_AXI_HPM0_FPD"),
}
_ACCESS = {Access.RO: "read-only", Access.RW: "read-write", Access.W1C: "read-write"}
#: Clocks of the fabric; the accelerator has the first one. The PLL runs at 1,000 MHz.
_CLOCKS, _PLL_MHZ = 4, 1000
_INTERFACE = "S_AXI"
_BLOCK = "reg0"


def hwh(board: Board) -> str:
    """The hand-off of a block design with a processing system and the accelerator."""
    root = Element("EDKSYSTEM", VIVADOVERSION="2024.1")
    SubElement(root, "SYSTEMINFO", NAME="transept", ARCH=board.family.value, DEVICE=board.part)
    SubElement(root, "EXTERNALPORTS")
    SubElement(root, "EXTERNALINTERFACES")
    modules = SubElement(root, "MODULES")
    _system(modules, board)
    _accelerator(modules, board)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _module(parent: Element, instance: str, vlnv: str) -> Element:
    kind = vlnv.split(":")[2]
    return SubElement(
        parent, "MODULE", INSTANCE=instance, FULLNAME=f"/{instance}", MODTYPE=kind, VLNV=vlnv
    )


def _system(parent: Element, board: Board) -> None:
    instance, vlnv, port = _SYSTEMS[board.family]
    module = _module(parent, instance, vlnv)
    parameters = SubElement(module, "PARAMETERS")
    for name, value in _clocks(board):
        SubElement(parameters, "PARAMETER", NAME=name, VALUE=value)
    SubElement(module, "PORTS")
    buses = SubElement(module, "BUSINTERFACES")
    _bus(buses, port, "MASTER")
    SubElement(
        SubElement(module, "MEMORYMAP"),
        "MEMRANGE",
        INSTANCE=INSTANCE,
        MASTERBUSINTERFACE=port,
        SLAVEBUSINTERFACE=_INTERFACE,
        ADDRESSBLOCK=_BLOCK,
        MEMTYPE="REGISTER",
        BASEVALUE=f"{board.register_base:#x}",
        HIGHVALUE=f"{board.register_base + board.register_bytes - 1:#x}",
    )


def _clocks(board: Board) -> Iterator[tuple[str, str]]:
    """Parameters of the fabric's clocks."""
    divisor = -(-_PLL_MHZ // board.config.clock_mhz)
    for i in range(_CLOCKS):
        on = str(int(i == 0))
        if board.family == Family.ZYNQ_7000:
            yield f"PCW_FPGA_FCLK{i}_ENABLE", on
            yield f"PCW_FCLK{i}_PERIPHERAL_CLKSRC", "IO PLL"
            yield f"PCW_FCLK{i}_PERIPHERAL_DIVISOR0", str(divisor)
            yield f"PCW_FCLK{i}_PERIPHERAL_DIVISOR1", "1"
            yield f"PCW_ACT_FPGA{i}_PERIPHERAL_FREQMHZ", f"{board.config.clock_mhz:.6f}"
        else:
            yield f"PSU__FPGA_PL{i}_ENABLE", on
            yield f"PSU__CRL_APB__PL{i}_REF_CTRL__SRCSEL", "IOPLL"
            yield f"PSU__CRL_APB__PL{i}_REF_CTRL__DIVISOR0", str(divisor)
            yield f"PSU__CRL_APB__PL{i}_REF_CTRL__DIVISOR1", "1"
            yield f"PSU__CRL_APB__PL{i}_REF_CTRL__ACT_FREQMHZ", f"{board.config.clock_mhz:.6f}"


def _accelerator(parent: Element, board: Board) -> None:
    module = _module(parent, INSTANCE, VLNV)
    SubElement(module, "PARAMETERS")
    SubElement(module, "PORTS")
    block = SubElement(
        SubElement(module, "ADDRESSBLOCKS"),
        "ADDRESSBLOCK",
        INTERFACE=_INTERFACE,
        NAME=_BLOCK,
        USAGE="register",
    )
    listed = SubElement(block, "REGISTERS")
    for register in registers.table(board.config):
        _register(listed, register)
    _bus(SubElement(module, "BUSINTERFACES"), _INTERFACE, "SLAVE")


def _register(parent: Element, register: Register) -> None:
    for index, offset in enumerate(register.offsets):
        name = register.name if register.count == 1 else f"{register.name}_{index}"
        element = SubElement(parent, "REGISTER", NAME=name)
        _properties(
            element,
            DESCRIPTION=register.doc,
            ADDRESS_OFFSET=f"{offset:#x}",
            SIZE="32",
            ACCESS=_ACCESS[register.access],
            IS_ENABLED="true",
        )
        fields = SubElement(element, "FIELDS")
        for field in register.fields:
            _properties(
                SubElement(fields, "FIELD", NAME=field.name.upper()),
                DESCRIPTION=field.doc,
                BIT_OFFSET=str(field.low),
                BIT_WIDTH=str(field.width),
                ACCESS=_ACCESS[register.access],
            )


def _properties(element: Element, **properties: str) -> None:
    for name, value in properties.items():
        SubElement(element, "PROPERTY", NAME=name, VALUE=value)


def _bus(parent: Element, name: str, kind: str) -> None:
    SubElement(parent, "BUSINTERFACE", NAME=name, TYPE=kind, VLNV="xilinx.com:interface:aximm:1.0")
