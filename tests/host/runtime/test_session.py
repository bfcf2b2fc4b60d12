"""Sessions: the same bits on every device, for every shape; what happens when something fails."""

import dataclasses
import itertools
import re
import sys

import numpy as np
import pytest
from graphs import SMALL as GRAPHS
from graphs import mlp, random_inputs

from transept.golden.config import PYNQ_Z2, TINY
from transept.host.backends import accelerator as module
from transept.host.devices import catalogue
from transept.host.devices.base import DeviceLostError
from transept.host.devices.emulator import EmulatorDevice
from transept.host.runtime.driver import Driver
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

#: Batch, length, and real lengths.
RUNS = [(1, 16, None), (1, 13, [13]), (2, 9, [9, 4]), (2, 8, [1, 8]), (1, 21, [19])]


@pytest.fixture(params=GRAPHS)
def graph(request):
    return GRAPHS[request.param]()


def region_of(graph, name="region"):
    return Region(name, graph, TINY)


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        assert found[name].dtype == rows.dtype
        assert np.array_equal(found[name], rows), name


def golden(graph, inputs, lengths=None):
    found = graph.evaluate(inputs, lengths)
    return {
        name: rows.astype(np.int8 if graph.values[name].bits == 8 else np.int16)
        for name, rows in found.items()
    }


# --- the same bits
@pytest.mark.parametrize("device", ["emulator", "cpu"])
def test_every_shape_gives_the_bits_of_the_golden_model(graph, device):
    region, session = region_of(graph), Session(TINY, device)
    for seed, (batch, length, real) in enumerate(RUNS):
        inputs = random_inputs(graph, batch, length, seed)
        lengths = None if real is None else {"rows": real}
        result = session.run(region, inputs, lengths)
        same(result.outputs, golden(graph, inputs, lengths))
        assert result.device == device
        assert (result.report is None) == (device == "cpu")
    assert not session.notes


def test_regions_take_turns_on_the_hardware():
    """Three regions and two shapes of each on one simulated accelerator, with stalls on its bus."""
    session = Session(TINY, "rtl", backpressure=0.2)
    regions = [region_of(GRAPHS[name](), name) for name in ("padded heads", "threshold", "gated")]
    for batch, length, real in ((2, 9, [9, 4]), (1, 14, [14])):
        for region in regions:
            inputs, lengths = random_inputs(region.graph, batch, length), {"rows": real}
            result = session.run(region, inputs, lengths)
            same(result.outputs, golden(region.graph, inputs, lengths))
            assert result.device == "rtl"
            assert result.report.cycles > result.report.array_cycles > 0
    assert not session.notes


def test_without_torch_the_golden_model_runs_on_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    graph = GRAPHS["pre-norm"]()
    inputs = random_inputs(graph, 2, 7)
    same(Session(TINY, "cpu").run(region_of(graph), inputs).outputs, golden(graph, inputs))


def test_regions_share_a_device():
    """Buffers of one are not those of another, and weights are copied once."""
    regions = [region_of(GRAPHS[name](), name) for name in ("padded heads", "pre-norm", "mlp")]
    session = Session(TINY, "emulator")
    for length in (5, 17, 6):
        for region in regions:
            inputs = random_inputs(region.graph, 1, length)
            same(session.run(region, inputs).outputs, golden(region.graph, inputs))
    loaded = session._backends["emulator"]._loaded
    assert len(loaded) == len(regions)
    places = sorted(
        (buffer.address, buffer.address + buffer.nbytes)
        for entry in loaded.values()
        for buffer in entry.windows.values()
    )
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))


def test_weights_are_copied_once(monkeypatch):
    loads = []
    load = Driver.load
    monkeypatch.setattr(
        Driver, "load", lambda self, region: (loads.append(1), load(self, region))[1]
    )
    region, session = region_of(GRAPHS["post-norm"]()), Session(TINY, "emulator")
    for length in (5, 20, 9):
        session.run(region, random_inputs(region.graph, 1, length))
    assert len(loads) == 1


# --- buckets
def test_the_cheapest_executable_that_holds_the_rows_runs():
    region, session = region_of(GRAPHS["post-norm"]()), Session(TINY, "emulator")
    for batch, length in ((1, 24), (1, 12), (2, 12)):
        region.executable(region.shape(batch, {"rows": length}))
    for batch, length, expected in ((1, 12, 12), (1, 7, 12), (1, 13, 24), (2, 3, 12)):
        found = region.bucket(region.shape(batch, {"rows": length}))
        assert (found.batch, found.lengths) == (batch, {"rows": expected})
        inputs = random_inputs(region.graph, batch, length)
        same(session.run(region, inputs).outputs, golden(region.graph, inputs))
    assert len(region.executables) == 3


@pytest.mark.parametrize(("length", "batch"), [(25, 1), (12, 3)])
def test_what_no_executable_holds_is_compiled(length, batch):
    region, session = region_of(GRAPHS["post-norm"]()), Session(TINY, "emulator")
    region.executable(region.shape(1, {"rows": 24}))
    session.run(region, random_inputs(region.graph, batch, length))
    assert region.shape(batch, {"rows": length}) in region.executables


def test_a_filter_that_looks_at_queries_gets_no_rows_in_their_blocks():
    """Rows of padding would count in the sums of the last block."""
    region = region_of(GRAPHS["threshold"]())
    region.executable(region.shape(1, {"rows": 16}))
    for length, bucket in ((16, 16), (15, 15), (12, 16), (5, 5)):
        shape = region.shape(1, {"rows": length})
        assert region.bucket(shape).lengths == {"rows": bucket}
        inputs = random_inputs(region.graph, 1, length)
        result = Session(TINY, "emulator").run(region, inputs)
        same(result.outputs, golden(region.graph, inputs))
        region.executables = {
            s: e for s, e in region.executables.items() if s.lengths["rows"] == 16
        }


# --- counters
def test_clipped_elements_are_told_by_operator():
    graph = GRAPHS["post-norm"]()
    region, session = region_of(graph), Session(TINY, "emulator")
    small = {name: rows // 1000 for name, rows in random_inputs(graph, 1, 8).items()}
    counts = session.run(region, small).report.tallies
    assert list(counts) == [op.name for op in graph.ops]
    assert sum(counts.values()) > 0


# --- memory
def test_a_device_is_opened_again_when_its_memory_is_too_small(monkeypatch):
    monkeypatch.setattr(module, "LEAST_DRAM", 4096)
    session = Session(TINY, "emulator")
    small, large = (region_of(mlp(1, [width, 16, width]), f"{width}") for width in (8, 100))
    drivers = []
    for region, length in ((small, 4), (large, 4), (large, 300), (small, 4)):
        inputs = random_inputs(region.graph, 1, length)
        result = session.run(region, inputs)
        same(result.outputs, golden(region.graph, inputs))
        assert result.device == "emulator"
        drivers.append(session._backends["emulator"]._driver)
    assert drivers[1] is not drivers[2]
    assert drivers[2] is drivers[3]


def test_a_given_size_stays():
    region = region_of(GRAPHS["post-norm"]())
    session = Session(TINY, "emulator", dram_bytes=1 << 14)
    inputs = random_inputs(region.graph, 1, 16)
    result = session.run(region, inputs)
    assert result.device == "cpu"
    same(result.outputs, golden(region.graph, inputs))
    driver = session._backends["emulator"]._driver
    assert session.run(region, inputs).device == "cpu"
    assert session._backends["emulator"]._driver is driver
    note, _ = session.notes
    assert re.fullmatch(r"region ran on cpu: buffer of \d+ bytes, device memory has \d+ left", note)


# --- faults
class Failing(EmulatorDevice):
    """Fails as often as it is told to."""

    failures = 0

    def _run(self):
        if Failing.failures:
            Failing.failures -= 1
            self.failure = "a scripted fault"
            self._set("STATUS", error=1)
            self._set("IRQ", error=1)
            return
        super()._run()


@pytest.fixture
def failing(monkeypatch):
    monkeypatch.setattr(module, "open_device", lambda name, config, **options: Failing(config))
    Failing.failures = 0
    return Failing


def test_a_fault_is_told_and_the_golden_model_does_the_work(failing):
    region, session = region_of(GRAPHS["post-norm"]()), Session(TINY, "emulator")
    inputs = random_inputs(region.graph, 1, 9)
    wanted = golden(region.graph, inputs)
    failing.failures = 1
    result = session.run(region, inputs)
    same(result.outputs, wanted)
    assert (result.device, result.report) == ("cpu", None)
    assert session.notes == ["region ran on cpu: emulator: a scripted fault"]
    driver = session._backends["emulator"]._driver
    result = session.run(region, inputs)
    same(result.outputs, wanted)
    assert result.device == "emulator"
    assert session._backends["emulator"]._driver is driver


def test_a_device_that_is_lost_is_opened_again(failing, monkeypatch):
    region, session = region_of(GRAPHS["post-norm"]()), Session(TINY, "emulator")
    inputs = random_inputs(region.graph, 1, 9)
    session.run(region, inputs)
    lost = session._backends["emulator"]._driver
    failing.failures = 1

    def reset(self):
        raise DeviceLostError("it does not answer")

    monkeypatch.setattr(Driver, "reset", reset)
    assert session.run(region, inputs).device == "cpu"
    assert session.notes == ["region ran on cpu: it does not answer"]
    result = session.run(region, inputs)
    same(result.outputs, golden(region.graph, inputs))
    assert result.device == "emulator"
    assert session._backends["emulator"]._driver is not lost


def test_what_no_cut_fits_runs_on_the_cpu():
    graph = mlp(1, [2000, 8, 1500])
    region, session = region_of(graph), Session(TINY, "emulator")
    inputs = random_inputs(graph, 1, 3)
    same(session.run(region, inputs).outputs, golden(graph, inputs))
    assert session.notes
    assert session.notes[0].startswith("region ran on cpu: ")


# --- refusals
def test_an_executable_is_verified_before_it_starts():
    region = region_of(GRAPHS["mlp"]())
    executable = region.executable(region.shape(1, {"rows": 5}))
    broken = bytes([99]) + executable.instructions[1:]
    region.add(dataclasses.replace(executable, instructions=broken))
    with pytest.raises(ProgramError, match="region of 1 x 5 rows: instruction 0: unknown opcode"):
        Session(TINY, "emulator").run(region, random_inputs(region.graph, 1, 5))


@pytest.mark.parametrize(
    ("device", "options", "message"),
    [
        ("npu", {}, "no device 'npu', there is rtl, emulator, gpu, cpu, golden"),
        ("cpu", {"seed": 1}, "device cpu has no option 'seed'"),
        ("emulator", {"memory": "board"}, "device emulator has no option 'memory', there are"),
        ("rtl", {"sed": 1}, "device rtl has no option 'sed', there are"),
    ],
)
def test_unknown_devices_and_options_are_refused(device, options, message):
    with pytest.raises(ValueError, match=message):
        Session(TINY, device, **options)


def test_the_catalogue_knows_accelerators_alone():
    with pytest.raises(ValueError, match="no accelerator 'cpu', there is rtl, emulator, pynq"):
        catalogue.open_device("cpu", TINY)


def test_a_region_of_another_configuration_is_refused():
    region = Region("region", GRAPHS["mlp"](), PYNQ_Z2)
    with pytest.raises(ProgramError, match=r"region is for pynq_z2 .*, the device is tiny"):
        Session(TINY, "emulator").run(region, random_inputs(region.graph, 1, 4))


ROWS = np.zeros((2, 5, 16), np.int16)


@pytest.mark.parametrize("device", ["emulator", "cpu"])
@pytest.mark.parametrize(
    ("inputs", "lengths", "message"),
    [
        ({}, None, "region: input v0 is missing"),
        ({"v0": ROWS, "x": ROWS}, None, "region has no input x"),
        ({"v0": ROWS.astype(np.float32)}, None, "input v0 is float32, must be int16"),
        ({"v0": ROWS.astype(np.int8)}, None, "input v0 is int8, must be int16"),
        ({"v0": ROWS[0]}, None, r"shape \[5, 16\], must be \[batch, length, 16\]"),
        ({"v0": ROWS[:, :, 1:]}, None, r"shape \[2, 5, 15\], must be \[batch, length, 16\]"),
        ({"v0": ROWS[:0]}, None, r"shape \[0, 5, 16\]"),
        (
            {"v0": ROWS + np.int16(-32768)},
            None,
            "v0 holds -32768, int16 operands are -32767 to 32767",
        ),
        ({"v0": np.zeros((1, 65, 16), np.int16)}, None, "65 rows of rows are outside 1 to 64"),
        ({"v0": ROWS}, {"rows": [5]}, "1 lengths of rows for 2 sequences"),
        ({"v0": ROWS}, {"rows": [5, 6]}, "sequence length 6 of rows is outside 1 to 5"),
        ({"v0": ROWS}, {"rows": [0, 5]}, "sequence length 0 of rows is outside 1 to 5"),
        ({"v0": ROWS}, {"keys": [5, 5]}, "region has no dimension keys"),
    ],
)
def test_inputs_and_lengths_are_checked(device, inputs, lengths, message):
    with pytest.raises(ProgramError, match=message):
        Session(TINY, device).run(region_of(GRAPHS["post-norm"]()), inputs, lengths)


def test_inputs_that_disagree():
    inputs = random_inputs(GRAPHS["mlp"](), 1, 4)
    inputs[list(inputs)[1]] = np.zeros((1, 5, 7), np.int16)
    with pytest.raises(ProgramError, match="is 1 x 5 rows, the others are 1 x 4"):
        Session(TINY, "cpu").run(region_of(GRAPHS["mlp"]()), inputs)


@pytest.mark.parametrize(
    ("batch", "lengths", "message"),
    [
        (0, {"rows": 1}, "batch 0 must be at least 1"),
        (1, {}, "dimension rows is missing"),
        (1, {"rows": 1, "more": 1}, "has no dimension more"),
        (1, {"rows": 0}, "0 rows of rows are outside 1 to 64"),
    ],
)
def test_shapes_are_checked(batch, lengths, message):
    with pytest.raises(ProgramError, match=message):
        region_of(GRAPHS["post-norm"]()).shape(batch, lengths)


def test_multiply_accumulates_of_a_shape():
    region = region_of(mlp(1, [10, 24, 7]))
    assert region.macs(region.shape(3, {"rows": 5})) == 15 * (10 * 24 + 2 * 24 * 7)
