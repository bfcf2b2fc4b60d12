"""Whatever runs regions, by name."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from typing import Any

from transept.golden.config import Config
from transept.host.backends.accelerator import AcceleratorBackend
from transept.host.backends.base import Backend, GraphBackend
from transept.host.backends.golden import GoldenGraph
from transept.host.devices.base import DeviceError
from transept.host.devices.catalogue import ACCELERATORS, BOARD, check_options

__all__ = ["BACKENDS", "CPU", "GOLDEN", "GPU", "check_backend", "open_backend"]

CPU, GPU, GOLDEN = "cpu", "gpu", "golden"
#: Every name: accelerators, processors, the specification, and a board.
BACKENDS = (*ACCELERATORS, GPU, CPU, GOLDEN, BOARD)
#: Of processors, by name.
OPTIONS: dict[str, tuple[str, ...]] = {GPU: ("timeout", "cards"), CPU: (), GOLDEN: ()}


def check_backend(name: str, options: Mapping[str, Any]) -> None:
    """Look whether there is such a device with these options.

    Raises
    ------
    ValueError
        If there is not.
    """
    if name not in BACKENDS:
        raise ValueError(f"no device {name!r}, there is {', '.join(BACKENDS)}")
    if name in (*ACCELERATORS, BOARD):
        check_options(name, dict(options))
        return
    for option in options:
        if option not in OPTIONS[name]:
            known = ", ".join(OPTIONS[name]) or "none"
            raise ValueError(f"device {name} has no option {option!r}, there are {known}")


def open_backend(name: str, config: Config, **options: Any) -> Backend:
    """The named device.

    Raises
    ------
    ValueError
        If there is no such device, or it has no such option.
    DeviceError
        If this machine does not have it.
    """
    check_backend(name, options)
    if name in (*ACCELERATORS, BOARD):
        return AcceleratorBackend(name, config, **options)
    if name == GPU:
        return _gpu(options)
    if name == GOLDEN or importlib.util.find_spec("torch") is None:
        return GraphBackend(GoldenGraph)
    from transept.host.backends.cpu import CpuGraph

    return GraphBackend(CpuGraph)


def _gpu(options: dict[str, Any]) -> Backend:
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            raise DeviceError(f"gpu: {package} is not installed; pip install 'transept[gpu]'")
    from transept.host.backends.gpu import GpuGraph, cards, check_card

    check_card()
    count = options.pop("cards", 1)
    if count == 1:
        return GraphBackend(GpuGraph, **options)
    from transept.host.kernels import INTERPRETED
    from transept.host.parallel.sequences import SequenceParallelGraph

    each = [functools.partial(GpuGraph, device=card, **options) for card in cards(count)]
    threads = 1 if INTERPRETED else count  # the interpreter takes one kernel at a time
    return GraphBackend(functools.partial(SequenceParallelGraph, each=each, threads=threads))
