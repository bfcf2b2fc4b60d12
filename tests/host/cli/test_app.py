"""The command line itself: how it begins, and how it ends."""

import inspect
import runpy
import sys
import typing

import pytest
import typer

from transept.host import cli
from transept.host.cli import app, bench
from transept.host.cli.errors import describe


def test_the_package_is_a_command(monkeypatch):
    called = []
    monkeypatch.setattr(cli, "main", lambda: called.append("main"))
    runpy.run_module("transept.host.cli.__main__", run_name="elsewhere")
    assert called == []
    runpy.run_module("transept.host.cli.__main__", run_name="__main__")
    assert called == ["main"]


def test_what_is_missing_of_transept_itself_is_no_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transept.host.cli.app", None)
    with pytest.raises(ModuleNotFoundError, match=r"transept\.host\.cli\.app"):
        cli.main()


def test_groups_without_a_command_show_their_help(transept_command):
    code, out, lines = transept_command("bench")
    assert (code, lines) == (2, [])
    assert "bench [OPTIONS] COMMAND" in out
    assert "--install-completion" not in transept_command("--help")[1]


#: Least and greatest of every number, and what it is if nobody says.
SEED, COUNT, FLAG = (None, None, 1), (1, None, None), (None, None, False)
NUMBERS = {
    "demo": {"seed": SEED, "tokens": COUNT},
    "run": {
        **{"seed": SEED, "tokens": COUNT, "batch": COUNT, "clock": COUNT, "runs": (1, None, 1)},
        **{"explain": FLAG, "fallback": (None, None, True)},
    },
    "generate": {
        **{"tokens": (1, None, 64), "temperature": (None, None, 0), "top_k": (None, None, 0)},
        **{"top_p": (None, None, 1), "seed": (None, None, 0), "speculate": (None, None, 0)},
        **{"raw": FLAG, "fallback": (None, None, True)},
    },
    "serve": {
        **{"port": (0, 65535, 8000), "seed": SEED, "pages": (1, None, 512)},
        **{"tokens": (1, None, 512), "together": (1, 16, 16), "queue": (1, None, 64)},
    },
    "compile": {"tokens": COUNT, "batch": COUNT},
    "explain": {"tokens": COUNT, "batch": COUNT},
    "trace": {"seed": SEED},
    "test": {"seed": SEED, "waves": FLAG},
    "timing": {"paths": (1, None, 20)},
    "cache": {"remove": FLAG, "days": (0, None, 30)},
    "calibrate": {"tokens": COUNT, "batch": COUNT, "clock": COUNT},
    "build": {"limit": (0.001, None, 360)},
    "deploy": {"self_test": (None, None, True), "tokens": COUNT},
    "bench gemm": {"seed": SEED},
    "bench softmax": {"seed": SEED},
    "bench model": {"seed": SEED, "tokens": COUNT, "batch": COUNT},
    "bench accuracy": {"count": (1, None, 200), "degenerate": FLAG},
    "bench sim": {"seed": SEED},
    "bench generate": {"layers": COUNT, "seed": SEED},
    "bench perplexity": {"tokens": (2, None, 2048), "window": (2, None, 128)},
}


def numbers(command):
    """Of its options."""
    hints, found = typing.get_type_hints(command, include_extras=True), {}
    for name, parameter in inspect.signature(command).parameters.items():
        (told, *_) = getattr(hints[name], "__metadata__", (None,))
        limits = (getattr(told, "min", None), getattr(told, "max", None))
        if limits != (None, None) or isinstance(parameter.default, int | float):
            found[name] = (*limits, parameter.default)
    return found


def test_numbers_that_options_take():
    groups = [("", app.app), ("bench ", bench.app)]
    found = {
        f"{group}{command.name}": numbers(command.callback)
        for group, commands in groups
        for command in commands.registered_commands
    }
    assert {name: options for name, options in found.items() if options} == NUMBERS


@pytest.mark.parametrize(
    "command",
    [
        "timing",
        "deploy x:y -o out",
        "bench hls",
        "bench generate",
        "bench perplexity",
        "generate m x",
    ],
)
def test_where_no_result_can_be_written_nothing_runs(transept_command, tmp_path, command):
    code, _, lines = transept_command(*command.split(), "--json", "no/x")
    assert (code, lines) == (1, ["error: no folder no for x"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["", "0"])
def test_tracebacks_may_be_switched_off(transept_command, monkeypatch, value):
    monkeypatch.setenv("TRANSEPT_DEBUG", value)
    code, _, lines = transept_command("disasm", "nothing")
    assert (code, lines) == (1, ["error: no program file nothing"])


ERRORS = {
    "SyntaxError: no": SyntaxError("no"),
    "x.py:3: SyntaxError: no": SyntaxError("no", ("x.py", 3, 1, "")),
    "x.py:0: SyntaxError: no": SyntaxError("no", ("x.py", None, None, None)),
    "KeyError": KeyError(),
    "Abort": typer.Abort(),
    "no other": ModuleNotFoundError("no other", name="other"),
    "no name": ModuleNotFoundError("no name"),
    "torch missing; run: pip install 'transept[torch]'": ModuleNotFoundError("", name="torch.x"),
}


@pytest.mark.parametrize("line", ERRORS)
def test_errors_in_a_line(line):
    assert describe(ERRORS[line]) == line


def test_files_below_the_working_directory_have_short_names(tmp_path, monkeypatch):
    error = SyntaxError("no", (str(tmp_path / "a" / "x.py"), 3, 1, ""))
    assert describe(error) == f"{tmp_path}/a/x.py:3: SyntaxError: no"
    monkeypatch.chdir(tmp_path)
    assert describe(error) == "a/x.py:3: SyntaxError: no"
