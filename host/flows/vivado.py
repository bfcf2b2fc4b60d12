"""Overlays by Vivado: its project is written, and built where Vivado is on PATH."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from transept.bitstreams.boards import Board
from transept.bitstreams.hwh import check_hwh
from transept.bitstreams.overlay import find_overlay
from transept.bitstreams.vivado.project import (
    COMMAND,
    OLDEST_VIVADO,
    OVERLAY,
    REPORTS,
    SUMMARY,
    write_project,
)
from transept.host.flows.base import Built, FlowError, Tell
from transept.sim import tools
from transept.sim.build import FABRIC, fabric_verilog
from transept.sim.tools import ELABORATION

__all__ = ["build"]

#: Seconds in which Vivado must say its version; it starts slowly.
_VERSION_S = 120.0
_VERSION = re.compile(r"^vivado v(\d+)\.(\d+)", re.MULTILINE | re.IGNORECASE)
#: What the project's scripts print for us, and what Vivado prints of its own errors.
_OURS, _ERROR, _THEIRS = "transept: ", "error: ", "ERROR: "
LOG = "vivado.log"


def build(board: Board, folder: Path, limit_s: float, tell: Tell) -> Built:
    """Write the project of a board, and build it if there is a Vivado.

    Raises
    ------
    ToolMissing
        If what writes Verilog is not installed.
    FlowError
        If Vivado is too old, fails, has not ended in ``limit_s`` seconds, timing is not met, or
        what it made is not the accelerator.
    """
    tell(f"elaborating {board.config.name}")
    verilog = fabric_verilog(board.config)
    write_project(folder, board, verilog, FABRIC, tools.package_versions(ELABORATION))
    command = f"cd {shlex.quote(str(folder))} && {' '.join(COMMAND)}"
    found = Built(board.name, board.config.clock_mhz, command=command)
    program = shutil.which(COMMAND[0])
    if program is None:
        return found
    _check_version(program, found)
    error = _run([program, "-nojournal", "-nolog", *COMMAND[1:]], folder, limit_s, tell)
    found = _with_summary(found, folder)
    if error:
        raise FlowError(f"{error} ({folder / LOG} has more)", found)
    return _with_overlay(found, board, folder)


def _check_version(program: str, found: Built) -> None:
    try:
        done = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=_VERSION_S
        )
    except subprocess.TimeoutExpired:
        raise FlowError(f"{program} says no version within {_VERSION_S:.0f} s", found) from None
    told = _VERSION.search(done.stdout)
    if told is None:
        raise FlowError(f"{program} is no Vivado: it says no version", found)
    version = (int(told[1]), int(told[2]))
    if version < OLDEST_VIVADO:
        needed = ".".join(map(str, OLDEST_VIVADO))
        raise FlowError(
            f"Vivado {version[0]}.{version[1]} is too old, the project needs {needed} or later",
            found,
        )


def _run(command: list[str], folder: Path, limit_s: float, tell: Tell) -> str:
    """Run Vivado, with whatever it starts, to its end; what went wrong, or nothing."""
    expired = threading.Event()
    log = folder / LOG
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
    ):

        def stop() -> None:
            expired.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit_s, stop)
        timer.start()
        try:
            assert process.stdout is not None
            step, told = "start", ""
            for line in process.stdout:
                kept.write(line)
                text = line.rstrip()
                if text.startswith(_OURS):
                    step = text.removeprefix(_OURS)
                    told = step.removeprefix(_ERROR) if step.startswith(_ERROR) else told
                    tell(f"Vivado: {step}")
                elif text.startswith(_THEIRS) and not told:
                    told = text.removeprefix(_THEIRS)
            status = process.wait()
        except BaseException:  # Ctrl-C too: it has a session of its own
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
    if expired.is_set():
        return f"Vivado has not ended within {limit_s / 60:.3g} minutes, it was at: {step}"
    if status:
        return told or f"Vivado ended with exit status {status}"
    return ""


def _with_summary(found: Built, folder: Path) -> Built:
    """What Vivado says of the routed design, if it came so far."""
    path = folder / REPORTS / SUMMARY
    if not path.is_file():
        return found
    facts: dict[str, Any] = json.loads(path.read_text())
    resources = facts["resources"]
    return dataclasses.replace(
        found,
        tool=facts["tool"],
        fmax_mhz=facts["fmax_mhz"],
        routed=True,
        **{name: resources[name] for name in ("lut", "ff", "dsp", "bram")},
    )


def _with_overlay(found: Built, board: Board, folder: Path) -> Built:
    try:
        overlay = find_overlay(folder / OVERLAY, board.name)
        if overlay.manifest.config_digest != board.config.digest:
            raise ValueError(f"{overlay.bitfile.name} is of another configuration")
        check_hwh(overlay.bitfile.with_suffix(".hwh").read_text(), board)
    except ValueError as error:
        raise FlowError(f"what Vivado made is no overlay: {error}", found) from None
    return dataclasses.replace(found, bitstream=overlay.bitfile)
