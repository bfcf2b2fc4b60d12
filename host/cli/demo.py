"""``transept demo``."""

from __future__ import annotations

from transept.host.cli.options import (
    ConfigOption,
    DeviceName,
    DeviceOption,
    MemoryName,
    MemoryOption,
    SeedOption,
    TokensOption,
)
from transept.host.cli.run import run
from transept.host.texts import DEMO_SENTENCES

__all__ = ["demo"]


def demo(
    config: ConfigOption = "pynq_z2",
    device: DeviceOption = DeviceName.rtl,
    memory: MemoryOption = MemoryName.default,
    seed: SeedOption = 1,
    tokens: TokensOption = 32,
) -> None:
    """Embed real sentences with the real MiniLM on the full-size RTL, and compare with torch."""
    run("minilm", list(DEMO_SENTENCES), config, device, memory, seed, tokens)
