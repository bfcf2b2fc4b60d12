"""The project for Vivado: what its scripts do, on a Vivado that knows the ports of the IPs."""

import dataclasses
import inspect
import json
import re

import pytest
from vivado import Behaviour, Vivado

from transept.bitstreams.boards import BOARDS, VLNV, Family
from transept.bitstreams.hwh import check_hwh, hwh
from transept.bitstreams.overlay import find_overlay
from transept.bitstreams.vivado import project
from transept.bitstreams.vivado.project import listed, quoted, with_ultra_ram, write_project
from transept.golden import registers
from transept.golden.config import CONTRACT_VERSION, KV260, PYNQ_Z2, TINY
from transept.rtl.fabric import STAGES
from transept.rtl.memory.bursts import BURST_BEATS
from transept.rtl.memory.reader import ReadMaster
from transept.rtl.memory.writer import WriteMaster
from transept.sim.build import FABRIC, fabric_verilog

tkinter = pytest.importorskip("tkinter", reason="Python without Tcl")

#: Boards with a small accelerator, one of each family.
Z2, KRIA = (
    dataclasses.replace(BOARDS[name], config=TINY, ultra_ram=False) for name in ("pynq_z2", "kv260")
)
BOTH = pytest.mark.parametrize("board", [Z2, KRIA], ids=lambda board: board.name)


def written(folder, board=Z2):
    write_project(folder, board, fabric_verilog(TINY), FABRIC, "amaranth 0.5.10")
    return folder


def built(folder, board=Z2, **behaviour):
    """The session that has built a board's project in a folder."""
    session = Vivado(Behaviour(**({"handoff": hwh(board)} | behaviour)))
    return session.run(written(folder, board))


def test_a_new_project_keeps_what_was_no_project(tmp_path):
    """Reports of somebody else; those of a project of ours go."""
    (tmp_path / project.REPORTS).mkdir()
    thesis = tmp_path / project.REPORTS / "thesis.md"
    thesis.touch()
    written(tmp_path)
    assert thesis.exists()
    written(tmp_path)
    assert not thesis.exists()


def test_what_is_told_of_the_core_is_so():
    assert project._RESET_STAGES == STAGES
    assert project._MASTER["MAX_BURST_LENGTH"] == BURST_BEATS
    for direction, master in (("READ", ReadMaster), ("WRITE", WriteMaster)):
        limit = inspect.signature(master).parameters["outstanding"].default
        assert project._MASTER[f"NUM_{direction}_OUTSTANDING"] == limit


@BOTH
def test_the_core_has_every_register(board, tmp_path):
    session = built(tmp_path, board)
    assert session.vlnv == VLNV
    core, told = session.core, session.properties
    found = dict(core["registers"])
    for register in registers.table(TINY):
        for index, offset in enumerate(register.offsets):
            name = register.name if register.count == 1 else f"{register.name}_{index}"
            assert found.pop(name) == "block/reg0"
            at = f"register/{name}"
            assert int(told[at, "address_offset"], 0) == offset
            assert told[at, "size"] == "32"
            access = "read-write" if register.writable else "read-only"
            assert told[at, "access"] == access
            assert told[at, "description"] == register.doc
            assert core["fields"][name] == [field.name.upper() for field in register.fields]
            for field in register.fields:
                part = f"field/{at}/{field.name.upper()}"
                assert (told[part, "bit_offset"], told[part, "bit_width"]) == (
                    str(field.low), str(field.width),
                )  # fmt: skip
                assert told[part, "access"] == access
                assert told[part, "description"] == field.doc
    assert not found
    assert core["maps"] == {"s_axil": {"reg0": {}}}
    assert told["block/reg0", "range"] == str(board.register_bytes)
    assert (told["block/reg0", "usage"], told["block/reg0", "width"]) == ("register", "32")
    assert told["bus/s_axil", "slave_memory_map_ref"] == "s_axil"


def test_the_core_has_the_ports_of_a_processing_system(tmp_path):
    session = built(tmp_path)
    core, told = session.core, session.properties
    assert {bus: kind for bus, (kind, *_) in core["buses"].items()} == {
        "s_axil": "aximm_rtl", "m_axi": "aximm_rtl", "aclk": "clock_rtl", "aresetn": "reset_rtl",
        "interrupt": "interrupt_rtl",
    }  # fmt: skip
    assert core["clocks"] == {"s_axil": "aclk", "m_axi": "aclk"}
    in_buses = {port for _, *ports in core["buses"].values() for port in ports}
    assert in_buses == set(core["ports"])
    widths = {name: core["ports"][f"m_axi_{name}"][1] for name in (
        "awaddr", "awlen", "awsize", "awburst", "awlock", "awcache", "awprot", "awqos", "awid",
        "wdata", "wstrb", "bresp", "rid",
    )}  # fmt: skip
    assert widths == {
        "awaddr": 32, "awlen": 8, "awsize": 3, "awburst": 2, "awlock": 1, "awcache": 4, "awprot": 3,
        "awqos": 4, "awid": 1, "wdata": 32, "wstrb": 4, "bresp": 2, "rid": 1,
    }  # fmt: skip
    assert {name: told[name, "value"] for name in core["parameters"]} == {
        "bus/aresetn/POLARITY": "ACTIVE_LOW",
        "bus/interrupt/SENSITIVITY": "LEVEL_HIGH",
        "bus/m_axi/MAX_BURST_LENGTH": "16",
        "bus/m_axi/NUM_READ_OUTSTANDING": "8",
        "bus/m_axi/NUM_WRITE_OUTSTANDING": "8",
        "bus/m_axi/SUPPORTS_NARROW_BURST": "0",
    }
    assert core["spaces"] == {"m_axi": {}}
    assert (told["space/m_axi", "range"], told["space/m_axi", "width"]) == ("4G", "32")


#: Of each family: clock, reset, interrupt of the processing system, and the way of each bus.
WIRES = {
    "pynq_z2": (
        "ps7", "FCLK_CLK0", "FCLK_RESET0_N", "IRQ_F2P",
        ["M_AXI_GP0", "to_registers/S_AXI", "to_registers/M_AXI", "accelerator_0/s_axil"],
        ["accelerator_0/m_axi", "to_memory/S_AXI", "to_memory/M_AXI", "S_AXI_HP0"],
    ),
    "kv260": (
        "ps8", "pl_clk0", "pl_resetn0", "pl_ps_irq0",
        ["M_AXI_HPM0_FPD", "to_registers/S00_AXI", "to_registers/M00_AXI", "accelerator_0/s_axil"],
        ["accelerator_0/m_axi", "to_memory/S00_AXI", "to_memory/M00_AXI", "S_AXI_HP0_FPD"],
    ),
}  # fmt: skip


@BOTH
def test_the_block_design_is_wired(board, tmp_path):
    session = built(tmp_path, board)
    system, clock, reset, interrupt, to_registers, to_memory = WIRES[board.name]
    ways = [to_registers, to_memory]
    ways = [[p if "/" in p else f"{system}/{p}" for p in way] for way in ways]
    wanted = {(way[i], way[i + 1]) for way in ways for i in (0, 2)}
    assert set(session.links) == wanted
    nets = session.nets
    assert nets[f"{system}/{interrupt}"] == "accelerator_0/interrupt"
    # one reset, which nothing but the processing system pulls; it ends for the buses first
    assert nets["reset/ext_reset_in"] == f"{system}/{reset}"
    assert nets["accelerator_0/aresetn"] == "reset/peripheral_aresetn"
    for name in ("to_registers", "to_memory"):
        assert nets[f"{name}/aresetn"] == "reset/interconnect_aresetn"
    assert not {pin for pin in nets if pin.endswith(("aux_reset_in", "mb_debug_sys_rst"))}
    assert nets["accelerator_0/aclk"] == nets["reset/slowest_sync_clk"] == f"{system}/{clock}"


def test_the_processing_system_of_a_zynq_7000(tmp_path):
    session = built(tmp_path)
    settings = session.cells["ps7"].settings
    assert settings == {
        "PCW_CRYSTAL_PERIPHERAL_FREQMHZ": "50", "PCW_APU_PERIPHERAL_FREQMHZ": "650", "preset": "0",
        "PCW_USE_M_AXI_GP0": "1", "PCW_USE_S_AXI_HP0": "1", "PCW_S_AXI_HP0_DATA_WIDTH": "32",
        "PCW_EN_CLK0_PORT": "1", "PCW_FPGA0_PERIPHERAL_FREQMHZ": "100", "PCW_EN_RST0_PORT": "1",
        "PCW_USE_FABRIC_INTERRUPT": "1", "PCW_IRQ_F2P_INTR": "1",
    }  # fmt: skip
    assert session.ranges == {
        ("ps7/Data", "accelerator_0/s_axil/reg0"): (0x4000_0000, 0x1_0000),
        ("accelerator_0/m_axi", "ps7/S_AXI_HP0/HP0_DDR_LOWOCM"): (0, 512 << 20),
    }
    assert session.cells["to_memory"].settings == {"SI_PROTOCOL": "AXI4", "MI_PROTOCOL": "AXI3"}


def test_the_processing_system_of_an_ultrascale(tmp_path):
    session = built(tmp_path, KRIA)
    assert session.cells["ps8"].settings == {
        "PSU__USE__M_AXI_GP0": "1", "PSU__MAXIGP0__DATA_WIDTH": "32", "PSU__USE__M_AXI_GP1": "0",
        "PSU__USE__M_AXI_GP2": "0", "PSU__USE__S_AXI_GP2": "1", "PSU__SAXIGP2__DATA_WIDTH": "32",
        "PSU__FPGA_PL0_ENABLE": "1", "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": "100",
        "PSU__USE__IRQ0": "1",
    }  # fmt: skip
    space = "accelerator_0/m_axi"
    assert session.ranges == {
        ("ps8/Data", "accelerator_0/s_axil/reg0"): (0xA000_0000, 0x1_0000),
        (space, "ps8/SAXIGP2/HP0_DDR_LOW"): (0, 2 << 30),
    }
    others = ("DDR_HIGH", "LPS_OCM", "QSPI")
    assert session.excluded == [(space, f"ps8/SAXIGP2/HP0_{name}") for name in others]


def test_only_the_beginning_of_the_reset_is_not_timed(tmp_path):
    session = built(tmp_path)
    flops = "system_i/accelerator_0/inst/synchroniser/reset"
    assert session.untimed == [f"{flops}_reg/PRE", f"{flops}_stage0_reg/PRE"]
    text = fabric_verilog(TINY)
    names = re.findall(r"^    if \(pin_rst\) (\w+) <= 1'h1;$", text, re.MULTILINE)
    assert [f"{name}_reg" for name in sorted(names)] == ["reset_reg", "reset_stage0_reg"]


@BOTH
def test_board_files_are_used_where_they_are(board, tmp_path):
    older, newer = (board.board_files.replace("*", version) for version in ("1.0", "1.4"))
    session = built(tmp_path, board, board_files=(newer, older, "xilinx.com:other:part0:1.0"))
    assert session.properties["project", "board_part"] == newer
    system = "ps7" if board.family is Family.ZYNQ_7000 else "ps8"
    assert session.cells[system].settings["preset"] == "1"


@BOTH
def test_a_build_leaves_an_overlay_and_reports(board, tmp_path):
    session = built(tmp_path, board)
    overlay = find_overlay(tmp_path / "overlay", board.name)
    assert session.written == [overlay.bitfile]
    assert re.fullmatch(rf"transept_{board.name}_[0-9a-f]{{12}}_v2024_1\.bit", overlay.bitfile.name)
    check_hwh(overlay.bitfile.with_suffix(".hwh").read_text(), board)
    found = overlay.manifest
    assert (found.board, found.config, found.config_digest) == (board.name, "tiny", TINY.digest)
    assert (found.contract, found.clock_mhz, found.part) == (CONTRACT_VERSION, 100, board.part)
    assert (found.tool, found.rtl_tools) == ("Vivado 2024.1", "amaranth 0.5.10")
    assert (found.fmax_mhz, found.slack_ns) == (102.6, 0.25)
    uram = 0 if board is Z2 else 64
    counts = {"lut": 34567, "ff": 25902, "dsp": 194, "bram": 127.5, "uram": uram}
    assert found.resources == counts
    reports = {path.name for path in (tmp_path / "reports").iterdir()}
    assert reports == {
        "timing.rpt", "utilization.rpt", "hierarchy.rpt", "methodology.rpt", "drc.rpt",
        "summary.json",
    }  # fmt: skip
    assert session.steps[:3] == ["packaging the core", "block design", "synthesis"]
    assert session.steps[-1] == f"done: overlay/{overlay.bitfile.name}, 102.6 MHz"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"version": "2019.1"}, "Vivado 2019.1 is too old, these scripts need 2022.1 or later"),
        ({"version": "old"}, 'this is no Vivado: its version is "old"'),
        ({"parts": ()}, "this Vivado has no part xc7z020clg400-1"),
        ({"fails": "synth_1"}, "synth_1: route_design ERROR"),
        ({"fails": "impl_1"}, "impl_1: route_design ERROR"),
        ({"slack": ("", "", "")}, 'timing: nothing is constrained, WNS is ""'),
        ({"flops": 0}, "the reset has 0 flip-flops to synchronise it, must have 2"),
        ({"handoff": ""}, "Vivado has written no hand-off"),
    ],
)
def test_what_fails_is_told(behaviour, message, tmp_path):
    with pytest.raises(tkinter.TclError, match=re.escape(message)):
        built(tmp_path, **behaviour)
    assert not list(tmp_path.glob("overlay/*"))


@pytest.mark.parametrize(
    ("slack", "message"),
    [
        (("-3.211", "0.03", "0"), "worst setup slack -3.211 ns, 75.7 MHz by setup"),
        (("0.2", "-0.03", "0"), "worst hold slack -0.03 ns"),
        (("0.2", "0.03", "-1.5"), "worst pulse slack -1.5 ns"),
    ],
)
def test_without_timing_there_is_no_overlay(slack, message, tmp_path):
    with pytest.raises(tkinter.TclError, match="timing is not met at 100 MHz: " + message):
        built(tmp_path, slack=slack)
    assert not list(tmp_path.glob("overlay/*"))
    told = json.loads((tmp_path / "reports" / "summary.json").read_text())
    assert told["slack_ns"] == float(slack[0])
    assert told["resources"]["lut"] == 34567


def test_a_newer_project_removes_what_an_older_one_built(tmp_path):
    built(tmp_path)
    written(tmp_path)
    assert not (tmp_path / "overlay").exists()
    assert not (tmp_path / "reports").exists()


def test_the_same_project_has_the_same_name(tmp_path):
    def name(folder, board):
        text = (written(folder, board) / "settings.tcl").read_text()
        return re.search(r'set overlay_name "(\w+)"', text)[1]

    names = [name(tmp_path / "a", Z2), name(tmp_path / "b", Z2), name(tmp_path / "c", KRIA)]
    slow = dataclasses.replace(Z2, config=TINY.replace(clock_mhz=50))
    names.append(name(tmp_path / "d", slow))
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_the_command_of_a_project_is_told_in_it(tmp_path):
    assert " ".join(project.COMMAND) in (written(tmp_path) / "build.tcl").read_text()


@pytest.mark.parametrize("text", ["a b", 'say "x"', "$x [y] {z", "back\\slash", "", "a\nb"])
def test_words_of_tcl(text):
    tcl = tkinter.Tcl()
    assert tcl.eval(f"set a {quoted(text)}") == text
    assert list(tcl.splitlist(tcl.eval(f"set a {listed([text, 'b'])}"))) == [text, "b"]


def test_large_memories_go_to_ultra_ram():
    text = "  reg [511:0] page0 [4095:0];\n  reg [255:0] page1 [4095:0];\n  reg x;\n"
    mark = '  (* ram_style = "ultra" *)\n'
    assert with_ultra_ram(text) == mark + text


def test_banks_of_the_kv260_fill_its_ultra_rams(tmp_path):
    """64 of 288 Kbit, 72 bits wide and 4,096 deep."""
    memories = BOARDS["kv260"].config.memories
    width = 16 * BOARDS["kv260"].config.tile
    assert {-(-words // 4096) for words in memories.act_banks} == {1}
    assert len(memories.act_banks) * -(-width // 72) == 64


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        (
            "pynq_z2", PYNQ_Z2,
            "pynq_z2: pynq_z2 has 128 bits to memory, a port of processing_system7 has 32, 64",
        ),
        (
            "kv260", KV260,
            "kv260: kv260 has 256 bits to memory, a port of zynq_ultra_ps_e has 32, 64, 128",
        ),
    ],
)  # fmt: skip
def test_memory_has_a_port_as_wide(name, config, message, tmp_path):
    board = dataclasses.replace(BOARDS[name], config=config)
    with pytest.raises(ValueError, match=f"^{message}$"):
        write_project(tmp_path / "a", board, "", FABRIC, "")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_board_has_a_port_as_wide(board):
    assert board.config.memories.axi_data_bits in board.family.port_bits
