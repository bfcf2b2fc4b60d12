"""Resources of the whole accelerator on a Xilinx 7-series part, counted by Yosys."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

from transept.golden.config import Config
from transept.host.yosys import SYNTHESISE_XC7, run_script, synthesiser
from transept.sim import tools
from transept.sim.build import accelerator_verilog, elaboration, find_verilog
from transept.sim.cache import Recipe, content_hash

__all__ = ["PARTS", "count", "synthesise", "synthesise_block"]

#: Limits of the part, and the share of each that a design may use.
PARTS = {
    "xc7z020": {
        "dsp": (220, 1.0),
        "lut": (53_200, 0.8),
        "ff": (106_400, 0.8),
        "bram36": (140, 1.0),
    }
}

#: LUTs of a primitive: logic, shift registers and LUT memory.
_LUTS = {
    **{f"LUT{inputs}": 1 for inputs in range(1, 7)},
    "INV": 1,
    "SRL16E": 1,
    "SRLC32E": 1,
    "RAM32X1S": 1,
    "RAM64X1S": 1,
    "RAM32X1D": 2,
    "RAM64X1D": 2,
    "RAM128X1S": 2,
    "RAM128X1D": 4,
    "RAM256X1S": 4,
    "RAM32M": 4,
    "RAM64M": 4,
}


def count(cells: Counter[str]) -> dict[str, float]:
    """dsp, lut, ff and bram36 of Yosys cell counts."""
    unknown = [name for name in cells if name.startswith("RAM") and not _known_memory(name)]
    if unknown:
        raise ValueError(f"memories of unknown cost: {', '.join(unknown)}")
    return {
        "dsp": cells["DSP48E1"],
        "lut": sum(cells[name] * luts for name, luts in _LUTS.items()),
        "ff": sum(
            number for name, number in cells.items() if re.fullmatch(r"FD[RSCP]E(_1)?", name)
        ),
        "bram36": cells["RAMB36E1"] + cells["RAMB18E1"] / 2,
    }


def _known_memory(name: str) -> bool:
    return name in _LUTS or name in ("RAMB36E1", "RAMB18E1")


def synthesise(config: Config, part: str = "xc7z020") -> dict:
    """Run ``synth_xilinx -family xc7`` on the Verilog that the simulations run; cached by content.

    Raises
    ------
    ToolMissing, BuildError
        If something is missing (all of it is named, before any work) or Yosys fails.
    """
    if find_verilog(config) is None:
        tools.require((*elaboration(config), *synthesiser()))
    text = accelerator_verilog(config)
    digest = hashlib.sha256(text.encode()).hexdigest()
    content = content_hash(text, _script(text))
    folder = _recipe(config.name, content).make(lambda scratch: _run(text, scratch))
    statistics = json.loads((folder / "stat.json").read_text())
    total = count(_cells(statistics["design"]))
    limits = {name: int(size * share) for name, (size, share) in PARTS[part].items()}
    return {
        "part": part,
        **total,
        "limits": limits,
        "fits": all(total[name] <= limit for name, limit in limits.items()),
        "rtl_sha256": digest,
        "blocks": {
            path.stem.removeprefix("block_"): count(_cells(json.loads(path.read_text())["design"]))
            for path in sorted(folder.glob("block_*.json"))
        },
    }


def synthesise_block(text: str, top: str) -> dict[str, float]:
    """``count`` of one module of a Verilog text alone, without pads and clock buffers; cached.

    By ``synth_xilinx`` as it is: what makes a large design smaller costs a small one.

    Raises
    ------
    ToolMissing, BuildError
        If Yosys is not installed, or fails.
    """
    script = "read_verilog accelerator.v; design -save all; "
    script += _commands(top, "stat.json", "synth_xilinx -family xc7 -noiopad -noclkbuf")

    def run(scratch: Path) -> None:
        _yosys(text, script.replace("; ", "\n"), scratch)

    content = content_hash(text, script)
    statistics = json.loads((_recipe(top, content).make(run) / "stat.json").read_text())
    return count(_cells(statistics["design"]))


def _recipe(label: str, content: str) -> Recipe:
    needed = synthesiser()
    return Recipe("synth", label, content, needed, lambda: tools.package_versions(needed))


def _cells(design: dict) -> Counter[str]:
    return Counter(design["num_cells_by_type"])


#: Modules of the blocks in the generated Verilog.
_BLOCK = re.compile(r"^module \\\\?(accelerator\.core\.(\w+)) ?\(", re.MULTILINE)


def _commands(top: str, report: str, synthesise: str) -> str:
    """Yosys commands that synthesise one module of the loaded design, flattened.

    Names are hidden first: ABC9 of this Yosys release stumbles over some public ones.
    """
    return (
        f"design -load all; hierarchy -top {top}; proc; flatten; opt_clean; rename -hide w:*; "
        f"{synthesise} -top {top}; tee -q -o {report} stat -json; "
    )


def _script(text: str) -> str:
    """The whole accelerator, then every block on its own."""
    script = "read_verilog accelerator.v; design -save all; "
    whole = SYNTHESISE_XC7.replace("\n", "; ")
    script += _commands("accelerator", "stat.json", whole) + "check -assert; "
    for module, name in _BLOCK.findall(text):
        script += _commands(f"\\{module}", f"block_{name}.json", f"{whole} -noiopad -noclkbuf")
    return script.replace("; ", "\n")


def _run(text: str, scratch: Path) -> None:
    _yosys(text, _script(text), scratch)


def _yosys(text: str, script: str, scratch: Path) -> None:
    (scratch / "accelerator.v").write_text(text)
    run_script(script, scratch)
