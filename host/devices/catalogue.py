"""Devices by name."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

from transept.golden.config import Config
from transept.host.devices.base import Device

__all__ = ["ACCELERATORS", "BOARD", "check_options", "open_device"]

#: Names of the devices that run instructions here, in memory that grows with what they run, and of
#: a board, whose memory is what it is.
ACCELERATORS, BOARD = ("rtl", "emulator"), "pynq"


def _makers(name: str) -> list[Any]:
    """What makes the device, and what its options are passed on to."""
    if name == "emulator":
        from transept.host.devices.emulator import EmulatorDevice

        return [EmulatorDevice]
    if name == "rtl":
        from transept.host.devices.rtl import RtlDevice
        from transept.sim.native import NativeSimulation

        return [RtlDevice, NativeSimulation]
    if name == BOARD:
        from transept.host.devices.pynq import PynqDevice

        return [PynqDevice]
    raise ValueError(f"no accelerator {name!r}, there is {', '.join((*ACCELERATORS, BOARD))}")


def check_options(name: str, options: dict[str, Any]) -> None:
    """Look whether a device has these options.

    Raises
    ------
    ValueError
        If there is no such device, or it has no such option.
    """
    if name == BOARD and importlib.util.find_spec("pynq") is None:
        raise ValueError("pynq is not installed here; see docs/board.md")
    known = {
        parameter.name
        for maker in _makers(name)
        for parameter in inspect.signature(maker).parameters.values()
        if parameter.kind != parameter.VAR_KEYWORD and parameter.name != "config"
    }
    for option in options:
        if option not in known:
            raise ValueError(
                f"device {name} has no option {option!r}, there are {', '.join(sorted(known))}"
            )


def open_device(name: str, config: Config, **options: Any) -> Device:
    """The named accelerator.

    Raises
    ------
    ValueError
        If there is no such device, or it has no such option.
    """
    check_options(name, options)
    return _makers(name)[0](config, **options)
