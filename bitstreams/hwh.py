"""Hardware hand-off (``.hwh``): the XML in which a driver reads what a bitstream has at which
address, register by register; written for simulated hardware, and checked for real one."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from transept.bitstreams.boards import INSTANCE, VLNV, Board, Family
from transept.bitstreams.register_map import DescribedRegister, described

__all__ = ["BLOCK", "INTERFACE", "SYSTEMS", "check_hwh", "hwh"]

#: Of each family: the processing system's instance and VLNV, and its port to the registers.
SYSTEMS = {
    Family.ZYNQ_7000: ("ps7", "xilinx.com:ip:processing_system7:5.5", "M_AXI_GP0"),
    Family.ZYNQ_ULTRASCALE: ("ps8", "xilinx.com:ip:zynq_ultra_ps_e:3.5", "M_AXI_HPM0_FPD"),
}
#: Where each family tells how fast a clock of the fabric is.
_FREQUENCY = {
    Family.ZYNQ_7000: "PCW_ACT_FPGA{}_PERIPHERAL_FREQMHZ",
    Family.ZYNQ_ULTRASCALE: "PSU__CRL_APB__PL{}_REF_CTRL__ACT_FREQMHZ",
}
#: Share by which a clock may be off: dividers of PLLs do not meet every one.
_CLOCK_SHARE = 0.02
#: Clocks of the fabric; the accelerator has the first one. The PLL runs at 1,000 MHz.
_CLOCKS, _PLL_MHZ = 4, 1000
#: The port to the registers, and their address block.
INTERFACE, BLOCK = "s_axil", "reg0"


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
    instance, vlnv, port = SYSTEMS[board.family]
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
        SLAVEBUSINTERFACE=INTERFACE,
        ADDRESSBLOCK=BLOCK,
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
        else:
            yield f"PSU__FPGA_PL{i}_ENABLE", on
            yield f"PSU__CRL_APB__PL{i}_REF_CTRL__SRCSEL", "IOPLL"
            yield f"PSU__CRL_APB__PL{i}_REF_CTRL__DIVISOR0", str(divisor)
            yield f"PSU__CRL_APB__PL{i}_REF_CTRL__DIVISOR1", "1"
        yield _FREQUENCY[board.family].format(i), f"{board.config.clock_mhz:.6f}"


def _accelerator(parent: Element, board: Board) -> None:
    module = _module(parent, INSTANCE, VLNV)
    SubElement(module, "PARAMETERS")
    SubElement(module, "PORTS")
    block = SubElement(
        SubElement(module, "ADDRESSBLOCKS"),
        "ADDRESSBLOCK",
        INTERFACE=INTERFACE,
        NAME=BLOCK,
        USAGE="register",
    )
    listed = SubElement(block, "REGISTERS")
    for register in described(board.config):
        _register(listed, register)
    _bus(SubElement(module, "BUSINTERFACES"), INTERFACE, "SLAVE")


def _register(parent: Element, register: DescribedRegister) -> None:
    element = SubElement(parent, "REGISTER", NAME=register.name)
    _properties(
        element,
        DESCRIPTION=register.doc,
        ADDRESS_OFFSET=f"{register.offset:#x}",
        SIZE="32",
        ACCESS=register.access,
        IS_ENABLED="true",
    )
    fields = SubElement(element, "FIELDS")
    for field in register.fields:
        _properties(
            SubElement(fields, "FIELD", NAME=field.name.upper()),
            DESCRIPTION=field.doc,
            BIT_OFFSET=str(field.low),
            BIT_WIDTH=str(field.width),
            ACCESS=register.access,
        )


def _properties(element: Element, **properties: str) -> None:
    for name, value in properties.items():
        SubElement(element, "PROPERTY", NAME=name, VALUE=value)


def _bus(parent: Element, name: str, kind: str) -> None:
    SubElement(parent, "BUSINTERFACE", NAME=name, TYPE=kind, VLNV="xilinx.com:interface:aximm:1.0")


def check_hwh(text: str, board: Board) -> None:
    """Whether a hand-off, whoever wrote it, describes the accelerator as drivers expect it.

    Raises
    ------
    ValueError
        If it has none or several, at another address, at another clock, or with other registers.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"the hand-off is no XML: {error}") from None
    found = [module for module in root.iter("MODULE") if module.get("VLNV") == VLNV]
    if len(found) != 1:
        raise ValueError(f"the hand-off has {len(found)} accelerators {VLNV}, must have one")
    instance = found[0].get("INSTANCE")
    places = {
        _number(mapped.get("BASEVALUE", "0"))
        for mapped in root.iter("MEMRANGE")
        if mapped.get("INSTANCE") == instance and mapped.get("MEMTYPE") == "REGISTER"
    }
    if places != {board.register_base}:
        where = ", ".join(sorted(map(_told, places))) or "nowhere"
        raise ValueError(f"the hand-off has registers at {where}, not at {board.register_base:#x}")
    told = {found.get("NAME"): found.get("VALUE", "") for found in root.iter("PARAMETER")}
    clock, wanted_mhz = told.get(_FREQUENCY[board.family].format(0), ""), board.config.clock_mhz
    if not _is_near(clock, wanted_mhz):
        raise ValueError(f"the hand-off has a clock of {clock or 'no'} MHz, not {wanted_mhz}")
    offsets = {element.get("NAME"): _offset(element) for element in found[0].iter("REGISTER")}
    wanted = {register.name: register.offset for register in described(board.config)}
    for name in sorted(wanted.keys() | offsets.keys(), key=str):
        if wanted.get(str(name)) != offsets.get(name):
            raise ValueError(
                f"the hand-off has register {name} at {offsets.get(name)}, "
                f"the hardware at {wanted.get(str(name))}"
            )


def _told(place: int | str) -> str:
    return place if isinstance(place, str) else f"{place:#x}"


def _is_near(clock: str, wanted_mhz: float) -> bool:
    try:
        return abs(float(clock) - wanted_mhz) <= _CLOCK_SHARE * wanted_mhz
    except ValueError:
        return False


def _offset(register: Element) -> int | str | None:
    """The number, or what is told that is none."""
    for told in register.findall("PROPERTY"):
        if told.get("NAME") == "ADDRESS_OFFSET":
            return _number(told.get("VALUE", ""))
    return None


def _number(text: str) -> int | str:
    try:
        return int(text, 0)
    except ValueError:
        return text
