"""All commands together, and what becomes of their errors."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from transept.golden.config import CONTRACT_VERSION
from transept.host import report
from transept.host.cli import (
    bench,
    board_sim,
    build,
    cache,
    calibrate,
    compile,
    demo,
    deploy,
    devices,
    disasm,
    doctor,
    explain,
    generate,
    run,
    serve,
    synth,
    test,
    timing,
    trace,
    verify,
    verilog,
)
from transept.host.cli.errors import describe
from transept.sim.tools import package_version

__all__ = ["app", "call"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")

for command in (
    doctor.doctor,
    devices.devices,
    demo.demo,
    run.run,
    generate.generate,
    serve.serve,
    compile.compile,
    explain.explain,
    disasm.disasm,
    trace.trace,
    verify.verify,
    verilog.verilog,
    test.test,
    synth.synth,
    timing.timing,
    cache.cache,
    calibrate.calibrate,
    build.build,
    board_sim.board_sim,
    deploy.deploy,
):
    app.command(command.__name__.replace("_", "-"))(command)
app.add_typer(bench.app, name="bench")

DEBUG = "TRANSEPT_DEBUG"

#: Every kind of wrong usage; typer brings its own click in some versions.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def _show_version(wanted: bool) -> None:
    if wanted:
        report.console.print(
            f"transept {package_version('transept')}, contract {CONTRACT_VERSION}", highlight=False
        )
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="package and contract"
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"show the traceback of an error (or set {DEBUG}=1)")
    ] = False,
) -> None:
    """An open transformer accelerator: compile, run, measure, simulate, synthesise."""
    if debug:
        os.environ[DEBUG] = "1"


def call() -> int:
    """Run the command line of this process; returns its exit status."""
    try:
        return app(standalone_mode=False) or 0
    except UsageError as error:
        # empty where help was shown instead
        if message := error.format_message():  # type: ignore[attr-defined]
            report.show_error(message)
        return 2
    except Exception as error:
        if os.environ.get(DEBUG, "0") not in ("", "0"):
            raise
        report.show_error(describe(error))
        return 1
