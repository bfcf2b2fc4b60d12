"""What a flow from Verilog to a bitstream gets and gives, whatever its tools are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["NO_TOOL", "Built", "Flow", "FlowError", "Tell"]

#: ``Built.tool`` where no tool has run.
NO_TOOL = "none"

#: Hears what a build does now.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """What became of a build.

    tool: what ran, with its version, or NO_TOOL; fmax_mhz: what the timing of the routed design
    allows; lut, ff, dsp, bram (blocks of the part, halves count): what it takes; bitstream: only
    if timing is met; command: what is left to do, where the tool is. What is not known is None.
    """

    board: str
    clock_mhz: float
    tool: str = NO_TOOL
    fmax_mhz: float | None = None
    lut: float | None = None
    ff: float | None = None
    dsp: float | None = None
    bram: float | None = None
    bitstream: Path | None = None
    routed: bool = False
    command: str = ""

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        names = ("board", "tool", "clock_mhz", "fmax_mhz", "lut", "ff", "dsp", "bram")
        found: dict[str, Any] = {name: getattr(self, name) for name in names}
        bitstream = None if self.bitstream is None else str(self.bitstream)
        return found | {"bitstream": bitstream, "routed": self.routed}


class FlowError(RuntimeError):
    """A tool failed, or what it made is no use; ``built`` is how far it came."""

    def __init__(self, message: str, built: Built) -> None:
        super().__init__(message)
        self.built = built


#: Makes everything of a board in a folder, in so many seconds.
Flow = Callable[[Path, float, Tell], Built]
