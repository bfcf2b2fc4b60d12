"""The command line: help, one-line errors that leave nothing behind, and small runs."""

import json
import sys

import numpy as np
import pytest
import torch
from small_models import Stack
from typer.testing import CliRunner

import transept
from transept.golden.config import TINY
from transept.host import cli, cli_bench
from transept.host.bench.gemm import bench_gemm, parse_shape
from transept.host.bench.softmax import bench_softmax

COMMANDS = [
    [],
    *(
        [name]
        for name in ("doctor", "devices", "demo", "run", "compile", "disasm", "trace", "verilog")
    ),
    *([name] for name in ("test", "synth", "bench")),
    *(["bench", name] for name in ("gemm", "softmax", "model", "accuracy", "sim")),
]


def model():
    torch.manual_seed(0)
    return Stack(), (torch.randn(1, 4, 8),)


def no_model():
    return 3


def long_model():
    return Stack(), (torch.randn(1, 65, 8),)


def nan_model():
    module = torch.nn.Linear(4, 4)
    module.weight.data[0, 0] = float("nan")
    return module, (torch.randn(1, 4),)


@pytest.fixture(autouse=True)
def _this_module_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_models", sys.modules[__name__])


@pytest.fixture
def transept_command(monkeypatch, capfd, tmp_path):
    """Run ``transept ...`` in an empty folder: (exit status, output, lines of error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["transept", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capfd.readouterr()
        return caught.value.code, out, err.splitlines()

    return call


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command):
    result = CliRunner().invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_every_command_is_here():
    names = {tuple(command) for command in COMMANDS}
    registered = [*cli.app.registered_commands, *cli_bench.app.registered_commands]
    assert len(registered) == len(names) - 2  # without () and ("bench",)


ERRORS = [
    ("bench gemm 8x8x8 --device emulator --config huge", 1, "unknown configuration 'huge'"),
    ("bench gemm 8x8 --device emulator --config tiny", 1, "shape '8x8' is not MxNxK"),
    ("bench gemm 0x4x4 --device emulator --config tiny", 1, "M=0 must be at least 1"),
    ("bench gemm 1x4x4000 --device emulator --config tiny", 1, "K=4000 and N=4 must be at most"),
    ("bench gemm 8x8x8 --device cpu --config tiny", 1, "no accelerator 'cpu'"),
    ("bench gemm 8x8x8 --device gpu", 2, "'gpu'"),
    ("bench softmax --config tiny --device emulator --json no/x", 1, "no folder no for x"),
    ("bench accuracy --texts nothing.txt", 1, "no file nothing.txt"),
    ("bench accuracy --count 0", 2, "--count"),
    ("bench accuracy --degenerate --texts x", 2, "--texts and --degenerate exclude each other"),
    ("bench model --model nothing --config tiny --device cpu", 1, "'nothing' is neither"),
    ("run nothing --text hello --device cpu", 1, "'nothing' is neither 'minilm' nor a folder"),
    ("run minilm --device cpu", 1, "no --text given"),
    ("run minilm --text a --batch 3 --device cpu", 1, "--batch 3, but 1 texts"),
    ("run nowhere:f --device cpu", 1, "cannot load 'nowhere:f': No module named 'nowhere'"),
    ("run my_models:nothing --device cpu", 1, "has no attribute 'nothing'"),
    ("run my_models:no_model --device cpu", 1, "must return (torch.nn.Module, example inputs)"),
    ("run my_models:nan_model --config tiny --device cpu", 1, "weights of .* hold nan"),
    ("run my_models:long_model --config tiny --device cpu", 1, "sequence length 65 exceeds 64"),
    ("compile my_models:long_model -o x --config tiny", 1, "sequence length 65 exceeds 64"),
    ("compile my_models:model -o no/x --config tiny", 1, "no folder no for x"),
    ("compile my_models:model -o . --config tiny", 1, "is a folder"),
    ("compile my_models:model --config tiny", 2, "-o"),
    ("disasm nothing", 1, "no program file nothing"),
    ("trace nothing -o x", 1, "no program file nothing"),
    ("test no_such_block", 1, "no test 'no_such_block' under tests/"),
    ("nonsense", 2, "No such command 'nonsense'"),
    ("run minilm --tokens 700 --text a", 1, "sequence length 700 exceeds 512 of pynq_z2"),
    ("run minilm --config tiny --text a", 1, "hidden size 384 exceeds 128 of tiny"),
    ("bench model --tokens 600", 1, "sequence length 600 exceeds 512 of pynq_z2"),
]


@pytest.mark.parametrize(("command", "status", "message"), ERRORS, ids=[e[0] for e in ERRORS])
def test_errors_are_one_line_and_leave_nothing(
    transept_command, tmp_path, command, status, message
):
    code, _, lines = transept_command(*command.split())
    assert code == status
    (line,) = lines
    assert line.startswith("error: ")
    assert message in line or all(part in line for part in message.split(".*"))
    assert list(tmp_path.iterdir()) == []


def test_messages_are_no_markup(transept_command):
    code, _, (line,) = transept_command("disasm", "[red]x[/blue]")
    assert (code, line) == (1, "error: no program file [red]x[/blue]")


def test_without_a_command_there_is_help(transept_command):
    code, out, lines = transept_command()
    assert code == 2
    assert "Usage:" in out
    assert lines == []


def test_doctor_names_what_is_missing(transept_command, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    code, out, (line,) = transept_command("doctor")
    assert code == 1
    assert "g++ (apt-get install g++)" in line
    assert "make (apt-get install make)" in line
    assert "missing" in out


def test_devices(transept_command):
    code, out, _ = transept_command("devices")
    assert code == 0
    for word in ("rtl", "emulator", "cpu", "tiny", "pynq_z2_board", f"{TINY.digest:08x}"):
        assert word in out


def test_compile_and_disasm(transept_command, tmp_path):
    code, out, _ = transept_command("compile", "my_models:model", "-o", "file", "--config", "tiny")
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    code, text, _ = transept_command("disasm", "file")
    lines = text.splitlines()
    assert code == 0
    assert f"{len(lines):,} instructions" in out
    assert lines[-1].split() == [str(len(lines) - 1), "END"]
    program = transept.load("file").launch.decoded()
    assert [line.split(None, 1)[1] for line in lines] == [str(i) for i in program]


@pytest.mark.parametrize("device", ["emulator", "cpu"])
def test_run_a_function(transept_command, device):
    code, out, lines = transept_command(
        "run", "my_models:model", "--config", "tiny", "--device", device
    )
    assert (code, lines) == (0, [])
    assert "shape (1, 4, 8)" in out
    assert float(out.split()[3].rstrip(",")) > 0.99
    assert "note:" not in out


def test_a_module_in_the_working_directory(transept_command, tmp_path):
    source = "import torch\ndef f():\n    return torch.nn.Linear(4, 4), (torch.ones(2, 4),)\n"
    (tmp_path / "beside.py").write_text(source)
    code, out, _ = transept_command("run", "beside:f", "--config", "tiny", "--device", "emulator")
    assert code == 0
    assert "shape (2, 4)" in out


def test_bench_gemm_writes_its_result(transept_command, tmp_path):
    options = ("--config", "tiny", "--device", "emulator", "--json", "result.json")
    code, _, _ = transept_command("bench", "gemm", "8x8x8", "3x20x5", *options)
    assert code == 0
    rows = json.loads((tmp_path / "result.json").read_text())
    assert [row["shape"] for row in rows] == ["8x8x8", "3x20x5"]


def test_bench_gemm():
    (row,) = bench_gemm(TINY, ["9x10x11"], device="emulator", seed=1, rate=12.8)
    assert list(row) == [
        *("shape", "cycles", "ideal_cycles", "utilisation", "memory_bound_cycles"),
        *("bytes_read", "bytes_written", "mismatches"),
    ]
    assert row["mismatches"] == 0
    assert row["ideal_cycles"] == -(-990 // 16)
    assert row["bytes_written"] == 9 * 12


def test_shapes():
    assert parse_shape("1x768x64") == (1, 768, 64)
    for text in ("1x2", "axbxc", "-1x2x3", ""):
        with pytest.raises(ValueError, match="is not MxNxK"):
            parse_shape(text)


def test_bench_softmax():
    rows = bench_softmax(TINY, device="emulator", seed=1)
    assert [row["distribution"] for row in rows] == ["N(0,1)", "N(0,3)", "flat", "one-hot"]
    for row in rows:
        assert set(row) == {
            *("length", "rows", "distribution", "l1_unit_mean", "l1_quantised_mean"),
            *("row_sum_error_max", "cycles_per_element", "mismatches"),
        }
        assert row["length"] == 64
        assert row["mismatches"] == 0
        assert row["l1_unit_mean"] < 0.01
        assert np.isfinite(row["row_sum_error_max"])
