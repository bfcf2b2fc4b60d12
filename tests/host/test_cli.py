"""The command line: help, one-line errors that leave nothing behind, and small runs."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_models import Stack
from typer.testing import CliRunner

import transept
from transept.golden.config import CONTRACT_VERSION, PRESETS, TINY
from transept.golden.registers import Stall
from transept.host import cli, report
from transept.host.bench.gemm import MAX_ROWS, bench_gemm, check_shape, parse_shape
from transept.host.bench.softmax import bench_softmax
from transept.host.cli import app, bench
from transept.host.cli.errors import describe
from transept.host.cli.options import DeviceName
from transept.host.cli.run import _placement
from transept.host.cli.test import TESTS, find_tests
from transept.host.placement.machine import load_costs, machine, read_costs
from transept.sim import build
from transept.sim.tools import BuildError

COMMANDS = [
    [],
    *(
        [name]
        for name in ("doctor", "devices", "demo", "run", "compile", "disasm", "trace", "verilog")
    ),
    *([name] for name in ("explain", "verify", "test", "synth", "cache", "calibrate", "bench")),
    *([name] for name in ("board-sim", "build", "deploy", "timing", "generate", "serve")),
    *(
        ["bench", name]
        for name in ("gemm", "compile", "cpu", "gpu", "hls", "softmax", "model", "accuracy", "sim")
    ),
    *(["bench", name] for name in ("generate", "perplexity")),
]


def model():
    torch.manual_seed(0)
    return Stack(), (torch.randn(1, 4, 8),)


def no_model():
    return 3


def named_model():
    return Stack(), {"x": torch.randn(1, 4, 8)}


def number_model():
    return Stack(), (torch.randn(1, 4, 8), 3)


def exits():
    sys.exit(0)


def nan_model():
    module = torch.nn.Linear(4, 4)
    module.weight.data[0, 0] = float("nan")
    return module, (torch.randn(1, 4),)


@pytest.fixture(autouse=True)
def _this_module_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_models", sys.modules[__name__])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command):
    result = CliRunner().invoke(app.app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_every_command_is_here():
    names = {tuple(command) for command in COMMANDS}
    registered = [*app.app.registered_commands, *bench.app.registered_commands]
    assert len(registered) == len(names) - 2  # without () and ("bench",)


ERRORS = [
    ("bench gemm 8x8x8 --device emulator --config huge", 1, "unknown configuration 'huge'"),
    ("bench gemm 8x8 --device emulator --config tiny", 1, "shape '8x8' is not MxNxK"),
    ("bench gemm 0x4x4 --device emulator --config tiny", 1, "M=0 of 0x4x4 is outside 1 to 65,536"),
    (
        "bench gemm 1x4x4000 --device emulator --config tiny",
        1,
        "K=4000.*outside 1 to 1,020 of tiny",
    ),
    ("bench gemm 8x8x999999999", 1, "K=999999999 of 8x8x999999999 is outside 1 to 4,080"),
    ("bench gemm 1000000x16x16", 1, "M=1000000 of 1000000x16x16 is outside 1 to 65,536"),
    ("bench gemm 4096x4080x4080", 1, "4096x4080x4080 needs 266,342,400 cycles or more"),
    ("bench gemm 8x8x8 1x1x0", 1, "K=0 of 1x1x0 is outside"),
    ("bench gemm 8x8x8 --device cpu --config tiny", 1, "no accelerator 'cpu'"),
    ("bench gemm 8x8x8 --device npu", 2, "'npu'"),
    ("run minilm --text a --device auto --pin x", 1, "--pin 'x' is not LAYER=DEVICE"),
    ("run minilm --text a --device auto --limit cpu=x", 1, "--limit of 'x' MiB is no number"),
    ("run minilm --text a --device auto --pin x=npu", 1, "no device 'npu', there is rtl"),
    ("run minilm --text a --runs 3", 1, "--runs 3 is for --explain, which shows times"),
    ("calibrate --device npu --tokens 4", 1, "no device 'npu', there is rtl, emulator, gpu"),
    ("bench softmax --config tiny --device emulator --json no/x", 1, "no folder no for x"),
    ("bench gemm 8x8x8 --config tiny --device emulator --json no/x", 1, "no folder no for x"),
    ("bench model --config tiny --tokens 8 --device cpu --json no/x", 1, "no folder no for x"),
    ("bench accuracy --count 1 --json no/x", 1, "no folder no for x"),
    ("bench sim --json no/x", 1, "no folder no for x"),
    ("bench cpu --json no/x", 1, "no folder no for x"),
    ("bench compile --json no/x", 1, "no folder no for x"),
    ("synth --json no/x", 1, "no folder no for x"),
    ("calibrate --device cpu --tokens 4 --json no/x", 1, "no folder no for x"),
    ("bench gpu --json no/x", 1, "no folder no for x"),
    ("bench gpu", 1, "needs a CUDA device, torch finds none"),
    ("bench accuracy --texts nothing.txt", 1, "no file nothing.txt"),
    ("bench accuracy --count 0", 2, "--count"),
    ("bench accuracy --degenerate --texts x", 2, "--texts and --degenerate exclude each other"),
    (
        "bench model --model nothing --config tiny --tokens 8 --device cpu",
        1,
        "'nothing' is neither",
    ),
    ("run nothing --text hello --device cpu", 1, "'nothing' is neither 'minilm' nor a folder"),
    ("run minilm --device cpu", 1, "no --text given"),
    ("run minilm --text a --batch 3 --device cpu", 1, "--batch 3, but 1 texts"),
    ("run nowhere:f --device cpu", 1, "cannot load 'nowhere:f': No module named 'nowhere'"),
    ("run my_models:nothing --device cpu", 1, "has no attribute 'nothing'"),
    ("run my_models:no_model --device cpu", 1, "must return (torch.nn.Module, example inputs)"),
    ("run my_models:named_model", 1, "must be a tensor or several, not dict"),
    ("run my_models:number_model", 1, "example input 1 of .* must be a tensor, not int"),
    ("run my_models:exits", 1, "my_models:exits ends the program: SystemExit(0)"),
    ("run my_models: --device cpu", 1, "'my_models:' is not module:function"),
    ("run my_models:model --text a", 1, "brings its own example"),
    ("run my_models:nan_model --config tiny --device cpu", 1, "weights of .* hold nan"),
    ("explain my_models:model --tokens 3", 1, "--text, --tokens and --batch do not apply"),
    ("explain nothing --json no/x", 1, "no folder no for x"),
    ("bench model --plot no/x.png", 1, "no folder no for x.png"),
    ("bench model --plot x.nope", 1, "x.nope has no known format, there are .*png"),
    ("bench model --plot x.png --device cpu", 1, "a plot needs cycles, cpu has none"),
    ("run my_models:model --config tiny --filter nope", 1, "no key filter 'nope', there are dense"),
    ("verify nothing", 1, "no program file nothing"),
    ("trace nothing -o x --region y", 1, "no program file nothing"),
    ("compile my_models:model -o no/x --config tiny", 1, "no folder no for x"),
    ("compile my_models:model -o . --config tiny", 1, "is a folder"),
    ("compile my_models:model --config tiny", 2, "-o"),
    ("disasm nothing", 1, "no program file nothing"),
    ("trace nothing -o x", 1, "no program file nothing"),
    ("trace nothing -o no/x", 1, "no folder no for x"),
    ("test no_such_block", 1, "no test 'no_such_block' under tests/"),
    ("test ../..", 1, "'../..' is no name of a block"),
    ("test /etc", 1, "'/etc' is no name of a block"),
    ("test *", 1, "'*' is no name of a block"),
    ("test benches", 1, "no test 'benches'"),
    ("compile minilm -o x --batch 5000", 1, "5000 x 128 tokens exceed 8,192"),
    ("compile minilm -o /dev/null", 1, "/dev/null is no regular file"),
    ("compile minilm -o x --batch 40", 1, "minilm on 40 x 128 tokens needs .* cycles or more"),
    ("verilog -o /dev/null", 1, "/dev/null is no folder"),
    ("cache --days -1", 2, "--days"),
    ("nonsense", 2, "No such command 'nonsense'"),
    ("run minilm --tokens 700 --text a", 1, "sequence length 700 exceeds 512 of minilm"),
    ("bench model --tokens 9000", 1, "1 x 9000 tokens exceed 8,192"),
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


def test_an_empty_name_of_a_block_does_not_mean_all(transept_command):
    assert transept_command("test", "")[2] == [
        "error: '' is no name of a block, such as softmax or rtl/memory"
    ]


FAILING_MODEL = """import torch
class M(torch.nn.Module):
    def forward(self, x):
        return x @ torch.ones(3, 3)
def f():
    return M(), (torch.ones(2, 4),)
"""
BROKEN = {
    "raises": (
        "def f():\n    return g()\ndef g():\n    return 1 / 0\n",
        "beside.py:4: ZeroDivisionError: division by zero",
    ),
    "syntax": ("def f():\n    retrun\n  1\n", "beside.py:3: "),
    "lacks": ("import no_such_module\n", "beside.py:1: ModuleNotFoundError: No module named"),
    "deep": ("import json\ndef f():\n    json.loads('{')\n", "beside.py:3: JSONDecodeError: "),
    "silent": ("def f():\n    raise EOFError\n", "beside.py:2: EOFError"),
    "forward": (
        FAILING_MODEL,
        "beside.py:4: RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
}


@pytest.mark.parametrize(("source", "message"), BROKEN.values(), ids=BROKEN)
def test_errors_of_the_users_code_say_where(transept_command, tmp_path, source, message):
    (tmp_path / "beside.py").write_text(source)
    code, _, lines = transept_command("run", "beside:f", "--config", "tiny", "--device", "cpu")
    assert code == 1
    (line,) = filter(None, lines)  # typer ends the line at the end of input
    assert line.startswith(f"error: {message}")


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_traceback_on_request(transept_command, monkeypatch, how):
    monkeypatch.setenv("TRANSEPT_DEBUG", str(int(how == "variable")))
    options = ["--debug"] if how == "option" else []
    with pytest.raises(ValueError, match="no program file nothing"):
        transept_command(*options, "disasm", "nothing", exits=False)


def test_an_error_without_a_message_has_its_kind():
    assert describe(AssertionError()) == "AssertionError"
    assert describe(RuntimeError()) == "RuntimeError"
    assert describe(IndexError("no")) == "IndexError: no"
    assert describe(KeyError("no")) == "KeyError: no"
    assert describe(ValueError("no")) == "no"


def test_of_a_failed_build_the_first_complaint_is_shown():
    lines = ["make failed with exit status 2:", "g++ -c x.cpp", "x.cpp:3: Error: no", "gone", "bye"]
    shown = "make failed with exit status 2: x.cpp:3: Error: no (transept --debug shows more)"
    assert describe(BuildError("\n".join(lines))) == shown
    del lines[2]
    assert describe(BuildError("\n".join(lines))).startswith(f"{lines[0]} bye (")


def test_version(transept_command):
    code, out, _ = transept_command("--version")
    assert code == 0
    assert out.split() == ["transept", "0.1.0,", "contract", str(CONTRACT_VERSION)]


CHEAP = [
    "bench model --config nope",
    "run minilm --text a --config nope",
    "compile minilm -o x --tokens 9999",
]


@pytest.mark.parametrize("command", CHEAP)
def test_what_is_wrong_is_noticed_before_torch_is_imported(tmp_path, command):
    code = (
        "import sys; from transept.host.cli.app import call; "
        f"sys.argv = 'transept {command}'.split(); assert call() == 1; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_extra_is_named(transept_command, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith("transept.host.models")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    code, _, (line,) = transept_command("run", "minilm", "--text", "a", "--device", "cpu")
    assert (code, line) == (1, f"error: {package} missing; run: pip install 'transept[torch]'")


def test_without_typer_there_is_one_line(tmp_path):
    code = "import sys; sys.modules['typer'] = None; from transept.host.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "error: typer missing; run: pip install transept\n"


def test_tests_by_name(monkeypatch, tmp_path):
    names = [path.relative_to(TESTS).as_posix() for path in find_tests("softmax")]
    assert "golden/test_softmax.py" in names
    assert "cocotb/test_softmax.py" in names
    assert all("softmax" in name for name in names)
    folder = [path.relative_to(TESTS).as_posix() for path in find_tests("rtl/memory")]
    assert "rtl/memory/test_windows.py" in folder
    assert all(name.startswith("rtl/memory/") for name in folder)
    assert [path.name for path in find_tests("sim/test_cache.py")] == ["test_cache.py"]
    monkeypatch.setattr("transept.host.cli.test.TESTS", tmp_path / "tests")
    with pytest.raises(ValueError, match="no part of the package; run this in a checkout"):
        find_tests("softmax")


def test_largest_gemm_is_accepted():
    check_shape(TINY, f"{MAX_ROWS}x4x4")
    check_shape(TINY, "16x1020x1020")


def test_cache_is_shown_and_pruned(transept_command, monkeypatch, tmp_path):
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path))
    code, out, _ = transept_command("cache")
    assert (code, out.split()[-4:]) == (0, ["0", "entries,", "0.0", "MiB"])
    entry = tmp_path / "verilog" / f"{'01' * 12}-{'2' * 8}"
    entry.mkdir(parents=True)
    (entry / "file").write_text("x" * (1 << 20))
    assert entry.name[:9] in transept_command("cache", "--prune")[1]
    assert entry.exists()
    assert "1 entries, 1.0 MiB" in transept_command("cache", "--prune", "--days", "0")[1]
    assert list((tmp_path / "verilog").iterdir()) == []


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


def states(out):
    """The row of each device."""
    return {line.split()[0]: line.rstrip() for line in out.splitlines() if line.split()}


def test_devices(transept_command):
    code, out, _ = transept_command("devices")
    assert code == 0
    for word in ("rtl", "emulator", "cpu", "tiny", "pynq_z2_board", f"{TINY.digest:08x}"):
        assert word in out
    assert states(out)["rtl"].endswith(" ready")
    assert states(out)["cpu"].endswith(" ready")


def test_devices_that_lack_something_say_so(transept_command, monkeypatch, tmp_path):
    build.accelerator_library(TINY)
    for name in ("torch", "amaranth"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(report.console, "width", 200)
    out = transept_command("devices")[1]
    assert "ready for tiny" in states(out)["rtl"]
    assert "needs amaranth, g++, make, perl, see: transept doctor" in states(out)["rtl"]
    assert "needs torch" in states(out)["cpu"]
    assert states(out)["emulator"].endswith(" ready")
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path))
    assert "ready" not in states(transept_command("devices")[1])["rtl"]


def test_compile_and_disasm(transept_command, tmp_path):
    code, out, _ = transept_command("compile", "my_models:model", "-o", "file", "--config", "tiny")
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    code, text, _ = transept_command("disasm", "file")
    title, *lines = text.splitlines()
    assert code == 0
    assert f"1 regions, {len(lines):,} instructions" in out
    (region,) = transept.load("file").regions
    (executable,) = region.executables.values()
    assert title == f"; {region.name}, {executable.shape}"
    assert lines[-1].split() == [str(len(lines) - 1), "END", ";", "end"]
    program = executable.decoded()
    assert [line.split(None, 1)[1].split("  ; ")[0] for line in lines] == [str(i) for i in program]


def test_explain(transept_command, tmp_path):
    command = "explain my_models:model --config tiny --json found.json"
    code, out, _ = transept_command(*command.split())
    assert code == 0
    assert "6 of 6 linears, 1 of 1 attentions, 100.0% of the multiply-accumulates" in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == [
        *("linears_total", "linears_on", "attention_total", "attention_on", "macs_share"),
        *("predicted_cycles", "regions", "fallback"),
    ]
    (region,) = found["regions"]
    assert list(region) == ["name", "operators", "macs", "predicted_cycles"]
    assert region["macs"] == 4 * (4 * 8 * 8 + 2 * 8 * 12) + 2 * 4 * 4 * 8


def test_verify(transept_command, tmp_path):
    transept_command("compile", "my_models:model", "-o", "file", "--config", "tiny")
    code, out, _ = transept_command("verify", "file")
    assert code == 0
    assert f"contract {CONTRACT_VERSION}, configuration tiny" in out
    assert "instructions verified" in out
    data = bytearray((tmp_path / "file").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "file").write_bytes(data)
    code, _, (line,) = transept_command("verify", "file")
    assert code == 1
    assert line.startswith("error: file is corrupt")


def test_a_program_file_is_like_other_files(transept_command, tmp_path):
    (tmp_path / "link").symlink_to("target")
    umask = os.umask(0o022)
    try:
        transept_command("compile", "my_models:model", "-o", "link", "--config", "tiny")
    finally:
        os.umask(umask)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o644
    assert transept_command("disasm", "target")[0] == 0


@pytest.mark.parametrize("device", ["emulator", "cpu"])
def test_run_a_function(transept_command, device):
    code, out, lines = transept_command(
        "run", "my_models:model", "--config", "tiny", "--device", device
    )
    assert (code, lines) == (0, [])
    assert float(re.search(r"cosine to float32 ([\d.]+)", out)[1]) > 0.99
    assert "mismatches: 0 against the emulator, 0 against the golden model" in out


@pytest.fixture
def own_costs(tmp_path, monkeypatch):
    monkeypatch.setattr("transept.host.placement.machine.cache_dir", lambda: tmp_path / "cache")


CALIBRATE = "calibrate --model my_models:model --config tiny"


def test_costs_are_written_and_kept(transept_command, own_costs, tmp_path):
    """All of them, as they are kept for this machine; those at a clock are only written."""
    path = tmp_path / "costs.json"
    command = f"{CALIBRATE} --device cpu --device emulator --json {path}"
    code, out, lines = transept_command(*command.split())
    assert (code, lines) == (0, [])
    assert "kept in" in out
    found = read_costs(path)
    assert found == load_costs(TINY)
    assert set(found) == {"cpu", "emulator"}
    assert found["cpu"].samples
    told = json.loads(path.read_text())
    assert told["machine"] == machine()
    assert told["command"].startswith("transept")
    command = f"{CALIBRATE} --device emulator --clock 1 --json {path}"
    code, out, lines = transept_command(*command.split())
    assert (code, lines) == (0, [])
    assert "kept in" not in out
    assert load_costs(TINY) == found
    assert read_costs(path)["emulator"] != found["emulator"]


def test_a_placement_is_explained(transept_command, own_costs):
    command = f"{CALIBRATE} --device cpu --device emulator"
    assert transept_command(*command.split())[::2] == (0, [])
    command = "run my_models:model --config tiny --device auto --explain --pin *=emulator"
    code, out, lines = transept_command(*command.split())
    assert (code, lines) == (0, [])
    assert "placement of model" in out
    assert re.search(r"predicted [\d.]+ ms \(no other parts take less\), measured [\d.]+ ms", out)
    assert re.search(r"no plan is below [\d.e-]+ ms", out)
    assert "mismatches: 0 against the emulator, 0 against the golden model" in out
    assert "emulator" in out


def test_an_explanation_has_the_median_of_several_runs(transept_command, own_costs, monkeypatch):
    told = []
    monkeypatch.setattr(report, "show_placement", lambda *found: told.append(found))
    runs = []
    monkeypatch.setattr(cli.run, "median_run", lambda several: runs.append(several) or several[-1])
    command = "run my_models:model --config tiny --device cpu --explain --clock 2 --runs 3"
    assert transept_command(*command.split())[::2] == (0, [])
    ((placed, hertz),) = told
    assert hertz == 2e6
    assert [len(several) for several in runs] == [3] * len(placed)
    assert placed


def test_cycles_are_explained(transept_command, own_costs, monkeypatch):
    """Those that the RTL counts, beside those that were predicted."""
    told = {}
    monkeypatch.setattr(report, "show_rows", told.__setitem__)
    command = "run my_models:model --config tiny --device rtl --explain --clock 100"
    code, out, lines = transept_command(*command.split())
    assert (code, lines) == (0, [])
    assert "cycles = " in out
    (row,) = told["placement of model"]
    assert row["predicted_cycles"] == pytest.approx(row["cycles"], rel=0.2)
    assert row["measured_ms"] == pytest.approx(row["cycles"] / 1e5)


def test_a_pin_that_fits_no_layer_is_refused(transept_command, own_costs):
    command = "run my_models:model --config tiny --device cpu --pin x=emulator"
    code, _, (line,) = transept_command(*command.split())
    assert code == 1
    assert line.startswith("error: no layer 'x' to pin, there are ")


def test_a_module_in_the_working_directory(transept_command, tmp_path):
    source = "import torch\ndef f():\n    return torch.nn.Linear(4, 4), (torch.ones(2, 4),)\n"
    (tmp_path / "beside.py").write_text(source)
    code, out, _ = transept_command("run", "beside:f", "--config", "tiny", "--device", "emulator")
    assert code == 0
    assert "2 rows" in out


class Pair(torch.nn.Module):
    """Returns what transformers return: nested, with names."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        y = self.linear(x)
        return {"first": y, "rest": (2 * y, y.argmax())}


def pair_model():
    torch.manual_seed(0)
    return Pair(), (torch.randn(2, 4),)


def test_a_model_may_return_several_tensors(transept_command):
    code, out, _ = transept_command(
        "run", "my_models:pair_model", "--config", "tiny", "--device", "emulator"
    )
    assert code == 0
    assert float(re.search(r"cosine to float32 ([\d.]+)", out)[1]) > 0.99


def test_trace_names_layers_opcodes_and_stalls(transept_command, tmp_path):
    transept_command("compile", "my_models:model", "-o", "file", "--config", "tiny")
    assert transept_command("trace", "file", "-o", "trace.json")[0] == 0
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    work = [event for event in events if event.get("cat") == "work" and event["name"] != "computes"]
    (region,) = transept.load("file").regions
    (executable,) = region.executables.values()
    wanted = sorted(
        f"{instruction.opcode.name} {label}".strip()
        for label, instruction in zip(executable.labels, executable.decoded(), strict=True)
        if instruction.engine is not None
    )
    assert sorted(event["name"] for event in work) == wanted
    stalls = {event["name"] for event in events if event.get("cat") == "stall"}
    assert "waits: token" in stalls
    assert stalls <= {f"waits: {stall.name.lower()}" for stall in Stall}


def test_trace_builds_no_configuration_of_a_stranger(transept_command, monkeypatch):
    other = TINY.replace(stat_words=1 << 9)
    monkeypatch.setitem(PRESETS, "other", other)
    transept_command("compile", "my_models:model", "-o", "file", "--config", "other")
    code, _, (line,) = transept_command("trace", "file", "-o", "trace.json")
    assert code == 1
    assert line.startswith(f"error: file is for tiny ({other.digest:08x}), which is none of")


def test_trace_of_a_region(transept_command):
    transept_command("compile", "my_models:model", "-o", "file", "--config", "tiny")
    code, _, (line,) = transept_command("trace", "file", "-o", "trace.json", "--region", "nope")
    assert (code, line) == (1, "error: no region 'nope', there is model")


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
        *("bytes_bound", "bytes_read", "bytes_written", "mismatches"),
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


def test_what_is_said_reaches_the_model(monkeypatch, transept_command):
    told = {}

    def prepare(model, config, **options):
        told.update(options, model=model, config=config.name)
        raise ValueError("that is all")

    monkeypatch.setattr("transept.host.cli.explain.prepare", prepare)
    command = "explain minilm --config tiny --tokens 8 --batch 2 --filter causal"
    code, _, (line,) = transept_command(*command.split())
    assert code == 1
    assert line.endswith("that is all")
    assert told == {
        **{"model": "minilm", "config": "tiny", "tokens": 8, "batch": 2, "key_filter": "causal"}
    }


def test_limits_are_in_mebibytes():
    placement = _placement(DeviceName.auto, [], ["cpu=2", "gpu=0.5"], None, True, False)
    assert placement.memory == {"cpu": 2 << 20, "gpu": 1 << 19}


def test_rows_of_a_gpu_stand_with_their_like(monkeypatch, transept_command, tmp_path):
    rows = [
        {"work": "linear", "shape": "8x8x8", "ms": 1.5, "tops": 3.0, "blocks": {"m": 1}},
        {"work": "attention, 25% of tiles", "shape": "1x2x3x4", "ms": 2.5, "flex_ms": 7.25},
        {"work": "attention", "shape": "4x3x2x1", "ms": 3.5},
    ]
    result = {"card": "A card", "torch": "2", "triton": "3", "rows": rows}
    monkeypatch.setattr("transept.host.bench.gpu.bench_gpu", lambda progress: result)
    monkeypatch.setattr(bench.tools, "require", lambda *names: None)
    shown = []
    monkeypatch.setattr(report, "show_rows", lambda title, rows: shown.append((title, rows)))
    code, _, _ = transept_command("bench", "gpu", "--json", "rows.json")
    assert code == 0
    assert json.loads((tmp_path / "rows.json").read_text()) == result
    assert {title for title, _ in shown} == {"bench gpu, A card, torch 2, triton 3"}
    assert [rows for _, rows in shown] == [
        [{"work": "linear", "shape": "8x8x8", "ms": 1.5}],
        [
            {"work": "attention, 25% of tiles", "shape": "1x2x3x4", "ms": 2.5, "flex_ms": 7.25},
            {"work": "attention", "shape": "4x3x2x1", "ms": 3.5, "flex_ms": None},
        ],
    ]
