"""The native harness on a mock top: memory model, registers, faults, recording, waves."""

import dataclasses
import functools

import numpy as np
import pytest
from mock_accelerator import BURST_BEATS, Fault, MockAccelerator, Register

from transept.golden.config import PYNQ_Z2, TINY
from transept.sim import build, native, timeline
from transept.sim.native import Faults, NativeSimulation, WaveWindow

FAR = 1 << 20


@functools.cache
def library(config=TINY, *, trace=False):
    text = build.to_verilog(MockAccelerator(config), "accelerator", separator="_")
    return build.native_library(text, trace=trace)


def simulation(config=TINY, *, waves=None, **options):
    path = library(config, trace=waves is not None)
    return NativeSimulation(config, library=path, dram_bytes=4 << 20, waves=waves, **options)


def start(sim, bursts, *, source=0, fault=0):
    """Start a copy of random bytes, found at the start of DRAM; returns them."""
    count = bursts * BURST_BEATS * sim.config.axi_bytes
    data = np.random.default_rng(sim.seed).integers(0, 256, count, np.uint8)
    sim.dram[:count] = data
    sim.write32(Register.SOURCE, sim.dram_base + source)
    sim.write32(Register.DESTINATION, sim.dram_base + FAR)
    sim.write32(Register.BURSTS, bursts)
    sim.write32(Register.FAULT, fault)
    sim.write32(Register.CONTROL, 1)
    return data


def copied(sim, count):
    return sim.dram[FAR : FAR + count]


@pytest.mark.parametrize("backpressure", [0.0, 0.3])
@pytest.mark.parametrize("config", [TINY, PYNQ_Z2], ids=lambda config: config.name)
def test_copies_memory(config, backpressure):
    with simulation(config, backpressure=backpressure) as sim:
        data = start(sim, 20)
        cycles = sim.run_until_irq(100_000)
        assert np.array_equal(copied(sim, data.size), data)
        counters = sim.counters()
        assert (counters.read_bytes, counters.write_bytes) == (data.size, data.size)
        assert (counters.read_bursts, counters.write_bursts) == (20, 20)
        assert counters.in_flight == 0
        assert cycles > 20 * (32 + 16 + 16 + 16)


def test_same_seed_same_cycles():
    def run(seed):
        with simulation(seed=seed, backpressure=0.2) as sim:
            start(sim, 10)
            return sim.run_until_irq(100_000)

    assert run(3) == run(3)
    assert len({run(seed) for seed in range(5)}) > 1


@pytest.mark.parametrize("config", [TINY, PYNQ_Z2], ids=lambda config: config.name)
def test_memories_start_with_seeded_random_bits(config):
    def words(seed):
        with simulation(config, seed=seed) as sim:
            values = []
            for address in range(BURST_BEATS):
                sim.write32(Register.PEEK, address)
                values.append(sim.read32(Register.PEEK))
            return values

    assert words(1) == words(1)
    assert words(1) != words(2)
    assert len(set(words(1))) == BURST_BEATS
    ones = np.unpackbits(np.array(words(1), np.uint32).view(np.uint8)).mean()
    assert 0.4 < ones < 0.6


@pytest.mark.parametrize(
    ("memory", "bytes_per_cycle"), [("default", 12.8), ("board", 6.4)], ids=["default", "board"]
)
def test_bandwidth_is_limited(memory, bytes_per_cycle):
    with simulation(PYNQ_Z2, memory=memory, timeline=True) as sim:
        start(sim, 50)
        sim.run_until_irq(100_000)
        end = sim.cycle
        pieces = timeline.slices(sim.timeline(), end)
    beats = sum(p.stop - p.start for p in pieces if p.track == "ARRAY")
    assert beats == 50 * BURST_BEATS
    spans = [p.stop - p.start for p in pieces if p.track == "STORE"]
    needed = BURST_BEATS * PYNQ_Z2.axi_bytes / bytes_per_cycle
    idle_tokens = 4 * PYNQ_Z2.axi_bytes / bytes_per_cycle
    assert min(spans) >= needed - idle_tokens + 16


def test_registers_answer_errors_and_keep_values():
    with simulation(backpressure=0.5) as sim:
        sim.write32(Register.SOURCE, 0x89ABCDEF)
        assert sim.read32(Register.SOURCE) == 0x89ABCDEF
        with pytest.raises(native.BusError, match="read of register 0x800: response 2"):
            sim.read32(0x800)
        with pytest.raises(native.BusError, match="write of register 0x7fc"):
            sim.write32(0x7FC, 0)
        before = sim.read32(Register.CYCLES)
        sim.step(1000)
        assert 1000 < sim.read32(Register.CYCLES) - before < 1100


@pytest.mark.parametrize(
    ("fault", "source", "message"),
    [
        (Fault.LONG_BURST, 0, "AR: burst longer than 16 beats, address 0x10000000, 17 beats"),
        (Fault.EARLY_LAST, 0, "W: WLAST before the last beat"),
        (Fault.DROP_VALID, 0, "AR: VALID dropped before READY"),
        (0, 4096 - 16, "AR: crosses 4 KiB, address 0x10000ff0"),
        (0, 2, "AR: address not aligned"),
        (0, -4096, "AR: outside of DRAM, address 0x0ffff000"),
    ],
)
def test_protocol_violations_are_raised(fault, source, message):
    with simulation(backpressure=0.5 if fault == Fault.DROP_VALID else 0.0) as sim:

        def run():
            start(sim, 10, source=source, fault=fault)
            sim.run_until_irq(100_000)

        with pytest.raises(native.ProtocolError, match=message):
            run()
        with pytest.raises(native.ProtocolError):
            sim.step()


def test_failing_assertion_is_raised():
    with simulation() as sim:
        with pytest.raises(AssertionError, match="assertion of the design failed in cycle"):
            start(sim, 10, fault=Fault.ASSERTION)
        with simulation() as other:
            other.step(100)


@pytest.mark.parametrize("way", ["hang_reads_from", "hang_writes_from"])
def test_memory_hangs_on_request(way):
    with simulation(faults=Faults(**{way: 600})) as sim:
        start(sim, 20)
        with pytest.raises(native.SimulationTimeout, match="no interrupt in 20000 cycles"):
            sim.run_until_irq(20_000)
        assert sim.counters().in_flight == 1
        sim.reset()
        sim.inject(Faults())
        data = start(sim, 5)
        sim.run_until_irq(20_000)
        assert np.array_equal(copied(sim, data.size), data)


def test_one_bit_flips_on_request():
    with simulation() as sim:
        address = sim.dram_base + 777
        sim.inject(Faults(flip_at=sim.cycle + 1, flip_address=address, flip_bit=5))
        data = start(sim, 20)
        sim.run_until_irq(100_000)
        changed = np.flatnonzero(copied(sim, data.size) != data)
        assert changed.tolist() == [777]
        assert copied(sim, data.size)[777] ^ data[777] == 1 << 5
        with pytest.raises(ValueError, match="outside of DRAM"):
            sim.inject(Faults(flip_at=0, flip_address=0))


def test_reset_in_the_middle_of_traffic():
    with simulation(backpressure=0.2) as sim:
        for cycles in range(100, 160, 7):
            start(sim, 10)
            sim.step(cycles)
            sim.reset()
        data = start(sim, 3)
        sim.run_until_irq(10_000)
        assert np.array_equal(copied(sim, data.size), data)


@pytest.mark.parametrize("config", [TINY, PYNQ_Z2], ids=lambda config: config.name)
def test_replay_of_a_recording(config):
    with simulation(config, record=True, backpressure=0.2) as sim:
        start(sim, 20)
        sim.run_until_irq(100_000)
        recording = sim.recording()
    result = native.replay(recording)
    assert result.cycles == recording.cycles
    assert result.khz > 100
    with pytest.raises(RuntimeError, match="ended otherwise"):
        native.replay(dataclasses.replace(recording, words=recording.words[:-40]))


def test_waves_of_a_window(tmp_path):
    path = tmp_path / "window.vcd"
    with simulation(waves=WaveWindow(path, start=100, stop=120)) as sim:
        start(sim, 2)
        sim.run_until_irq(10_000)
    text = path.read_text()
    times = [int(line[1:]) for line in text.splitlines() if line.startswith("#")]
    assert (times[0], times[-1]) == (200, 239)
    assert "m_axi_araddr" in text


@pytest.mark.parametrize(("scope", "found"), [("accelerator", True), ("elsewhere", False)])
def test_waves_of_a_scope(tmp_path, scope, found):
    path = tmp_path / "scope.vcd"
    with simulation(waves=WaveWindow(path, stop=50, scope=scope)) as sim:
        sim.step(50)
    assert (" left " in path.read_text()) == found


def test_several_simulations_live_together():
    with simulation(seed=1) as one, simulation(PYNQ_Z2, seed=2) as two:
        first, second = start(one, 5), start(two, 5)
        one.run_until_irq(10_000)
        two.run_until_irq(10_000)
        assert np.array_equal(copied(one, first.size), first)
        assert np.array_equal(copied(two, second.size), second)


def test_options_are_checked():
    with pytest.raises(ValueError, match="unknown memory 'fast', there is wide, default, board"):
        simulation(memory="fast")
    with pytest.raises(ValueError, match="backpressure=1"):
        simulation(backpressure=1)
    with pytest.raises(ValueError, match="built for another bus than pynq_z2"):
        NativeSimulation(PYNQ_Z2, library=library(TINY))
    with simulation() as sim, pytest.raises(RuntimeError, match="timeline=True"):
        sim.timeline()
