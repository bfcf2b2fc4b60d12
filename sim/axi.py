"""The accelerator's buses under cocotb: cocotbext-axi attached, with random back-pressure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from cocotbext.axi import (  # type: ignore[import-untyped]
    AxiBus,
    AxiLiteBus,
    AxiLiteMaster,
    AxiRam,
)

__all__ = ["attach_memory", "attach_registers"]


def _clocking(dut: Any) -> tuple[Any, Any, bool]:
    """Clock, reset, and whether that is active when high; cores for an FPGA have AXI's names."""
    return (dut.aclk, dut.aresetn, False) if hasattr(dut, "aclk") else (dut.clk, dut.rst, True)


def _pauses(probability: float, rng: random.Random) -> Iterator[bool]:
    while True:
        yield rng.random() < probability


def attach_memory(
    dut: Any, size: int, *, backpressure: float = 0.0, seed: int = 1, prefix: str = "m_axi"
) -> AxiRam:
    """DRAM of ``size`` bytes at address 0 on the AXI4 master ``prefix``.

    Every channel refuses or withholds a cycle with probability ``backpressure``.
    """
    ram = AxiRam(AxiBus.from_prefix(dut, prefix), *_clocking(dut), size=size)
    write, read = ram.write_if, ram.read_if
    channels = (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel)
    _hold_back(channels, backpressure, seed)
    return ram


def attach_registers(
    dut: Any, *, backpressure: float = 0.0, seed: int = 1, prefix: str = "s_axil"
) -> AxiLiteMaster:
    """A master of the AXI4-Lite register port; ``await master.read_dword(address)``."""
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, prefix), *_clocking(dut))
    write, read = master.write_if, master.read_if
    channels = (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel)
    _hold_back(channels, backpressure, seed)
    return master


def _hold_back(channels: tuple[Any, ...], probability: float, seed: int) -> None:
    if probability:
        for number, channel in enumerate(channels):
            channel.set_pause_generator(_pauses(probability, random.Random(f"{seed}/{number}")))
