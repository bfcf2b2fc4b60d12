"""The command line itself: how it begins, and how it ends."""

import runpy
import sys

import pytest
import typer

from transept.host import cli
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
