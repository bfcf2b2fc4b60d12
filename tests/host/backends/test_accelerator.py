"""Accelerators as backends: memory that grows, rows that are padded, what is verified once."""

import numpy as np
import pytest
from graphs import mlp, random_inputs

from transept.golden.config import TINY
from transept.host.backends import accelerator as module
from transept.host.backends.accelerator import AcceleratorBackend, _bytes, _padded
from transept.host.devices.base import DeviceLostError, OutOfMemoryError
from transept.host.devices.emulator import EmulatorDevice
from transept.host.runtime.driver import Driver
from transept.host.runtime.region import Region


def region_of(*widths):
    return Region("region", mlp(1, widths), TINY)


def run(backend, region, rows, lengths=None):
    """What came out of random inputs, which has the golden bits."""
    inputs = random_inputs(region.graph, 1, rows)
    outcome = backend.run(region, region.shape(1, {"rows": rows}), inputs, lengths)
    for name, y in region.graph.evaluate(inputs, lengths).items():
        assert np.array_equal(outcome.outputs[name], y)
    return outcome


@pytest.fixture
def opened(monkeypatch):
    """Options of the devices that were opened."""
    found = []

    def open_device(name, config, **options):
        found.append((name, config.name, options))
        return EmulatorDevice(config, **options)

    monkeypatch.setattr(module, "open_device", open_device)
    return found


def test_a_device_has_twice_what_its_regions_need_and_not_too_little(opened, monkeypatch):
    assert (module.LEAST_DRAM, module.SPARE) == (16 << 20, 2)
    small, large = region_of(8, 16, 8), region_of(100, 16, 100)
    backend = AcceleratorBackend("emulator", TINY, seed=3)
    assert backend.opened is None
    run(backend, small, 4)
    assert opened == [("emulator", "tiny", {"dram_bytes": 16 << 20, "seed": 3})]
    assert backend.opened.name == "emulator"
    monkeypatch.setattr(module, "LEAST_DRAM", 4096)
    run(backend, large, 4)
    assert len(opened) == 1
    backend = AcceleratorBackend("emulator", TINY)
    for region, rows in ((small, 4), (large, 90), (small, 4)):
        run(backend, region, rows)
    first, second = 2 * _bytes(small), 2 * (_bytes(small) + _bytes(large))
    assert [options["dram_bytes"] for _, _, options in opened[1:]] == [first, second]


def test_bytes_of_a_region_are_those_of_its_largest_executables():
    region = region_of(100, 16, 100)
    shapes = [region.shape(1, {"rows": rows}) for rows in (40, 4)]
    found = [region.executable(shape) for shape in shapes]
    assert found[0].io_bytes > found[1].io_bytes
    parts = [region.weights.size] + [
        max(sizes)
        for sizes in zip(
            *((len(e.instructions), e.io_bytes, e.scratch_bytes) for e in found), strict=True
        )
    ]
    assert _bytes(region) == sum(parts) + 4 * 4096


def test_a_given_size_is_kept(opened):
    backend = AcceleratorBackend("emulator", TINY, dram_bytes=1 << 15)
    small, large = region_of(8, 8), region_of(120, 120)
    run(backend, small, 4)
    for _ in range(2):
        with pytest.raises(OutOfMemoryError):
            run(backend, large, 60)
    run(backend, small, 4)
    assert [options for _, _, options in opened] == [{"dram_bytes": 1 << 15}]


def test_a_device_that_is_lost_is_given_up(opened, monkeypatch):
    backend, region = AcceleratorBackend("emulator", TINY), region_of(8, 8)
    run(backend, region, 4)
    with monkeypatch.context() as patched:

        def lose(self, *args):
            raise DeviceLostError("gone")

        patched.setattr(Driver, "run", lose)
        with pytest.raises(DeviceLostError, match="gone"):
            run(backend, region, 4)
    assert backend.opened is None
    run(backend, region, 4)
    assert len(opened) == 2


def test_an_executable_is_verified_once(monkeypatch):
    seen, check = [], module.check_executable
    monkeypatch.setattr(
        module, "check_executable", lambda *args: (seen.append(args[1].shape.lengths), check(*args))
    )
    backend, region = AcceleratorBackend("emulator", TINY), region_of(8, 8)
    backend.prepare(region, region.shape(1, {"rows": 9}), None)
    for rows in (9, 5, 12):
        run(backend, region, rows)
    assert seen == [{"rows": 9}, {"rows": 12}]


def test_rows_of_a_larger_executable_are_padded_and_cut():
    backend, region = AcceleratorBackend("emulator", TINY), region_of(8, 8)
    executable = region.executable(region.shape(1, {"rows": 9}))
    outcome = run(backend, region, 5, {"rows": [3]})
    assert outcome.executable is executable
    assert {y.shape[1] for y in outcome.outputs.values()} == {5}
    assert outcome.report.instructions > 0
    rows = np.arange(12, dtype=np.int8).reshape(2, 2, 3)
    padded = _padded(rows, 3)
    assert padded.dtype == np.int8
    assert padded.tolist() == [[[0, 1, 2], [3, 4, 5], [0] * 3], [[6, 7, 8], [9, 10, 11], [0] * 3]]
    assert _padded(rows, 2) is rows
