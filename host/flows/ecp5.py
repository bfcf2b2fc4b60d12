"""Bitstreams for an ECP5, by open tools."""

from __future__ import annotations

from pathlib import Path

from transept.bitstreams.ecp5 import Ecp5Board
from transept.host.fabric.ecp5 import build_ecp5
from transept.host.flows.base import Built, FlowError, Tell
from transept.sim.tools import BuildError

__all__ = ["build"]


def build(board: Ecp5Board, folder: Path, limit_s: float, tell: Tell) -> Built:
    """Synthesise, place, route and pack.

    Raises
    ------
    ToolMissing
        If a tool is not installed.
    FlowError
        If a tool fails, the design does not fit or route, or that has not ended in ``limit_s``
        seconds.
    """
    tell(f"{board.name}: synthesis, place and route (an hour or more)")
    try:
        found = build_ecp5(board.name, folder, limit_s=limit_s)
    except BuildError as error:
        raise FlowError(str(error), Built(board.name, board.config.clock_mhz)) from None
    names = ("tool", "fmax_mhz", "lut", "ff", "dsp", "bram", "routed")
    return Built(
        board.name,
        board.config.clock_mhz,
        bitstream=Path(found["bitstream"]),
        **{name: found[name] for name in names},
    )
