"""Device ``auto``: which devices there are, what they cost, and the scheduler on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from transept.golden.config import Config
from transept.host.backends.catalogue import BACKENDS, CPU, GPU, check_backend
from transept.host.devices.base import DeviceError
from transept.host.placement.calibrate import RTL, calibrate, clocked
from transept.host.placement.costs import DeviceCosts, signature
from transept.host.placement.machine import load_costs, save_costs
from transept.host.placement.parts import Work
from transept.host.placement.plan import check_pins
from transept.host.placement.scheduler import Scheduler
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

__all__ = ["Placement", "available", "costs_of", "scheduler"]


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

    def __post_init__(self) -> None:
        for name, nbytes in self.memory.items():
            if name not in BACKENDS:
                raise ValueError(f"no device {name!r}, there is {', '.join(BACKENDS)}")
            if nbytes < 1:
                raise ValueError(f"limit of memory of {name} is {nbytes} bytes, must be 1 at least")

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
        from transept.host.kernels import INTERPRETED

        check_card()
        if not INTERPRETED:  # an interpreter is never the fastest
            found.insert(0, GPU)
    except (ImportError, DeviceError):
        pass
    if is_built(config):
        found.append(RTL)
    return found


def scheduler(
    config: Config,
    placement: Placement,
    regions: Sequence[Region],
    session: Callable[..., Session],
    around: Callable[[], object] = lambda: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Scheduler:
    """A scheduler for some regions on the devices of this machine. What was never measured is now,
    on the operators of the regions in the shapes that they were made for.

    session: opens a device by its name and options. around: what the program does between two runs
    of a region, see ``calibrate``.

    Raises
    ------
    ValueError
        If there is no device of a name, or a pin fits no layer.
    DeviceError
        If a device is not there, or fails while it is measured.
    """
    check_pins([region.graph for region in regions], placement.pins)
    wanted = placement.candidates(config)
    for device in wanted:
        check_backend(device, placement.options.get(device, {}))
    costs = costs_of(config, placement, wanted, regions, around, progress)
    return Scheduler(
        lambda name: session(name, fallback=False, **placement.options.get(name, {})),
        costs,
        pins=placement.pins,
        memory=placement.memory,
        fallback=placement.fallback,
    )


def costs_of(
    config: Config,
    placement: Placement,
    devices: Sequence[str],
    regions: Sequence[Region],
    around: Callable[[], object],
    progress: Callable[[str], None],
) -> dict[str, DeviceCosts]:
    """What is known of devices; what is not is measured, and kept unless a clock was told."""
    works = [Work(region.graph, shape) for region in regions for shape in region.shapes]
    needed = {signature(work.graph, work.shape, op) for work in works for op in work.graph.ops}
    known = {
        device: costs
        for device, costs in load_costs(config).items()
        if not clocked(device, placement.clock)
    }
    missing = [
        device
        for device in devices
        if device not in known or not needed <= known[device].samples.keys()
    ]
    if missing:
        found = calibrate(
            works, missing, config, clock=placement.clock, around=around, progress=progress
        )
        kept = {name: new for name, new in found.items() if not clocked(name, placement.clock)}
        known |= save_costs(kept, config)
        known |= {name: new for name, new in found.items() if name not in kept}
    return {device: known[device] for device in devices}
