"""``transept board-sim``."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from transept.bitstreams.boards import BOARDS, board
from transept.bitstreams.overlay import simulated_overlay
from transept.host.cli.options import MemoryName, working
from transept.host.report import console

__all__ = ["BoardName", "board_sim"]

BoardName = Enum("BoardName", {name: name for name in BOARDS}, type=str)  # type: ignore[misc]
LOOPBACK = ("127.0.0.1", "localhost", "unix:")


def board_sim(
    name: Annotated[BoardName, typer.Option("--board")] = BoardName.pynq_z2,  # type: ignore[attr-defined]
    host: Annotated[
        str, typer.Option("--host", help="address to serve at, or unix:PATH")
    ] = "127.0.0.1",
    memory: Annotated[
        MemoryName, typer.Option("--memory", help="25.6, 12.8 or 6.4 bytes a cycle")
    ] = MemoryName.board,
    overlay: Annotated[
        Path | None, typer.Option("--overlay", help="write the overlay for clients to this folder")
    ] = None,
) -> None:
    """Serve a simulated PYNQ board until Ctrl-C: pynq's client, our RTL under Verilator."""
    from transept.sim.board.python import board_python
    from transept.sim.build import accelerator_library, accelerator_verilog

    python, chosen = board_python(), board(name.value)
    with working(f"building the {chosen.config.name} RTL (kept for later runs)"):
        accelerator_library(chosen.config)
    if overlay is not None:
        made = simulated_overlay(overlay, chosen, accelerator_verilog(chosen.config))
        console.print(f"overlay {made.bitfile}", highlight=False, soft_wrap=True)
    if not host.startswith(LOOPBACK):
        console.print(f"{host}: whoever reaches it may use the board, nobody is asked who he is")
    command = [python, "-m", "transept.sim.board", "--board", chosen.name, "--host", host]
    sys.stdout.flush()
    # in place of this process: whoever ends it ends the board
    os.execv(python, [*command, "--memory", memory.value])
