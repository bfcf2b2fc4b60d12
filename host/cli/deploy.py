"""``transept deploy``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from transept.bitstreams.boards import Board, board
from transept.bitstreams.overlay import Overlay, find_overlay, simulated_overlay
from transept.golden.config import Config
from transept.host import report
from transept.host.cli.board_sim import BoardName
from transept.host.cli.options import JsonOption, TokensOption, prepare, working
from transept.host.deploy.cases import save_cases
from transept.host.deploy.package import PROGRAM, RUNTIME, write_package
from transept.host.files import check_writable
from transept.host.report import console
from transept.host.runtime.program import Part, Program

__all__ = ["deploy"]

#: What a board says first.
SENTENCES = ("A cat sat on the mat.", "A feline rested on a rug.")
TOKENS = 16
CONNECT_SECONDS = 10


def deploy(
    model: Annotated[
        str, typer.Argument(help="minilm, a folder, module:function, or a program file (.tsp)")
    ] = "minilm",
    name: Annotated[BoardName, typer.Option("--board")] = BoardName.pynq_z2,  # type: ignore[attr-defined]
    host: Annotated[
        str | None, typer.Option("--host", help="address of a board that runs PYNQ.remote")
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option("--overlay", help="folder of .bit, .hwh and .json; simulated if absent"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="keep the package in this folder")
    ] = None,
    self_test: Annotated[
        bool,
        typer.Option("--self-test/--no-self-test", help="compare with the emulator, bit by bit"),
    ] = True,
    tokens: TokensOption = None,
    json: JsonOption = None,
) -> None:
    """Bring overlay, runtime and a compiled model to a board, and test it; without --host, write
    the package for the board itself."""
    chosen = board(name.value)
    check_writable(json)
    if host is None and output is None:
        raise ValueError("no --host to deploy to, and no --output to keep the package in")
    if overlay is not None:
        find_overlay(overlay, chosen.name)
    python = None
    if host is not None:
        from transept.sim.board.python import PORT, board_python

        python = board_python()
        check_reachable(host, PORT)
    program, parts, what = _program(model, chosen.config, tokens)
    with tempfile.TemporaryDirectory() as scratch:
        folder = output or Path(scratch, "package")
        _write(folder, chosen, overlay, program, parts, what)
        if python is None:
            console.print(
                f"{folder}: copy it to the board, and run there: python3 {RUNTIME} .",
                highlight=False,
                soft_wrap=True,
            )
            report.write_json(json, {"board": chosen.name, "host": None, "steps": []})
            return
        findings = _deployed(python, folder, str(host), self_test)
    report.write_json(json, {"board": chosen.name, "host": host, "steps": findings})
    failed = [finding for finding in findings if finding["error"]]
    if failed:
        raise RuntimeError(f"{failed[0]['step']}: {failed[0]['error']}")


def check_reachable(host: str, port: int) -> None:
    """Look whether anybody listens there, before anything is compiled; at a socket that is a file
    (``unix:PATH``) nobody is asked.

    Raises
    ------
    RuntimeError
        If nobody does.
    """
    if host.startswith("unix:"):
        return
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise RuntimeError(f"no board answers at {host}, port {port}: {error}") from None


def _program(model: str, config: Config, tokens: int | None) -> tuple[Program, list[Part], str]:
    """A program, what ran in each of its regions, and what that was."""
    from transept.host.deploy.prepare import random_parts
    from transept.host.runtime.program import load

    if model.endswith(".tsp"):
        program = load(model)
        if program.config.digest != config.digest:
            raise ValueError(f"{model} is for {program.config.name}, the board has {config.name}")
        return program, random_parts(program), "random inputs"
    texts = () if ":" in model else SENTENCES
    size = None if ":" in model else tokens or TOKENS
    ready = prepare(model, config, tokens=size, batch=None, texts=texts)
    ready.program.run(*ready.inputs, device="cpu")
    assert ready.program.last is not None
    what = "the first sentences" if texts else "the example"
    return ready.program, list(ready.program.last.parts), what


def _write(
    folder: Path,
    chosen: Board,
    overlay: Path | None,
    program: Program,
    parts: list[Part],
    what: str,
) -> None:
    from transept.host.deploy.prepare import test_cases

    with tempfile.TemporaryDirectory() as scratch:
        found = find_overlay(overlay, chosen.name) if overlay else _simulated(Path(scratch), chosen)
        program.save(Path(scratch, PROGRAM))
        with working("computing on the emulator what the board must do"):
            cases = save_cases(list(test_cases(chosen.config, parts, what)))
        data = Path(scratch, PROGRAM).read_bytes()
        package = write_package(folder, chosen.name, found, data, cases)
    size = sum(path.stat().st_size for path in package.files)
    console.print(f"package for {chosen.name}: {len(package.files)} files, {size:,} bytes")


def _simulated(folder: Path, chosen: Board) -> Overlay:
    from transept.sim.build import accelerator_verilog

    return simulated_overlay(folder, chosen, accelerator_verilog(chosen.config))


def _deployed(python: str, folder: Path, host: str, tested: bool) -> list[dict[str, Any]]:
    """Every step on the board, shown as it ends."""
    command = [python, str(folder / RUNTIME), str(folder), "--host", host]
    command += [] if tested else ["--no-self-test"]
    found = []
    for finding in _lines(command):
        found.append(finding)
        cycles = f", {finding['cycles']:,} cycles" if finding["cycles"] else ""
        told = "[red]failed[/red]" if finding["error"] else f"[green]right[/green]{cycles}"
        console.print(f"{finding['step']}: {told}", highlight=False)
    return found


def _lines(command: list[str]) -> Iterator[dict[str, Any]]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    told, failed = [], False
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                finding = json.loads(line)
                failed = failed or bool(finding["error"])
                yield finding
            else:
                told.append(line.strip())
    if process.returncode != int(failed):  # else a step tells why
        raise RuntimeError(f"the client ended with {process.returncode}: {' '.join(told[-1:])}")
