"""The accelerator in the primitives of a 7-series part, flat, with the places it came from."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

from transept.golden.config import Config
from transept.host.timing.netlist import Netlist, read_netlist
from transept.host.yosys import SYNTHESISE_XC7, run_script, synthesiser
from transept.sim import tools
from transept.sim.build import TOP, accelerator_verilog, find_verilog
from transept.sim.cache import Recipe, content_hash
from transept.sim.tools import ELABORATION

__all__ = ["map_accelerator", "map_verilog"]

#: Public names are hidden: ABC9 of this Yosys release stumbles over some of them.
_SCRIPT = f"""\
read_verilog design.v
hierarchy -top {{top}}
proc
flatten -scopename
opt_clean
rename -hide w:*
{SYNTHESISE_XC7} -top {{top}}
write_json netlist.json
"""
#: Outputs for those who watch a simulation; a board connects them to nothing.
_WATCHED = ("activity",)
_KEPT = "netlist.json.gz"
#: Of a cell's parameters, the contents of memories and tables say nothing of time.
_CONTENTS = ("INIT",)


def map_accelerator(config: Config) -> Netlist:
    """The netlist of the accelerator; synthesised (minutes) only if its Verilog has changed.

    Raises
    ------
    ToolMissing, BuildError
        If Amaranth or Yosys is not installed (all that is missing is named), or fails.
    """
    if find_verilog(config, places=True) is None:
        tools.require((*ELABORATION, *synthesiser()))
    netlist = map_verilog(accelerator_verilog(config, places=True), TOP, label=config.name)
    outputs = {name: nets for name, nets in netlist.outputs.items() if name not in _WATCHED}
    return dataclasses.replace(netlist, outputs=outputs)


def map_verilog(text: str, top: str, *, label: str) -> Netlist:
    """The netlist of the module ``top`` of a Verilog text."""
    script = _SCRIPT.format(top=top)
    needed = synthesiser()
    recipe = Recipe(
        "mapped",
        label,
        content_hash(text, script),
        needed,
        lambda: tools.package_versions(needed),
    )

    def fill(scratch: Path) -> None:
        (scratch / "design.v").write_text(text)
        run_script(script, scratch)
        design = json.loads((scratch / "netlist.json").read_text())
        for path in scratch.iterdir():
            path.unlink()
        (scratch / _KEPT).write_bytes(gzip.compress(json.dumps(_slim(design, top)).encode(), 6))

    with gzip.open(recipe.make(fill) / _KEPT, "rt") as file:
        return read_netlist(json.load(file), top)


def _slim(design: dict[str, Any], top: str) -> dict[str, Any]:
    """Without the modules, names and contents that timing does not look at."""
    module = design["modules"][top]
    for cell in module["cells"].values():
        cell["parameters"] = {
            name: value
            for name, value in cell["parameters"].items()
            if not name.startswith(_CONTENTS)
        }
    return {"modules": {top: {"ports": module["ports"], "cells": module["cells"]}}}
