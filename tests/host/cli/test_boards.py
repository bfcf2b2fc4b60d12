"""``board-sim`` and ``deploy``: what they make, what they start, and what they say."""

import dataclasses
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from boards import alone, board_of, served

from transept.bitstreams.overlay import find_overlay, simulated_overlay
from transept.golden.config import TINY
from transept.host.cli import board_sim, deploy
from transept.host.deploy.cases import load_cases
from transept.host.deploy.package import read_package
from transept.host.runtime.program import load

#: A model in a folder of its own.
MODEL = """
import torch

def model():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval()
    return layer, (torch.randn(1, 5, 8),)
"""


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Boards have the small accelerator; a model of one layer lies in the working folder."""
    found = board_of(TINY)
    for module in (deploy, board_sim):
        monkeypatch.setattr(module, "board", lambda name: found)
    (tmp_path / "tiny_layer.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tiny_layer", raising=False)
    return found


def test_there_must_be_a_host_or_a_folder(transept_command):
    code, _, lines = transept_command("deploy", "minilm")
    assert (code, lines) == (
        1,
        ["error: no --host to deploy to, and no --output to keep the package in"],
    )


def test_an_unknown_board_is_told(transept_command):
    code, _, lines = transept_command("deploy", "minilm", "--board", "z3", "-o", "out")
    assert code == 2
    assert "'z3'" in lines[0]


def test_a_package_for_the_board_itself(transept_command, tiny, tmp_path):
    own = simulated_overlay(tmp_path / "overlay", tiny, "own")
    told = ("--overlay", "overlay", "--json", "a.json")
    assert transept_command("deploy", "tiny_layer:model", "-o", "mine", *told)[0] == 0
    assert read_package(tmp_path / "mine").overlay.bitfile.name == own.bitfile.name
    found = json.loads(Path("a.json").read_text())
    assert found == {"board": "pynq_z2", "host": None, "steps": []}
    code, out, _ = transept_command("deploy", "tiny_layer:model", "-o", "out")
    assert code == 0
    package = read_package(tmp_path / "out")
    assert re.search(r"package for pynq_z2: 7 files, [\d,]+ bytes", out)
    assert "out: copy it to the board, and run there: python3 transept.zip ." in out
    assert package.overlay.manifest.config_digest == TINY.digest
    assert package.overlay.bitfile.name != own.bitfile.name
    assert load(tmp_path / "out" / "program.tsp").config == TINY
    cases = load_cases((tmp_path / "out" / "self_test.npz").read_bytes())
    assert [case.name for case in cases[1:]] == ["one tile", "one layer", "the example"]


def test_a_layer_on_a_served_board(transept_command, tiny):
    """With a program file made before, and an overlay of its own."""
    with served() as host, alone():
        code, out, lines = transept_command(
            "deploy", "tiny_layer:model", "--host", host, "--json", "a.json"
        )
        assert (code, lines) == (0, []), lines
        told = [line for line in out.splitlines() if ": right" in line or ": failed" in line]
        assert [line.partition(":")[0] for line in told] == [
            "package", "files", "identification", "memory, by the host",
            "memory, by the accelerator", "one tile", "one layer", "the example",
        ]  # fmt: skip
        assert all("cycles" in line for line in told[4:])
        found = json.loads(Path("a.json").read_text())
        assert (found["board"], found["host"], len(found["steps"])) == ("pynq_z2", host, 8)
        assert (
            transept_command("compile", "tiny_layer:model", "--config", "tiny", "-o", "a.tsp")[0]
            == 0
        )
        code, out, _ = transept_command("deploy", "a.tsp", "--host", host)
        assert code == 0
        assert "random inputs: right" in out


def test_a_board_that_is_not_there_is_told_before_anything_is_compiled(transept_command, tiny):
    with alone():
        code, _, lines = transept_command("deploy", "no_model:at_all", "--host", "127.0.0.1")
    assert code == 1
    assert lines[0].startswith("error: no board answers at 127.0.0.1, port 7967: ")


def test_what_fails_on_the_board_is_the_error(transept_command, tiny):
    with served("--stuck", "3") as host, alone():
        code, out, lines = transept_command("deploy", "tiny_layer:model", "--host", host)
    assert code == 1
    assert "memory, by the host: failed" in out
    assert lines[0].startswith("error: memory, by the host: data bit 3 of 64 is stuck at 1: ")


def test_programs_of_other_configurations_are_refused(transept_command, tiny):
    assert transept_command("compile", "tiny_layer:model", "-o", "a.tsp")[0] == 0
    code, _, lines = transept_command("deploy", "a.tsp", "-o", "out")
    assert (code, lines) == (1, ["error: a.tsp is for pynq_z2, the board has tiny"])


def test_an_overlay_of_another_board_is_refused(transept_command, tiny, tmp_path):
    simulated_overlay(tmp_path / "overlay", dataclasses.replace(tiny, name="other"), "")
    code, _, lines = transept_command("deploy", "x:y", "-o", "out", "--overlay", "overlay")
    assert code == 1
    assert lines[0].endswith(".bit is for other, not for pynq_z2")


@pytest.mark.parametrize(
    ("model", "tokens", "told", "what"),
    [
        ("m", None, {"tokens": 16, "texts": deploy.SENTENCES}, "the first sentences"),
        ("m", 9, {"tokens": 9, "texts": deploy.SENTENCES}, "the first sentences"),
        ("m:f", 9, {"tokens": None, "texts": ()}, "the example"),
    ],
)
def test_a_model_is_tested_with_what_it_computes(stand_in, model, tokens, told, what):
    runs = []
    program = SimpleNamespace(
        last=SimpleNamespace(parts=("part",)), run=lambda *x, device: runs.append((x, device))
    )
    calls = stand_in(
        "transept.host.cli.deploy.prepare", SimpleNamespace(program=program, inputs=("x", "y"))
    )
    assert deploy._program(model, TINY, tokens) == (program, ["part"], what)
    assert calls == [("prepare", model, TINY, {"batch": None} | told)]
    assert runs == [(("x", "y"), "cpu")]


def test_only_where_a_board_listens_is_it_reachable(stand_in):
    closed = []
    calls = stand_in(
        "transept.host.cli.deploy.socket.create_connection",
        SimpleNamespace(close=lambda: closed.append(True)),
    )
    deploy.check_reachable("unix:/nowhere", 5)
    assert calls == []
    deploy.check_reachable("board", 5)
    assert calls == [("create_connection", ("board", 5), 10)]
    assert closed == [True]


@pytest.mark.parametrize(("tested", "more"), [(True, []), (False, ["--no-self-test"])])
def test_steps_on_a_board_are_shown_as_they_end(stand_in, capsys, tested, more):
    steps = [
        {"step": "files", "error": "", "cycles": 0},
        {"step": "one tile", "error": "", "cycles": 12345},
        {"step": "one layer", "error": "wrong", "cycles": 3},
    ]
    calls = stand_in("transept.host.cli.deploy._lines", lambda command: iter(steps))
    assert deploy._deployed("python", Path("p"), "board", tested) == steps
    assert calls == [("_lines", ["python", "p/transept.zip", "p", "--host", "board", *more])]
    assert capsys.readouterr().out.splitlines() == [
        "files: right", "one tile: right, 12,345 cycles", "one layer: failed",
    ]  # fmt: skip


def test_a_client_imports_from_its_package_alone(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("TRANSEPT_DEBUG", "0")
    code = """import json, os, sys
print("warning", file=sys.stderr)
names = [name for name in ("PYTHONPATH", "TRANSEPT_DEBUG") if name in os.environ]
print(json.dumps({"step": names, "error": ""}))"""
    found = list(deploy._lines([sys.executable, "-c", code]))
    assert found == [{"step": ["TRANSEPT_DEBUG"], "error": ""}]


@pytest.mark.parametrize("status", [1, 7])
def test_a_client_that_dies_is_told(status):
    """By what it said last, also with the status of one that has told what is wrong."""
    code = f"""import sys; print('{{"step": 1, "error": ""}}', flush=True)
print('more'); sys.stdout.flush(); print('no room', file=sys.stderr); raise SystemExit({status})"""
    lines = deploy._lines([sys.executable, "-c", code])
    assert next(lines) == {"step": 1, "error": ""}
    with pytest.raises(RuntimeError, match=rf"^the client ended with {status}: no room$"):
        next(lines)


def test_a_client_that_tells_what_is_wrong_may_end():
    code = """print('{"step": 1, "error": "no room"}'); raise SystemExit(1)"""
    assert list(deploy._lines([sys.executable, "-c", code])) == [{"step": 1, "error": "no room"}]


def test_a_board_is_served_by_pynqs_python(transept_command, tiny, monkeypatch, tmp_path):
    """In place of the command's own process, so that whoever ends it ends the board."""
    started = []

    def execv(program, command):
        started.append((program, command))
        raise SystemExit(3)

    monkeypatch.setattr(board_sim.os, "execv", execv)
    code, out, _ = transept_command("board-sim", "--overlay", "o", "--host", "0.0.0.0")
    assert code == 3
    overlay = find_overlay(tmp_path / "o", "pynq_z2")
    assert f"overlay o/{overlay.bitfile.name}" in out
    assert "0.0.0.0: whoever reaches it may use the board" in out
    ((program, command),) = started
    assert command == [
        program, "-m", "transept.sim.board", "--board", "pynq_z2", "--host", "0.0.0.0", "--memory",
        "board",
    ]  # fmt: skip
