"""Device ``auto``: which devices there are, what they cost, and the scheduler on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from transept.golden.config import Config
from transept.host.backends.catalogue import CPU, GPU
from transept.host.devices.base import DeviceError
from transept.host.placement.calibrate import Work, calibrate
from transept.host.placement.costs import DeviceCosts
from transept.host.placement.machine import load_costs, save_costs
from transept.host.placement.scheduler import Scheduler
from transept.host.runtime.session import Session

__all__ = ["Placement", "available", "scheduler"]

RTL = "rtl"


@dataclass(frozen=True)
class Placement:
    """What a user may say about where a model runs.

    devices: to choose from, all that this machine has if none are told; pins: devices by layer;
    memory: bytes of weights that a device holds at most; clock: cycles a second of the accelerator,
    in place of those of its simulation; fallback: whether what fails moves elsewhere; options: of
    each device.
    """

    devices: Sequence[str] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    clock: float | None = None
    fallback: bool = True
    options: Mapping[str, Mapping] = field(default_factory=dict)

    def candidates(self, config: Config) -> list[str]:
        """Devices to choose from; those that something is pinned to are among them."""
        told = list(self.devices) or available(config)
        return list(dict.fromkeys([*told, *self.pins.values()]))


def available(config: Config) -> list[str]:
    """Devices that this machine has: the CPU, a GPU, the simulated RTL if it is built."""
    from transept.sim.build import is_built

    found = [CPU]
    try:
        from transept.host.backends.gpu import check_card

        check_card()
        found.insert(0, GPU)
    except (ImportError, DeviceError):
        pass
    if is_built(config):
        found.append(RTL)
    return found


def scheduler(
    config: Config,
    placement: Placement,
    works: Callable[[], Sequence[Work]],
    session: Callable[[str], Session],
    progress: Callable[[str], None] = lambda text: None,
) -> Scheduler:
    """A scheduler on the devices of this machine; what was never measured is, on ``works``.

    Raises
    ------
    ValueError
        If there is no device of a name.
    DeviceError
        If a device is not there, or fails while it is measured.
    """
    costs = dict(load_costs())
    wanted = placement.candidates(config)
    missing = [device for device in wanted if device not in costs]
    if RTL in wanted and placement.clock:
        missing = list(dict.fromkeys([*missing, RTL]))
    if missing:
        found = calibrate(works(), missing, config, clock=placement.clock, progress=progress)
        costs |= found
        kept = {name: known for name, known in found.items() if not _told(name, placement)}
        if kept:
            save_costs(kept)
    known: dict[str, DeviceCosts] = {device: costs[device] for device in wanted}
    return Scheduler(
        session,
        known,
        pins=placement.pins,
        memory=placement.memory,
        fallback=placement.fallback,
    )


def _told(device: str, placement: Placement) -> bool:
    """Whether a device's costs are those of a clock that the user told."""
    return device == RTL and placement.clock is not None
