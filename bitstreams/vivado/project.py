"""The project of a board's overlay: one folder that any machine with Vivado builds by one command.

The scripts beside this module are copied; what depends on the board and its accelerator is written
to ``settings.tcl``.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from transept.bitstreams.boards import INSTANCE, VLNV, Board, Family
from transept.bitstreams.hwh import BLOCK, INTERFACE, SYSTEMS
from transept.bitstreams.overlay import build_name
from transept.bitstreams.register_map import described
from transept.golden.config import CONTRACT_VERSION

__all__ = ["COMMAND", "OLDEST_VIVADO", "OVERLAY", "REPORTS", "SUMMARY", "quoted", "write_project"]

#: What builds a project, in its folder.
COMMAND = ("vivado", "-mode", "batch", "-source", "build.tcl")
#: It knows every part; nothing older was looked at.
OLDEST_VIVADO = (2022, 1)
#: Where a build leaves its results, below the project's folder.
OVERLAY, REPORTS = "overlay", "reports"
#: What a build says of itself, whether timing is met or not; beside the reports.
SUMMARY = "summary.json"

_SCRIPTS = ("build.tcl", "steps.tcl", "package.tcl", "accelerator.xdc")
_DESIGNS = {Family.ZYNQ_7000: "zynq_7000.tcl", Family.ZYNQ_ULTRASCALE: "zynq_ultrascale.tcl"}
_STRATEGY = "Performance_ExplorePostRoutePhysOpt"
#: Flip-flops of the reset's synchroniser, as ``rtl.fabric`` has them.
_RESET_STAGES = 2
#: What the bus master does, for what is between it and memory: see ``rtl.memory.bursts``.
_MASTER = {
    "MAX_BURST_LENGTH": 16,
    "NUM_READ_OUTSTANDING": 8,
    "NUM_WRITE_OUTSTANDING": 8,
    "SUPPORTS_NARROW_BURST": 0,
}
_MASTER_BITS = 32
#: Bits from which on a memory is put into UltraRAM where there is any: banks of ACT alone.
_LARGE = 1 << 21

_PORT = re.compile(r"^  (?:input|output) (?:\[\d+:0\] )?(\w+);$", re.MULTILINE)
_MEMORY = re.compile(r"^  (reg (?:\[(\d+):0\] )?\S+ \[(\d+):0\];)$", re.MULTILINE)


def write_project(
    folder: Path, board: Board, verilog: str, core: str, rtl_tools: str
) -> tuple[Path, ...]:
    """Write the project; returns its files. What an older one has built in the folder is removed.

    verilog: of ``rtl.fabric.Fabric``; core: its module; rtl_tools: what made it, with versions.

    Raises
    ------
    ValueError
        If the processing system has no port to memory as wide as the accelerator's.
    """
    bits = board.config.memories.axi_data_bits
    if bits not in board.family.port_bits:
        known = ", ".join(map(str, board.family.port_bits))
        raise ValueError(
            f"{board.name}: {board.config.name} has {bits} bits to memory, a port of "
            f"{board.family.value} has {known}"
        )
    if board.ultra_ram:
        verilog = with_ultra_ram(verilog)
    here = Path(__file__).parent
    texts = {name: (here / name).read_text() for name in _SCRIPTS}
    texts["design.tcl"] = (here / _DESIGNS[board.family]).read_text()
    texts[f"{core}.v"] = verilog
    settings = _settings(board, verilog, core, rtl_tools)
    facts = json.dumps([texts, settings], sort_keys=True)
    settings["overlay_name"] = quoted(build_name(board, facts))
    texts["settings.tcl"] = _assignments(board, settings)
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / name).is_file() for name in texts):  # a project, and what it was built to
        for built in (OVERLAY, REPORTS):
            shutil.rmtree(folder / built, ignore_errors=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return tuple(folder / name for name in texts)


def _assignments(board: Board, settings: dict[str, str]) -> str:
    lines = [f"# {board.name}: what build.tcl and the scripts that it sources make the overlay of."]
    lines += [f"set {name} {value}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def _settings(board: Board, verilog: str, core: str, rtl_tools: str) -> dict[str, str]:
    """Variables of the scripts, as Tcl words."""
    config = board.config
    system, *_ = SYSTEMS[board.family]
    plain = {
        "oldest_vivado": ".".join(map(str, OLDEST_VIVADO)),
        "part": board.part,
        "board_files": board.board_files,
        "strategy": _STRATEGY,
        "core": core,
        "config": config.name,
        "description": f"Transformer accelerator with {config.tile} x {config.tile} MACs",
        "vlnv": VLNV,
        "instance": INSTANCE,
        "system": system,
        "clock_mhz": config.clock_mhz,
        "data_bits": config.memories.axi_data_bits,
        "register_block": BLOCK,
        "register_base": f"{board.register_base:#x}",
        "register_bytes": f"{board.register_bytes:#x}",
        "memory_bytes": f"{board.memory_bytes:#x}",
        "master_bits": _MASTER_BITS,
        "reset_stages": _RESET_STAGES,
    }
    top = verilog[verilog.index(f"module {core}(") :]
    ports = _PORT.findall(top[: top.index("endmodule")])
    buses = [
        part
        for bus in (INTERFACE, "m_axi")
        for part in (bus, listed(port for port in ports if port.startswith(f"{bus}_")))
    ]
    return {
        **{name: quoted(value) for name, value in plain.items()},
        "system_settings": listed(part for setting in board.system for part in setting),
        "master": listed(part for setting in _MASTER.items() for part in setting),
        "buses": "[list " + " ".join(buses) + "]",
        "manifest": _manifest(board, verilog, rtl_tools),
        "registers": _registers(board),
    }


def _manifest(board: Board, verilog: str, rtl_tools: str) -> str:
    """Names and JSON values of ``overlay.Manifest``, but for what Vivado will say."""
    fields = {
        "board": board.name,
        "config": board.config.name,
        "config_digest": board.config.digest,
        "contract": CONTRACT_VERSION,
        "clock_mhz": board.config.clock_mhz,
        "rtl_sha256": hashlib.sha256(verilog.encode()).hexdigest(),
        "part": board.part,
        "rtl_tools": rtl_tools,
    }
    return listed(part for name, value in fields.items() for part in (name, json.dumps(value)))


def _registers(board: Board) -> str:
    rows = []
    for register in described(board.config):
        fields = [
            listed((field.name.upper(), field.low, field.width, field.doc))
            for field in register.fields
        ]
        facts = [register.name, f"{register.offset:#x}", register.access, register.doc]
        row = " ".join([*map(quoted, facts), f"[list {' '.join(fields)}]"])
        rows.append(f"    [list {row}]")
    return "[list \\\n" + " \\\n".join(rows) + "]"


def quoted(value: object) -> str:
    """A value as one word of Tcl."""
    text = re.sub(r'([\\$\[\]{}"])', r"\\\1", str(value)).replace("\n", r"\n")
    return f'"{text}"'


def listed(values: Iterable[object]) -> str:
    """Values as a list of Tcl."""
    return f"[list {' '.join(map(quoted, values))}]"


def with_ultra_ram(verilog: str) -> str:
    """The Verilog with its largest memories marked for UltraRAM, which synthesis does not choose
    by itself where block RAM might do."""

    def mark(found: re.Match[str]) -> str:
        bits = (int(found[2] or 0) + 1) * (int(found[3]) + 1)
        return f'  (* ram_style = "ultra" *)\n  {found[1]}' if bits >= _LARGE else found[0]

    return _MEMORY.sub(mark, verilog)
