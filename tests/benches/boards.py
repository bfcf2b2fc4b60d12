"""Simulated boards that are served, and clients of them, each a process with pynq's Python."""

import dataclasses
import fcntl
import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from transept.bitstreams.boards import BOARDS
from transept.bitstreams.overlay import simulated_overlay
from transept.golden.config import TINY
from transept.sim.board.python import board_python
from transept.sim.build import accelerator_library, accelerator_verilog

__all__ = ["alone", "board_of", "client", "overlay_of", "process_of", "served", "steps"]

LIMIT_S = 300


def board_of(config=TINY, name="pynq_z2"):
    """A board with another accelerator; its simulation is built."""
    accelerator_library(config)
    return dataclasses.replace(BOARDS[name], config=config)


def overlay_of(folder, config=TINY, name="pynq_z2"):
    """The overlay of ``board_of``."""
    return simulated_overlay(folder, board_of(config, name), accelerator_verilog(config))


@contextmanager
def served(*options, name="pynq_z2"):
    """A board at an address, which is given; options: of ``python -m transept.sim.board``."""
    with tempfile.TemporaryDirectory(prefix="board") as folder:  # paths of sockets are short
        host = f"unix:{folder}/b"
        module = ["-m", "transept.sim.board", "--board", name]
        command = [board_python(), *module, "--host", host, *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                told = process.stdout.readline()
                assert told.startswith(f"{name} at unix:"), told
                Path(folder, "b.pid").write_text(str(process.pid))
                yield host
            finally:
                process.terminate()


@contextmanager
def alone():
    """pynq keeps what it knows of the board beside its modules: one client at a time."""
    with Path(tempfile.gettempdir(), "transept-pynq.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def process_of(host):
    """The number of the process that serves a board."""
    return int(Path(host.removeprefix("unix:") + ".pid").read_text())


def client(host, code, *arguments):
    """What a client prints that runs this code, as JSON; its first line imports pynq."""
    with alone():
        done = subprocess.run(
            [board_python(), "-c", code, *map(str, arguments)],
            env=os.environ | {"PYNQ_REMOTE_DEVICES": host},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def steps(host, package, *options):
    """Every step of a deployment from a package's own runtime: (step, error, cycles)."""
    command = [board_python(), package / "transept.zip", package, "--host", host, *options]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with alone():
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, env=environment
        )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == int(any(step["error"] for step in found)), done.stderr
    return [(step["step"], step["error"], step["cycles"]) for step in found]
