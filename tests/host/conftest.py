"""The command line as a function."""

import sys

import pytest

from transept.host import cli


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
