"""The command line as a function, and what is printed on terminals of several widths."""

import sys

import pytest

from transept.host import cli, report


@pytest.fixture
def transept_command(monkeypatch, capfd, tmp_path):
    """Run ``transept ...`` in an empty folder: (exit status, output, lines of error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "beside", raising=False)  # of another test's folder

    def call(*arguments, exits=True):
        monkeypatch.setattr(sys, "argv", ["transept", *map(str, arguments)])
        if not exits:
            return cli.main()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capfd.readouterr()
        return caught.value.code, out, err.splitlines()

    return call


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Sets its width; returns a function that gives the lines printed."""

    def resize(width):
        monkeypatch.setattr(report.console, "width", width)
        return lambda: [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return resize


@pytest.fixture
def shown(terminal):
    """What is printed on 70 columns, without empty lines, rules as one sign."""
    lines = terminal(70)
    return lambda: [
        line.replace("─" * len(line.strip()), "─").replace("█" * 60, "[60]")
        for line in lines()
        if line
    ]
