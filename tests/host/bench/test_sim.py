"""The bench of the simulations, with times that are given."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from cards import Clock

from transept.golden import registers
from transept.golden.config import TINY
from transept.host.bench import sim
from transept.host.bench.product import reference
from transept.host.bench.sim import _Bench, _Recorder, bench_sim
from transept.host.runtime.driver import Driver
from transept.sim import native

SEED = 3


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(sim, "SIZE", 8)
    monkeypatch.setattr(sim, "RUNS", 2)
    return _Bench(TINY, "board", SEED)


def test_what_is_measured():
    assert (sim.SIZE, sim.ROUNDS, sim.RUNS, sim.DRAM_BYTES) == (256, 5, 8, 1 << 22)
    a, b = sim._operands(100, 5)
    assert a.shape == b.shape == (100, 100)
    assert a.dtype == b.dtype == np.int8
    assert {int(x.min()) for x in (a, b)} == {-127}
    assert {int(x.max()) for x in (a, b)} == {127}
    assert (a != b).mean() > 0.9


def test_the_best_round_of_each_simulation_counts(monkeypatch):
    asked, rounds = [], itertools.count(1)

    class Three:
        def __init__(self, *arguments):
            asked.append(arguments)

        def native(self):
            self.round = next(rounds)
            return 100.0 * min(self.round, 6 - self.round)

        def ceiling(self):
            return 50.0 * self.round

        def cocotb(self):
            return 30.0 / self.round

    monkeypatch.setattr(sim, "_Bench", Three)
    assert bench_sim(TINY, memory="board", seed=SEED) == {
        **{"native_khz": 300.0, "ceiling_khz": 250.0, "cocotb_khz": 30.0},
        **{"native_to_ceiling": 1.2, "native_to_cocotb": 10.0, "gemm": "256x256x256"},
    }
    assert asked == [(TINY, "board", SEED)]


def test_the_clock_of_the_native_harness_counts_while_it_runs(bench, monkeypatch):
    clock, reports = Clock(), []
    wait, run = sim.RtlDevice.wait, Driver.run

    def slow(device, timeout):
        clock.passes(250)
        return wait(device, timeout)

    def watched(*arguments):
        clock.passes(9000)
        reports.append(run(*arguments))
        return reports[-1]

    assert bench._device.seconds == 0
    monkeypatch.setattr(sim, "time", clock)
    monkeypatch.setattr(sim.RtlDevice, "wait", slow)
    monkeypatch.setattr(Driver, "run", watched)
    found = bench.native()
    cycles = [report.cycles for _, report in reports]
    assert len(cycles) == 2
    assert found == pytest.approx(sum(cycles) / (2 * 0.25) / 1000)
    for outputs, _ in reports:
        assert (outputs["c"][0] == reference(bench._a, bench._b, bench._gemm)).all()


def test_the_bare_model_repeats_what_was_recorded(bench, monkeypatch):
    speeds = iter([2.0, 6.0])

    def replay(recording):
        assert recording is bench._recording
        return SimpleNamespace(khz=next(speeds))

    assert native.replay(bench._recording).cycles == bench._recording.cycles > 64
    monkeypatch.setattr(native, "replay", replay)
    assert bench.ceiling() == pytest.approx(2 / (1 / 2 + 1 / 6))


def test_under_cocotb_the_result_is_that_of_numpy(bench, monkeypatch):
    wanted = reference(bench._a, bench._b, bench._gemm)
    found = {"outputs": {"c": wanted[None]}, "cycles": 3000, "seconds": 2}

    def run(region, inputs, *, seed):
        assert region is bench._gemm.region
        assert (inputs["a"][0] == bench._a).all()
        assert seed == SEED
        return found

    monkeypatch.setattr(sim, "run_in_cocotb", run)
    assert bench.cocotb() == 1.5
    found["outputs"]["c"] = wanted[None] + np.eye(8, dtype=np.int8)
    with pytest.raises(RuntimeError, match="under cocotb gave another result than NumPy"):
        bench.cocotb()


def test_a_recorder_keeps_writes_and_never_runs():
    recorder = _Recorder(TINY)
    table = {entry.offset: entry for entry in registers.table(TINY)}
    for offset, entry in table.items():
        assert recorder.read(offset) == (entry.constant or 0)
    assert any(entry.constant for entry in table.values())
    recorder.write(8, np.int64(5))
    recorder.write(4, 7)
    assert recorder.writes == [(8, 5), (4, 7)]
    assert recorder.wait(10) is False
    assert recorder.allocate(4).address % 64 == 0
    assert (recorder.dram.size, recorder.dram.dtype) == (1 << 22, np.uint8)
