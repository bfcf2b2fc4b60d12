"""A kernel of ``transept.hls`` as an instance of its Verilog module."""

from __future__ import annotations

from typing import Protocol

from amaranth import ClockSignal, Instance, Module, ResetSignal, Signal, Value
from amaranth.hdl import ValueLike

from transept.hls.kernels import Kernel

__all__ = ["KernelPlatform", "add_process", "pipeline"]


class KernelPlatform(Protocol):
    """The platform that kernels are elaborated for: it brings the Verilog of those it is given."""

    def add_kernel(self, kernel: Kernel) -> None:
        """Note that the design has an instance of a kernel."""


def _note(platform: object, kernel: Kernel) -> None:
    if not hasattr(platform, "add_kernel"):
        raise ValueError(
            f"block {kernel.name} by high-level synthesis is Verilog: elaborate it with sim.build"
        )
    platform.add_kernel(kernel)


def pipeline(
    m: Module,
    platform: object,
    kernel: Kernel,
    bits: int,
    latency: int,
    inputs: dict[str, ValueLike],
    *,
    submodule: str = "kernel",
) -> Value:
    """The result of a kernel's function, ``latency`` cycles after its inputs.

    bits: of all results, the last one of its tuple in the lowest.

    Raises
    ------
    ValueError
        If the kernel takes another number of cycles, or the design is elaborated for something
        else than Verilog.
    """
    _note(platform, kernel)
    if kernel.latency != latency:
        raise ValueError(f"kernel {kernel.name} takes {kernel.latency} cycles, not {latency}")
    out = Signal(bits, name=f"{submodule}_out")
    ports = {f"i_{port}": value for port, value in inputs.items()}
    m.submodules[submodule] = Instance(kernel.module, i_clk=ClockSignal(), o_out=out, **ports)
    return out


def add_process(m: Module, platform: object, kernel: Kernel, **ports: ValueLike) -> None:
    """An instance of a kernel's process; ports as ``Instance`` has them, without clock and reset.

    Raises
    ------
    ValueError
        If the design is elaborated for something else than Verilog.
    """
    _note(platform, kernel)
    m.submodules.kernel = Instance(kernel.module, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
