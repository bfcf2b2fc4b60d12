"""cocotb side: streams and buses with random gaps, and failures that are not overlooked."""

import pytest
from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from mock_accelerator import MockAccelerator

from transept.golden.config import TINY
from transept.sim.cocotb_runner import run_bench


class Stage(wiring.Component):
    """A register with valid/ready on both sides; without ``holding`` it forgets to wait."""

    def __init__(self, *, holding=True):
        self._holding = holding
        super().__init__({"i": In(stream.Signature(32)), "o": Out(stream.Signature(32))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready if self._holding else 1):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        return m


def test_streams_pass_with_gaps_and_stalls():
    assert run_bench(Stage(), "stage", "stage_bench", {"wrong": False}) == 9


def test_failing_tests_are_named():
    with pytest.raises(AssertionError, match="stage_bench: failed: fails_on_request") as caught:
        run_bench(Stage(), "stage", "stage_bench", {"wrong": True})
    assert "item 1 is 0x3, expected 0x2" in str(caught.value)


def test_monitor_sees_a_dropped_valid():
    with pytest.raises(AssertionError, match="failed: passes_all") as caught:
        run_bench(Stage(holding=False), "stage", "stage_bench", {"wrong": False})
    assert "before ready" in str(caught.value)


def test_module_without_tests_fails():
    with pytest.raises(AssertionError, match="broken_bench: no test ran"):
        run_bench(Stage(), "stage", "broken_bench")


def test_a_bench_that_hangs_is_stopped():
    with pytest.raises(AssertionError, match="hanging_bench: no test ran to its end in 2 s"):
        run_bench(Stage(), "stage", "hanging_bench", limit_s=2)


def test_buses_attach_to_the_top_ports():
    config = {"axi_bytes": TINY.axi_bytes}
    dut = MockAccelerator(TINY)
    assert run_bench(dut, "accelerator", "mock_accelerator_bench", config, separator="_") == 3


def test_waves(tmp_path):
    path = tmp_path / "stage.vcd"
    run_bench(Stage(), "stage", "stage_bench", {"wrong": False}, waves=path)
    assert "o__payload" in path.read_text()
