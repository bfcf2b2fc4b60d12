"""Signals from waveforms, cycle by cycle."""

import numpy as np
import pytest
from mock_accelerator import MockAccelerator

from transept.golden.config import TINY
from transept.sim import build, tools
from transept.sim.native import NativeSimulation, WaveWindow
from transept.sim.waves import lanes, read_waves

#: An even time is what a cycle settles to, an odd one what its edge makes of that.
VCD = """\
$timescale 1ps $end
$scope module TOP $end
$scope module unit $end
$var wire 1 a bit $end
$scope module inner $end
$var wire 80 b word [79:0] $end
$var wire 8 c late [7:0] $end
$upscope $end
$upscope $end
$upscope $end
$enddefinitions $end
#4
0a
b101 b
#5
1a
#6
b11 b
#7
0a
b1{zeros} b
#9
b11111111 c
#11
1a
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "some.vcd"
    path.write_text(VCD.replace("{zeros}", "0" * 70))
    return path


def test_a_cycle_has_what_it_settles_to(path):
    found = read_waves(path, "unit", ["bit", "inner.word", "inner.late"], range(7))
    assert list(found) == ["bit", "inner.word", "inner.late"]
    assert found["bit"].tolist() == [0, 0, 0, 1, 0, 0, 1]
    assert found["inner.word"].tolist() == [0, 0, 5, 3, 1 << 70, 1 << 70, 1 << 70]
    assert found["inner.late"].tolist() == [0, 0, 0, 0, 0, 255, 255]


def test_cycles_and_scope_are_chosen(path):
    assert read_waves(path, "unit.inner", ["word"], range(3, 5))["word"].tolist() == [3, 1 << 70]


def test_an_unknown_signal_is_named(path):
    with pytest.raises(ValueError, match=r"some.vcd has no signal unit.inner.words"):
        read_waves(path, "unit", ["bit", "inner.words"], range(3))


def test_without_pywellen(path, monkeypatch):
    absent = (tools.Tool("pywellen", "", "pip install", "'transept[notebooks]'", "no_such_module"),)
    monkeypatch.setattr(tools, "WAVES", absent)
    with pytest.raises(tools.ToolMissing, match=r"pywellen missing; run: pip install 'transept\["):
        read_waves(path, "unit", ["bit"], range(3))


def test_lanes_are_signed_fields():
    words = np.array([0x01_FF_80_7F, (1 << 80) - 1], object)
    assert lanes(words, 4, 8).tolist() == [[127, -128, -1, 1], [-1, -1, -1, -1]]
    assert lanes(words, 2, 17).tolist() == [[0x1807F - (1 << 17), 0xFF], [-1, -1]]
    assert lanes(words, 3, 20).dtype == np.int64


def test_waves_agree_with_the_timeline(tmp_path):
    path = tmp_path / "mock.vcd"
    text = build.to_verilog(MockAccelerator(TINY), "accelerator", separator="_")
    library = build.native_library(text, trace=True)
    waves = WaveWindow(path)
    with NativeSimulation(TINY, library=library, waves=waves, timeline=True) as simulation:
        simulation.write32(0x08, simulation.dram_base + 4096)
        simulation.write32(0x04, simulation.dram_base)
        simulation.write32(0x0C, 2)
        simulation.write32(0x00, 1)
        simulation.run_until_irq(10_000)
        changes, end = simulation.timeline(), simulation.cycle
    read = read_waves(path, "accelerator", ["activity"], range(end))["activity"]
    times = changes[:, 0].astype(int)
    wanted = changes[np.searchsorted(times, np.arange(end), side="right") - 1, 1]
    assert len(set(wanted.tolist())) > 3
    assert (read == wanted).all()
