"""The part of a deployment that talks to the board: with NumPy and pynq alone, on the board itself
or on a machine that reaches it by PYNQ.remote. Each step is a line of JSON on standard output.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transept.bitstreams.overlay import SIMULATED
from transept.host.deploy.cases import load_cases
from transept.host.deploy.package import CASES, PROGRAM, Package, read_package
from transept.host.deploy.self_test import Finding, self_test
from transept.host.devices.base import Device, DeviceError
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.file import load

if TYPE_CHECKING:
    from transept.host.devices.pynq import Calls

__all__ = ["deploy", "main"]

REMOTE = "PYNQ_REMOTE_DEVICES"
#: Where a board keeps packages, and bitstreams.
HOME, FIRMWARE = "/home/xilinx/transept", "/lib/firmware"


def deploy(folder: Path, *, remote: bool, tested: bool = True) -> Iterator[Finding]:
    """Bring a package to the board, if it is a remote one, and test the board with it; every step
    as it ends, the last one is the first that fails."""
    try:
        package = read_package(folder)
        config = load(folder / PROGRAM).config
    except (ValueError, ProgramError) as error:
        yield Finding("package", str(error))
        return
    yield Finding("package")
    from transept.host.devices.pynq import Calls

    calls = Calls("board")
    try:
        _check_board(package, calls)
        if remote:
            _send(package, calls)
    except DeviceError as error:
        yield Finding("files", str(error))
        return
    yield Finding("files")
    if not tested:
        return

    def opened() -> Device:
        from transept.host.devices.pynq import PynqDevice

        return PynqDevice(config, bitfile=package.overlay.bitfile)

    yield from self_test(opened, load_cases((folder / CASES).read_bytes()))


def _check_board(package: Package, calls: Calls) -> None:
    """DeviceError if the overlay is for simulation and the board is real, or the reverse."""
    from transept.host.devices.pynq import connected

    name = calls.ask("connection", lambda: str(connected().name))
    simulated = name.endswith("simulated")
    if simulated != (package.overlay.manifest.tool == SIMULATED):
        kinds = ("real", "simulated")
        raise DeviceError(
            f"the board {name} is {kinds[simulated]}, the overlay "
            f"{package.overlay.bitfile.name} is for a {kinds[not simulated]} one"
        )


def _send(package: Package, calls: Calls) -> None:
    """Write every file to the board, and read it back; the bitstream where it is programmed from,
    too, for pynq sends none whose name is there already."""
    import pynq
    from pynq.pl_server.embedded_device import bit2bin

    device, bitfile = pynq.Device.active_device, package.overlay.bitfile
    folder = f"{HOME}/{bitfile.stem}"
    sent = {f"{folder}/{path.name}": path.read_bytes() for path in package.files}
    sent[f"{FIRMWARE}/{bitfile.stem}.bin"] = bit2bin(bitfile.read_bytes())
    for there, data in sent.items():
        calls.ask(f"{there}: writing", partial(device.write_file, there, data), len(data))
        found = calls.ask(f"{there}: reading", partial(device.read_file, there), len(data))
        if hashlib.sha256(found).digest() != hashlib.sha256(data).digest():
            raise DeviceError(f"{there} is corrupt: the board has other bytes than were sent")


def main() -> None:
    """Deploy the package that the command line names; exit status 1 if a step fails."""
    parser = argparse.ArgumentParser(description="Bring a package to a PYNQ board and test it.")
    parser.add_argument("package", type=Path)
    parser.add_argument(
        "--host", help="address of a board with PYNQ.remote; this machine if absent"
    )
    parser.add_argument("--no-self-test", action="store_true")
    options = parser.parse_args()
    if options.host:
        os.environ[REMOTE] = options.host  # pynq looks for it when it is imported
    warnings.simplefilter("ignore")
    failed = False
    try:
        for finding in deploy(
            options.package, remote=bool(options.host), tested=not options.no_self_test
        ):
            print(json.dumps(dataclasses.asdict(finding)), flush=True)
            failed = failed or bool(finding.error)
    except Exception as error:
        told = Finding("connection", f"{type(error).__name__}: {error}")
        print(json.dumps(dataclasses.asdict(told)), flush=True)
        failed = True
    sys.exit(int(failed))
