"""A simulated board at an address, until the process ends: ``python -m transept.sim.board``."""

from __future__ import annotations

import argparse
import functools
import sys

from transept.bitstreams.boards import BOARDS, board
from transept.sim.board.machine import Defects, Machine
from transept.sim.board.python import PORT
from transept.sim.board.server import start
from transept.sim.native import MEMORIES, NativeSimulation


def main() -> None:
    """Serve, and say so in one line once the board can be reached."""
    parser = argparse.ArgumentParser(description="Serve a simulated PYNQ board.")
    parser.add_argument("--board", choices=BOARDS, default="pynq_z2")
    parser.add_argument("--host", default="127.0.0.1", help="address, or unix:PATH")
    parser.add_argument("--memory", choices=MEMORIES, default="board")
    parser.add_argument("--dram-mib", type=int, default=64)
    parser.add_argument("--stuck", type=int, help="a bit of every 64 of memory that is always 1")
    parser.add_argument("--corrupts", help="files below this folder are written wrongly")
    parser.add_argument("--contract", type=int, help="contract version that the logic tells")
    options = parser.parse_args()
    machine = Machine(
        board(options.board),
        dram_bytes=options.dram_mib << 20,
        defects=Defects(
            stuck=options.stuck,
            corrupts=options.corrupts,
            constants={} if options.contract is None else {"CONTRACT": options.contract},
        ),
        open_logic=functools.partial(NativeSimulation, memory=options.memory),
    )
    try:
        server = start(machine, f"{options.host}:{PORT}")
    except OSError as error:
        sys.exit(f"error: {error}")
    print(f"{options.board} at {options.host}, port {PORT}", flush=True)
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:
        machine.close()


if __name__ == "__main__":
    main()
