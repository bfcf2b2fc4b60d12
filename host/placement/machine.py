"""The machine that costs were measured on, and the file that keeps them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from transept.host.placement.costs import DeviceCosts
from transept.sim.cache import cache_dir, content_hash

__all__ = ["load_costs", "machine", "save_costs"]

VERSION = 1
_PACKAGES = ("torch", "triton", "numpy")


def machine() -> dict[str, str]:
    """What decides how fast this machine is: processor, cores, GPU, versions."""
    about = {"processor": _processor(), "cores": str(len(os.sched_getaffinity(0))), "gpu": _gpu()}
    for package in _PACKAGES:
        try:
            about[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            about[package] = ""
    return about


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu() -> str:
    try:
        import torch
    except ImportError:
        return ""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def _path() -> Path:
    return cache_dir() / "costs" / f"{content_hash(machine())}.json"


def load_costs() -> dict[str, DeviceCosts]:
    """What was measured on this machine, by device; nothing if nothing was."""
    try:
        told = json.loads(_path().read_text())
        if told["version"] != VERSION:
            return {}
        return {name: DeviceCosts.read(entry) for name, entry in told["devices"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def save_costs(costs: Mapping[str, DeviceCosts]) -> Path:
    """Keep costs for this machine, those of other devices too; where they are."""
    path = _path()
    if not costs:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    devices = {name: known.told() for name, known in {**load_costs(), **costs}.items()}
    fresh = path.with_suffix(f".{os.getpid()}")
    told = {"version": VERSION, "machine": machine(), "devices": devices}
    fresh.write_text(json.dumps(told, indent=1))
    fresh.replace(path)
    return path
