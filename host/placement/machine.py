"""The machine that costs were measured on, and the file that keeps them."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transept.golden.config import Config
from transept.host.files import whole_file
from transept.host.placement.costs import DeviceCosts
from transept.sim.cache import cache_dir, content_hash

__all__ = ["costs_file", "costs_path", "load_costs", "machine", "read_costs", "save_costs"]

_log = logging.getLogger(__name__)

VERSION = 2
_PACKAGES = ("torch", "triton", "numpy")


def machine() -> dict[str, str]:
    """What decides how fast this machine is: processor, cores, torch's threads, GPU, versions."""
    about = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "threads": str(_threads()),
        "gpu": _gpu(),
    }
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


def _threads() -> int:
    try:
        import torch
    except ImportError:
        return 1
    return torch.get_num_threads()


# --- files
def costs_file(costs: Mapping[str, DeviceCosts], **about: str) -> dict[str, Any]:
    """What a file of costs holds, for JSON: costs by device, the machine, the day, and whatever is
    told about how they came about."""
    return {
        "version": VERSION,
        "machine": machine(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        **about,
        "devices": {name: known.told() for name, known in costs.items()},
    }


def read_costs(path: str | Path) -> dict[str, DeviceCosts]:
    """Costs by device, from a file of ``transept calibrate --json``.

    Raises
    ------
    ValueError
        If there is no such file, or it holds no costs of this version.
    """
    try:
        told = json.loads(Path(path).read_text())
        if told["version"] != VERSION:
            raise ValueError(f"its version is {told['version']}, this is {VERSION}")
        return {name: DeviceCosts.read(entry) for name, entry in told["devices"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no costs: {error}") from None


def costs_path(config: Config) -> Path:
    """Where costs of this machine are kept, with accelerators of this configuration."""
    return cache_dir() / "costs" / f"{content_hash(machine(), repr(config))}.json"


def load_costs(config: Config) -> dict[str, DeviceCosts]:
    """What was measured on this machine, by device; nothing if nothing was."""
    try:
        return read_costs(costs_path(config))
    except ValueError:
        return {}


def save_costs(costs: Mapping[str, DeviceCosts], config: Config) -> dict[str, DeviceCosts]:
    """Keep costs, with what was known of other devices and operators; all that is known then."""
    known = load_costs(config)
    for name, found in costs.items():
        known[name] = found.joined(known[name]) if name in known else found
    path = costs_path(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as place:
            place.write_text(json.dumps(costs_file(known), indent=1))
    except OSError as error:
        _log.warning("measured costs are not kept, see TRANSEPT_CACHE: %s", error)
    return known
