"""A Vivado that builds nothing: Tcl with those of its commands that the projects use.

It knows the ports of the IPs, so that what is misspelt, left open or driven twice is an error, and
it writes reports in Vivado's format. As a program it takes Vivado's arguments: ``install``.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
import re
import sys
import time
from pathlib import Path

__all__ = ["BEHAVIOUR", "CALLS", "Behaviour", "Vivado", "install"]

#: Environment of the program: a behaviour as JSON, and a file that gets its arguments.
BEHAVIOUR, CALLS = "FAKE_VIVADO", "FAKE_VIVADO_CALLS"

LITE, AXI3, AXI4, ANY = "AXI4LITE", "AXI3", "AXI4", "any"
IN, OUT = "in", "out"
VERSIONS = {
    "processing_system7": "5.5", "zynq_ultra_ps_e": "3.5", "proc_sys_reset": "5.0",
    "axi_protocol_converter": "2.1", "smartconnect": "1.0",
}  # fmt: skip
#: Inputs that have a value of their own if nothing drives them.
OPTIONAL = ("aux_reset_in", "mb_debug_sys_rst", "dcm_locked")
UTILISATION = """\
| Tool Version : Vivado v.{version} (lin64) Build 5076996
1. {logic} Logic
+----------------------------+--------+-------+------------+-----------+-------+
|          Site Type         |  Used  | Fixed | Prohibited | Available | Util% |
+----------------------------+--------+-------+------------+-----------+-------+
| {luts:27s}| 34,567 |     0 |          0 |     53200 | 64.98 |
|   LUT as Logic             |  30000 |     0 |          0 |     53200 | 56.39 |
|   LUT as Memory            |   4567 |     0 |          0 |     17400 | 26.25 |
| {registers:27s}|  25902 |     0 |          0 |    106400 | 24.34 |
|   Register as Flip Flop    |  25902 |     0 |          0 |    106400 | 24.34 |
+----------------------------+--------+-------+------------+-----------+-------+
| Block RAM Tile    | 127.5 |     0 |          0 |       140 | 91.07 |
|   RAMB36/FIFO*    |   123 |     0 |          0 |       140 | 87.86 |
|   RAMB18          |     9 |     0 |          0 |       280 |  3.21 |
{uram}| DSPs           |  194 |     0 |          0 |       220 | 88.18 |
|   DSP48E1 only |  194 |       |            |           |       |
"""
URAM = "| URAM              |    64 |     0 |          0 |        64 | 100.0 |\n"


class Wrong(Exception):  # noqa: N818
    """What Vivado would refuse."""


def need(truth, message):
    if not truth:
        raise Wrong(message)


@dataclasses.dataclass
class Cell:
    """A cell of the block design: pins by direction, interfaces by (is master, protocol)."""

    vlnv: str
    settings: dict
    pins: dict
    interfaces: dict


@dataclasses.dataclass
class Behaviour:
    """What a Vivado is and does.

    slack: worst of setup and hold, total of pulse widths, in ns; fails: a run that does; parts,
    board_files: those installed; handoff: text of the ``.hwh``; flops: that its synthesis leaves of
    a synchroniser; hangs: in implementation.
    """

    version: str = "2024.1"
    slack: tuple = ("0.250", "0.031", "0.000")
    fails: str = ""
    parts: tuple = ("xc7z020clg400-1", "xczu3eg-sbva484-1-i", "xck26-sfvc784-2LV-c")
    board_files: tuple = ()
    handoff: str = ""
    flops: int = 2
    hangs: bool = False


class Vivado:
    """One session; what a script asks wrongly is an error of Tcl."""

    def __init__(self, behaviour=None):
        import tkinter

        self.is_like = behaviour or Behaviour()
        self.tcl = tkinter.Tcl()
        self.steps, self.properties, self.cells = [], {}, {}
        self.nets, self.links, self.ranges, self.excluded = {}, [], {}, []
        self.core = {"buses": {}, "parameters": {}, "clocks": {}, "registers": {}, "saved": False}
        self.core |= {"maps": {}, "spaces": {}, "fields": {}}
        self.done, self.files, self.project, self.written = [], [], "", []
        self.untimed = []
        for name in dir(self):
            if name.startswith(("do_", "ipx_")):
                shown = name.replace("ipx_", "ipx::").removeprefix("do_")
                self._command(shown, getattr(self, name))

    def _command(self, name, call):
        def outcome(*words):
            try:
                answer = call(*map(str, words))
            except (Wrong, KeyError, ValueError, TypeError, IndexError) as error:
                return (1, f"ERROR: [{name}] {type(error).__name__}: {error}")
            return (0, "" if answer is None else answer)

        hidden = f"py_{name.replace('::', '_')}"
        self.tcl.createcommand(hidden, outcome)
        if "::" in name:
            self.tcl.eval("namespace eval ipx {}")
        self.tcl.eval(
            f"proc {name} args {{ lassign [{hidden} {{*}}$args] failed answer;"
            " if {$failed} {error $answer}; return $answer }"
        )

    def run(self, folder):
        """The project in a folder, as ``build.tcl`` runs it; errors are ``tkinter.TclError``."""
        self.tcl.createcommand("step", lambda what: self.steps.append(str(what)))
        self.tcl.call("set", "folder", str(folder))
        for script in ("settings.tcl", "steps.tcl"):
            self.tcl.call("source", str(Path(folder, script)))
        return self

    def words(self, text):
        return [str(word) for word in self.tcl.splitlist(text)]

    def pairs(self, text):
        words = self.words(text)
        return dict(zip(words[::2], words[1::2], strict=True))

    # --- projects and files
    def do_version(self, flag):
        need(flag == "-short", flag)
        return self.is_like.version

    def do_get_parts(self, *words):
        return tuple(part for part in self.is_like.parts if part == words[-1])

    def do_get_board_parts(self, *words):
        return tuple(fnmatch.filter(self.is_like.board_files, words[-1]))

    def do_create_project(self, *words):
        force, name, folder, flag, part = words
        need((force, flag) == ("-force", "-part"), words)
        need(part in self.is_like.parts, f"no part {part}")
        need(not self.project, f"{self.project} is open")
        self.project, self.files = name, []
        Path(folder).mkdir(parents=True)
        self.folder = Path(folder)

    def do_close_project(self):
        self.project = ""

    def do_current_project(self):
        need(self.project, "no project is open")
        return "project"

    def do_current_fileset(self):
        return "sources_1"

    def do_add_files(self, *words):
        path = Path(words[-1])
        need(self.project, "no project is open")
        need(path.is_file(), f"no file {path}")
        self.files.append(path)

    def do_update_compile_order(self, *words):
        need(words == ("-fileset", "sources_1"), words)

    def do_set_property(self, *words):
        if words[0] == "-dict":
            for name, value in self.pairs(words[1]).items():
                self._set(words[2], name, value)
        else:
            self._set(words[2], words[0], words[1])

    def _set(self, where, name, value):
        need(where, f"{name} of nothing")
        if where.startswith("cell:"):
            setting = name.removeprefix("CONFIG.")
            need(setting != name, name)
            self.cells[where.removeprefix("cell:")].settings[setting] = value
        if name == "board_part":
            need(value in self.is_like.board_files, f"no board files {value}")
        self.properties[where, name] = value

    def do_get_property(self, name, where):
        if name.startswith("STATS."):
            return dict(zip(("WNS", "WHS", "TPWS"), self.is_like.slack, strict=True))[name[6:]]
        if name in ("PROGRESS", "STATUS"):
            failed = where == self.is_like.fails
            return {"PROGRESS": "40%", "STATUS": "route_design ERROR"}[name] if failed else "100%"
        if name == "name":
            return where.rpartition("/")[2]
        return self.properties[where, name]

    # --- the core
    def ipx_package_project(self, *words):
        options = dict(zip(words[0::2], words[1::2], strict=False))
        need("-import_files" in words, "sources stay outside of the core")
        ordered = [word for word in words if word != "-import_files"]
        options = dict(zip(ordered[::2], ordered[1::2], strict=True))
        (source,) = self.files
        self.core |= {"vendor": options["-vendor"], "library": options["-library"]}
        self.core["folder"] = Path(options["-root_dir"])
        self.core["top"] = self.properties["sources_1", "top"]
        text = source.read_text()
        header = text[text.index(f"module {self.core['top']}(") :].partition("endmodule")[0]
        found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$", header, re.MULTILINE)
        self.core["ports"] = {name: (way, int(top or 0) + 1) for way, top, name in found}
        # what the names of ports suggest
        self.core["buses"] = {"s_axil": (), "guessed": ()}
        self.core["maps"], self.core["spaces"] = {"guess": {}}, {"guess": {}}

    def ipx_current_core(self):
        return "core"

    def ipx_remove_all_bus_interface(self, core):
        self.core["buses"] = {}

    def ipx_get_memory_maps(self, *words):
        return tuple(f"core/{name}" for name in self.core["maps"])

    def ipx_get_address_spaces(self, *words):
        return tuple(f"core/{name}" for name in self.core["spaces"])

    def ipx_remove_memory_map(self, name, core):
        del self.core["maps"][name]

    def ipx_remove_address_space(self, name, core):
        del self.core["spaces"][name]

    def ipx_infer_bus_interface(self, ports, kind, core):
        names, kind = self.words(ports), kind.split(":")[2]
        for name in names:
            need(name in self.core["ports"], f"the core has no port {name}")
        if kind == "aximm_rtl":
            (bus,) = {name.rpartition("_")[0] for name in names}
            every = {name for name in self.core["ports"] if name.startswith(f"{bus}_")}
            need(set(names) == every, f"{bus} lacks {every - set(names)}")
        else:
            (bus,) = names
        need(bus not in self.core["buses"], f"{bus} twice")
        self.core["buses"][bus] = (kind, *names)
        if kind == "reset_rtl":
            self.core["parameters"][f"bus/{bus}/POLARITY"] = ""

    def ipx_get_bus_interfaces(self, name, *words):
        return (f"bus/{name}",) if name in self.core["buses"] else ()

    def ipx_associate_bus_interfaces(self, *words):
        options = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
        need(self.core["buses"][options["-clock"]][0] == "clock_rtl", "no clock")
        if "-reset" in options:
            need(self.core["buses"][options["-reset"]][0] == "reset_rtl", "no reset")
        self.core["clocks"][options["-busif"]] = options["-clock"]

    def ipx_get_bus_parameters(self, *words):
        quiet, name, flag, bus = words
        need((quiet, flag) == ("-quiet", "-of_objects"), words)
        return (f"{bus}/{name}",) if f"{bus}/{name}" in self.core["parameters"] else ()

    def ipx_add_bus_parameter(self, name, bus):
        need(f"{bus}/{name}" not in self.core["parameters"], f"{name} twice")
        self.core["parameters"][f"{bus}/{name}"] = ""
        return f"{bus}/{name}"

    def ipx_add_memory_map(self, name, core):
        self.core["maps"][name] = {}
        return f"map/{name}"

    def ipx_add_address_block(self, name, where):
        self.core["maps"][where.removeprefix("map/")][name] = {}
        return f"block/{name}"

    def ipx_add_register(self, name, block):
        need(re.fullmatch(r"[A-Za-z]\w*", name), name)
        need(name not in self.core["registers"], f"{name} twice")
        self.core["registers"][name] = block
        return f"register/{name}"

    def ipx_add_field(self, name, register):
        self.core["fields"].setdefault(register.removeprefix("register/"), []).append(name)
        return f"field/{register}/{name}"

    def ipx_add_address_space(self, name, core):
        self.core["spaces"][name] = {}
        return f"space/{name}"

    def ipx_create_xgui_files(self, core):
        self.done.append("xgui")

    def ipx_update_checksums(self, core):
        self.done.append("checksums")

    def ipx_check_integrity(self, core):
        self.done.append("integrity")
        need(self.properties["bus/m_axi", "master_address_space_ref"] == "m_axi", "no space")
        for bus in ("s_axil", "m_axi"):
            need(bus in self.core["clocks"], f"{bus} has no clock")

    def ipx_save_core(self, core):
        need(self.done == ["xgui", "checksums", "integrity"], self.done)
        self.core["folder"].mkdir(parents=True)
        self.core["saved"] = True

    @property
    def vlnv(self):
        """Of the core that was packaged."""
        names = (self.properties["core", name] for name in ("name", "version"))
        return ":".join((self.core["vendor"], self.core["library"], *names))

    # --- the block design
    def do_update_ip_catalog(self, *words):
        folder = Path(self.properties["project", "ip_repo_paths"])
        need(self.core["saved"] and folder == self.core["folder"], f"no core in {folder}")

    def do_get_ipdefs(self, flag, pattern):
        name = pattern.split(":")[2]
        if name not in VERSIONS:
            return ()
        return tuple(f"xilinx.com:ip:{name}:{version}" for version in ("0.9", VERSIONS[name]))

    def do_create_bd_design(self, name):
        self.design = name

    def do_create_bd_cell(self, *words):
        kind, ip, flag, vlnv, name = words
        need((kind, ip, flag) == ("-type", "ip", "-vlnv"), words)
        need(name not in self.cells, f"{name} twice")
        make = {
            "processing_system7": self._ps7, "zynq_ultra_ps_e": self._ps8,
            "proc_sys_reset": self._reset, "axi_protocol_converter": self._converter,
            "smartconnect": self._smart,
        }  # fmt: skip
        ip_name = vlnv.split(":")[2]
        if vlnv == self.vlnv:
            ways = {"input": IN, "output": OUT}
            plain = ("aclk", "aresetn", "interrupt")
            pins = {name: ways[self.core["ports"][name][0]] for name in plain}
            buses = {"s_axil": (False, LITE), "m_axi": (True, AXI4)}
            self.cells[name] = Cell(vlnv, {}, pins, buses)
        else:
            need(VERSIONS.get(ip_name) == vlnv.split(":")[3], f"not the newest: {vlnv}")
            self.cells[name] = make[ip_name](vlnv)
        return f"cell:{name}"

    @staticmethod
    def _ps7(vlnv):
        pins = {"M_AXI_GP0_ACLK": IN, "S_AXI_HP0_ACLK": IN, "IRQ_F2P": IN}
        pins |= {"FCLK_CLK0": OUT, "FCLK_RESET0_N": OUT}
        buses = {"M_AXI_GP0": (True, AXI3), "S_AXI_HP0": (False, AXI3)}
        return Cell(vlnv, {}, pins, buses)

    @staticmethod
    def _ps8(vlnv):
        pins = {"maxihpm0_fpd_aclk": IN, "saxihp0_fpd_aclk": IN, "pl_ps_irq0": IN}
        pins |= {"pl_clk0": OUT, "pl_resetn0": OUT}
        buses = {"M_AXI_HPM0_FPD": (True, AXI4), "S_AXI_HP0_FPD": (False, AXI4)}
        return Cell(vlnv, {}, pins, buses)

    @staticmethod
    def _reset(vlnv):
        pins = dict.fromkeys(("slowest_sync_clk", "ext_reset_in", *OPTIONAL), IN)
        pins |= dict.fromkeys(("interconnect_aresetn", "peripheral_aresetn", "mb_reset"), OUT)
        return Cell(vlnv, {}, pins, {})

    @staticmethod
    def _converter(vlnv):
        return Cell(
            vlnv, {}, {"aclk": IN, "aresetn": IN}, {"S_AXI": (False, ""), "M_AXI": (True, "")}
        )

    @staticmethod
    def _smart(vlnv):
        buses = {"S00_AXI": (False, ANY), "M00_AXI": (True, ANY)}
        return Cell(vlnv, {}, {"aclk": IN, "aresetn": IN}, buses)

    def do_apply_bd_automation(self, *words):
        options = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
        cell = self.cells[words[-1].removeprefix("cell:")]
        need(options["-rule"].rpartition(":")[2] == cell.vlnv.split(":")[2], words)
        told = self.pairs(options["-config"])
        if told.get("make_external"):
            need(told["make_external"] == "FIXED_IO, DDR", told)
        preset = told["apply_board_preset"]
        need(preset == "0" or self.properties.get(("project", "board_part")), "no board files")
        cell.settings["preset"] = preset

    def _find(self, path, what):
        cell, _, name = path.partition("/")
        need(cell in self.cells, f"no cell {cell}")
        need(name in getattr(self.cells[cell], what), f"{cell} has no {name}")
        return path

    def do_get_bd_pins(self, path):
        return self._find(path, "pins")

    def do_get_bd_intf_pins(self, path):
        return self._find(path, "interfaces")

    def _way(self, pin):
        cell, _, name = pin.partition("/")
        return self.cells[cell].pins[name]

    def do_connect_bd_net(self, driver, load):
        need((self._way(driver), self._way(load)) == (OUT, IN), f"{driver} to {load}")
        need(load not in self.nets, f"{load} is driven twice")
        self.nets[load] = driver

    def _protocol(self, pin):
        cell, _, name = pin.partition("/")
        found = self.cells[cell]
        master, protocol = found.interfaces[name]
        return master, protocol or found.settings["MI_PROTOCOL" if master else "SI_PROTOCOL"]

    def do_connect_bd_intf_net(self, master, slave):
        for pin in (master, slave):
            need(not any(pin in link for link in self.links), f"{pin} is connected twice")
        (is_master, mine), (is_other, its) = self._protocol(master), self._protocol(slave)
        need(is_master and not is_other, f"{master} to {slave}")
        need(ANY in (mine, its) or mine == its, f"{master} is {mine}, {slave} is {its}")
        self.links.append((master, slave))

    def do_get_bd_addr_spaces(self, path):
        need(path in ("ps7/Data", "ps8/Data", "accelerator_0/m_axi"), f"no space {path}")
        return path

    def do_get_bd_addr_segs(self, *words):
        known = ["accelerator_0/s_axil/reg0"]
        known += ["ps7/S_AXI_HP0/HP0_DDR_LOWOCM"] if "ps7" in self.cells else []
        names = ("DDR_LOW", "DDR_HIGH", "LPS_OCM", "QSPI")
        known += [f"ps8/SAXIGP2/HP0_{n}" for n in names] if "ps8" in self.cells else []
        found = tuple(fnmatch.filter(known, words[-1]))
        need(found or "-quiet" in words, f"no segment {words[-1]}")
        return found

    def do_assign_bd_address(self, *words):
        options = dict(zip(words[:6:2], words[1:6:2], strict=True))
        need(words[7] == "-force", words)
        bounds = (int(options["-offset"], 0), int(options["-range"], 0))
        self.ranges[options["-target_address_space"], words[6]] = bounds

    def do_exclude_bd_addr_seg(self, *words):
        quiet, segment, flag, space = words
        need((quiet, flag) == ("-quiet", "-target_address_space"), words)
        self.excluded.append((space, segment))

    def do_validate_bd_design(self):
        for name, cell in self.cells.items():
            for pin, way in cell.pins.items():
                driven = f"{name}/{pin}" in self.nets or pin in OPTIONAL
                need(way == OUT or driven, f"{name}/{pin} is open")
            for bus in cell.interfaces:
                linked = any(f"{name}/{bus}" in link for link in self.links)
                need(linked, f"{name}/{bus} is open")
        clocks = {driver for load, driver in self.nets.items() if load.lower().endswith("clk")}
        need(len(clocks) == 1, f"several clocks: {clocks}")
        self.done.append("validated")

    def do_save_bd_design(self):
        need("validated" in self.done, "never validated")

    def do_get_files(self, name):
        need(name == f"{self.design}.bd", f"no file {name}")
        return name

    def do_generate_target(self, what, design):
        folder = self.folder / f"{self.design}.gen/sources_1/bd/{self.design}/hw_handoff"
        folder.mkdir(parents=True)
        if self.is_like.handoff:
            (folder / f"{self.design}.hwh").write_text(self.is_like.handoff)

    def do_make_wrapper(self, *words):
        need(words == ("-files", f"{self.design}.bd", "-top", "-import"), words)

    # --- runs and reports
    def do_launch_runs(self, run, flag, jobs):
        need(flag == "-jobs" and int(jobs) > 0, jobs)
        need(run == "synth_1" or "synth_1" in self.done, "nothing is synthesised")
        need(self.properties["sources_1", "top"] == f"{self.design}_wrapper", "another top")
        if run == "impl_1":
            for path in self.files:
                self.tcl.call("source", str(path))

    def do_wait_on_run(self, run):
        if self.is_like.hangs and run == "impl_1":
            time.sleep(600)
        self.done.append(run)

    def do_get_runs(self, run):
        need(run in ("synth_1", "impl_1"), f"no run {run}")
        return run

    def do_open_run(self, run):
        need(run in self.done, f"{run} has not run")

    def do_get_cells(self, *words):
        (pattern,) = re.findall(r"NAME =~ (\S+)", words[-1])
        names = [
            f"system_i/accelerator_0/inst/synchroniser/reset_{suffix}"
            for suffix in ("reg", "stage0_reg")
        ][: self.is_like.flops]
        return tuple(fnmatch.filter(names, pattern))

    def do_get_pins(self, *words):
        flag, condition, of, cells = words
        need((flag, of) == ("-filter", "-of_objects"), words)
        (pin,) = re.findall(r"^REF_PIN_NAME == (\w+)$", condition)
        return tuple(f"{cell}/{pin}" for cell in self.words(cells))

    def do_set_false_path(self, flag, pins):
        need(flag == "-to", flag)
        self.untimed += self.words(pins)

    def _report(self, text, words):
        Path(words[words.index("-file") + 1]).write_text(text)

    def do_report_timing_summary(self, *words):
        setup, hold, pulse = self.is_like.slack
        self._report(f"    WNS(ns)      WHS(ns)     WPWS(ns)\n  {setup}  {hold}  {pulse}\n", words)

    def do_report_utilization(self, *words):
        ultra = "ps8" in self.cells
        logic = "CLB" if ultra else "Slice"
        text = UTILISATION.format(
            version=self.is_like.version, logic=logic, uram=URAM if ultra else "",
            luts=f"{logic} LUTs*", registers=f"{logic} Registers",
        )  # fmt: skip
        self._report("| Instance | Total LUTs |\n" if "-hierarchical" in words else text, words)

    def do_report_methodology(self, *words):
        self._report("", words)

    def do_report_drc(self, *words):
        self._report("", words)

    def do_write_bitstream(self, force, path):
        need("impl_1" in self.done, "nothing is implemented")
        Path(path).write_bytes(b"a bitstream")
        self.written.append(Path(path))


def install(folder):
    """Put a program ``vivado`` into a folder for PATH."""
    here = Path(__file__)
    program = folder / "vivado"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(here.parent)!r})\n"
        f"import {here.stem}\n{here.stem}.main(sys.argv[1:])\n"
    )
    program.chmod(0o755)
    return program


def main(arguments):
    """Vivado's command line."""
    told = json.loads(os.environ.get(BEHAVIOUR, "{}"))
    behaviour = Behaviour(**told)
    if path := os.environ.get(CALLS):
        with Path(path).open("a") as calls:
            calls.write(json.dumps(arguments) + "\n")
    if arguments == ["-version"]:
        print(f"vivado v{behaviour.version} (64-bit)\nTool Version Limit: 2024.05")
        return
    assert arguments[-4:] == ["-mode", "batch", "-source", "build.tcl"], arguments
    Vivado(behaviour).tcl.call("source", "build.tcl")
