"""The device ``gpu``: kernels of ``host.kernels`` on fixed memory, captured in CUDA graphs."""

import torch

from transept.host.backends.gpu.graph import GpuGraph
from transept.host.devices.base import DeviceError
from transept.host.kernels import ASKED_TO_INTERPRET, INTERPRETED

__all__ = ["GpuGraph", "cards", "check_card"]

#: Kernels use tensor memory accesses, which came with Hopper.
COMPUTE_CAPABILITY = (9, 0)


def check_card() -> None:
    """Look whether kernels run here; with $TRITON_INTERPRET=1 they do anywhere, slowly.

    Raises
    ------
    DeviceError
        If torch finds no CUDA device, or it is too old.
    """
    if ASKED_TO_INTERPRET:
        return
    if not torch.cuda.is_available():
        raise DeviceError("gpu: torch finds no CUDA device")
    found = torch.cuda.get_device_capability()
    if found < COMPUTE_CAPABILITY:
        have, need = (".".join(map(str, version)) for version in (found, COMPUTE_CAPABILITY))
        name = torch.cuda.get_device_name()
        raise DeviceError(f"gpu: {name} has compute capability {have}, kernels need {need}")


def cards(count: int) -> list[torch.device]:
    """The first so many GPUs; where kernels are interpreted, the host so many times.

    Raises
    ------
    DeviceError
        If there are fewer.
    """
    if INTERPRETED:
        return [torch.device("cpu")] * count
    if not 1 <= count <= torch.cuda.device_count():
        raise DeviceError(f"gpu: {count} cards, torch finds {torch.cuda.device_count()}")
    return [torch.device("cuda", index) for index in range(count)]
