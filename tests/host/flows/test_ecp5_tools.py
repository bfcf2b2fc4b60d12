"""The tools of the ECP5 flow, from Verilog to a packed bitstream."""

import dataclasses
import json

import pytest
from amaranth import Module, Signal
from amaranth.lib.wiring import Out
from link_system import LinkSystem

from transept.bitstreams.ecp5 import ecp5_board
from transept.golden.config import TINY, preset
from transept.host.flows import ecp5
from transept.host.flows.base import FlowError
from transept.host.yosys import run_script
from transept.rtl.link.block_memory import BlockMemory
from transept.rtl.link.ecp5 import Ecp5Top
from transept.sim.build import to_verilog

#: The smallest part in the same package, which the same board is sold with.
BOARD = dataclasses.replace(
    ecp5_board("ulx3s_85f"),
    name="small",
    device="25k",
    config=TINY.replace(name="small", clock_mhz=50),
)


class Small(LinkSystem):
    """Registers and memory on the serial line, and a multiplier in place of an accelerator."""

    irq: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.system = system = LinkSystem(self._cfg)
        count, product = Signal(18), Signal(36)
        m.d.sync += [count.eq(count + 1), product.eq(count * (count ^ 0x2AAAA))]
        m.d.comb += [system.rx.eq(self.rx), self.tx.eq(system.tx), self.irq.eq(product[-1])]
        return m


def small_verilog(board):
    pll = board.pll
    top = Ecp5Top(
        board.config,
        memory_bytes=1024,
        cycles=50,
        oscillator_mhz=board.oscillator_mhz,
        dividers=(pll.feedback, pll.output),
    )
    top._linked = Small(board.config)
    return to_verilog(top, ecp5.TOP, separator="_")


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ecp5, "top_verilog", small_verilog)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")  # the accelerator
def test_a_small_design_becomes_a_bitstream(tmp_path):
    # the default placer wants more cells of every kind than a small design has
    by = ecp5.Placement(placer="heap")
    built = ecp5.build(BOARD, tmp_path / "out", 800, lambda text: None, by)
    assert built.routed
    assert built.fmax_mhz >= 50
    assert (built.dsp, built.lut > 500, built.ff > 300) == (1, True, True)
    assert built.bram >= 1  # the memory, and the words of a frame
    bits = built.bitstream.read_bytes()
    assert b"Part: LFE5U-25F-6CABGA381" in bits[:200]
    assert len(bits) > 50_000
    summary = json.loads((tmp_path / "out" / ecp5.REPORTS / ecp5.SUMMARY).read_text())
    (clock,) = summary["clocks"]
    assert clock.endswith("pll_CLKOS")
    assert summary["clocks"][clock]["constraint"] == pytest.approx(50)  # derived by the PLL
    (path,) = summary["paths"]
    assert path["ns"] == pytest.approx(1000 / summary["clocks"][clock]["achieved"], abs=0.05)
    assert {"linked.system"} >= set(path["block"].split(" -> "))
    log = (tmp_path / "out" / ecp5.REPORTS / "place.log").read_text()
    for pin, site in (("rx", "M1"), ("tx", "L4")):
        assert f"pin '{pin}$tr_io' constrained to Bel" in log, (pin, site)

    # what is faster than the part is no bitstream
    fast = dataclasses.replace(BOARD, config=BOARD.config.replace(clock_mhz=400))
    with pytest.raises(FlowError, match=r"timing is not met, \S+ MHz of 400") as found:
        ecp5.build(fast, tmp_path / "fast", 800, lambda text: None, by)
    assert found.value.built.routed
    assert not list((tmp_path / "fast").glob("*.bit"))


def test_memory_in_place_of_dram_is_block_ram(tmp_path):
    """All of it, with bytes that are written alone, and no logic beside it that grows with it."""
    text = to_verilog(BlockMemory(preset("ulx3s"), 1 << 14), "memory")
    (tmp_path / "design.v").write_text(text)
    run_script(
        "read_verilog design.v\nhierarchy -top memory\nproc\nflatten\nopt_clean\n"
        "rename -hide w:*\nsynth_ecp5 -top memory\ntee -q -o stat.json stat -json\n",
        tmp_path,
        limit_s=300,
    )
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert cells["DP16KD"] == (1 << 14) * 8 // (1 << 14)  # 16,384 bits each
    assert "TRELLIS_DPR16X4" not in cells
    assert cells["TRELLIS_FF"] < 600
