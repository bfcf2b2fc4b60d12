"""The driver on a scripted device: what it checks, what it says, and how it goes on."""

import numpy as np
import pytest
from graphs import GraphBuilder, mlp, random_inputs

from transept.golden import registers
from transept.golden.config import CONTRACT_VERSION, PYNQ_Z2, TINY
from transept.golden.isa import Window
from transept.golden.registers import ErrorCode, Stall, Unit
from transept.host.devices.base import (
    Allocator,
    Buffer,
    DeviceError,
    OutOfMemoryError,
)
from transept.host.devices.emulator import DRAM_BASE, EmulatorDevice
from transept.host.runtime.driver import RESET_POLLS, Driver
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.region import Region

CONTRACT = f"{CONTRACT_VERSION:#010x}"
A = np.arange(-60, 60).reshape(1, 10, 12).astype(np.int8)


@pytest.fixture(scope="module")
def region():
    """One linear layer on int8, 12 to 10."""
    build = GraphBuilder(1)
    x = build.value(12, 8)
    return Region("linear", build.graph([x], [build.linear(x, 10, 8)]), TINY)


def executable_of(region, batch=1, rows=10):
    return region.executable(region.shape(batch, {"rows": rows}))


def right(region, outputs, a=A):
    wanted = region.graph.evaluate({"v0": a})["v1"]
    return outputs["v1"].dtype == np.int8 and np.array_equal(outputs["v1"], wanted)


class Scripted(EmulatorDevice):
    """An emulator whose next runs end as scripted: {register: fields} each, or None for a hang."""

    name = "scripted"

    def __init__(self, *script, config=TINY, **changes):
        super().__init__(config)
        self.script = list(script)
        self.resets = 0
        self.never_idle = False
        for register, value in changes.items():
            self._values[registers.offset(register)] = value

    def _run(self):
        if not self.script:
            return super()._run()
        self.failure = ""
        step = self.script.pop(0)
        for register, fields in (step or {}).items():
            self._set(register, **fields)
        self._set("IRQ", error=int(step is not None))
        return None

    def _reset(self):
        self.resets += 1
        super()._reset()
        self._set("WATCHDOG")
        if self.never_idle:
            self._set("STATUS", busy=1, resetting=1)


class Cached(EmulatorDevice):
    """The host has its own copy of every buffer, as behind a cache; ``flush`` and ``invalidate``
    are all that moves bytes between the two."""

    def _shared(self, buffer):
        start = buffer.address - DRAM_BASE
        return self._dram[start : start + buffer.nbytes]

    def allocate(self, nbytes):
        buffer = super().allocate(nbytes)
        return Buffer(buffer.address, buffer.array.copy())

    def flush(self, buffer):
        self._shared(buffer)[:] = buffer.array

    def invalidate(self, buffer):
        buffer.array[:] = self._shared(buffer)


def run(device, region):
    driver = Driver(device)
    return driver.run(driver.load(region), executable_of(region), {"v0": A})


# --- identity
@pytest.mark.parametrize(
    ("register", "value", "message"),
    [
        ("ID", 0xDEADBEEF, "magic number is 0xdeadbeef, this driver needs 0x5452414e"),
        ("CONTRACT", 7, f"contract version is 0x00000007, this driver needs {CONTRACT}"),
        (
            "CONFIG",
            PYNQ_Z2.digest,
            f"digest of tiny is {PYNQ_Z2.digest:#010x}, this driver needs {TINY.digest:#010x}",
        ),
    ],
)
def test_other_hardware_is_refused(register, value, message):
    with pytest.raises(DeviceError, match=f"scripted: {message}"):
        Driver(Scripted(**{register: value}))


# --- runs that succeed
def test_caches_are_flushed_and_invalidated(region):
    driver = Driver(Cached(TINY))
    loaded = driver.load(region)
    for a in (A, -A):
        outputs, _ = driver.run(loaded, executable_of(region), {"v0": a})
        assert right(region, outputs, a)


def test_a_run_starts_without_the_interrupt_of_the_one_before(region):
    class Strict(EmulatorDevice):
        def _run(self):
            assert not self._values[registers.offset("IRQ")]
            super()._run()

    driver = Driver(Strict(TINY))
    loaded = driver.load(region)
    for _ in range(2):
        driver.run(loaded, executable_of(region), {"v0": A})


def test_padding_is_zero_whatever_lay_there_before():
    """Rows of 10 elements are padded to whole words, whose row maxima would see the rest."""
    region = Region("mlp", mlp(1, [10, 24, 7]), TINY)
    driver = Driver(EmulatorDevice(TINY))
    loaded, executable = driver.load(region), executable_of(region)
    driver.fit(loaded, executable)
    loaded.windows[Window.IO].array[:] = 0x7F
    inputs = random_inputs(region.graph, 1, 10)
    outputs, _ = driver.run(loaded, executable, inputs)
    wanted = region.graph.evaluate(inputs)
    assert all(np.array_equal(outputs[name], wanted[name]) for name in wanted)


# --- runs that fail
FAILURES = {
    "window": (
        {
            "STATUS": {"error": 1},
            "ERROR": {"code": ErrorCode.WINDOW, "engine": Unit.STORE, "window": Window.IO},
            "ERROR_OFFSET": {"value": 0x1240},
        },
        "scripted: WINDOW in STORE, window IO, offset 0x1240",
    ),
    "operand": (
        {
            "STATUS": {"error": 1},
            "ERROR": {"code": ErrorCode.ILLEGAL_OPERAND, "engine": Unit.LOAD},
        },
        "scripted: ILLEGAL_OPERAND in LOAD",
    ),
    "instruction": (
        {
            "STATUS": {"error": 1},
            "ERROR": {"code": ErrorCode.ILLEGAL_INSTRUCTION, "engine": Unit.CONTROL},
        },
        "scripted: ILLEGAL_INSTRUCTION in CONTROL",
    ),
    "watchdog": (
        {
            "STATUS": {"error": 1},
            "WATCHDOG": {"fired": 1, "engine": Unit.VECTOR, "stall": Stall.TOKEN},
        },
        "scripted: watchdog: VECTOR made no progress, waiting for TOKEN",
    ),
    "garbage": (
        {"STATUS": {"error": 1}, "ERROR": {"code": 15, "engine": 7, "window": 3}},
        "scripted: 15 in 7, window SCRATCH",
    ),
    "not done": ({"STATUS": {"busy": 1}}, "scripted: the run ended, but is not done"),
    "hang": (None, "scripted: no interrupt within 200000000 cycles"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_told_and_the_next_job_runs(region, name):
    step, message = FAILURES[name]
    device = Scripted(step)
    driver = Driver(device)
    loaded = driver.load(region)
    with pytest.raises(DeviceError, match=message):
        driver.run(loaded, executable_of(region), {"v0": A})
    assert device.resets == 1
    outputs, report = driver.run(loaded, executable_of(region), {"v0": A})
    assert right(region, outputs)
    assert report.instructions == len(executable_of(region).labels)


def test_the_timeout_is_in_the_message(region):
    driver = Driver(Scripted(None))
    with pytest.raises(DeviceError, match="no interrupt within 123 cycles"):
        driver.run(driver.load(region), executable_of(region), {"v0": A}, timeout_cycles=123)


def test_a_reset_that_never_ends(region):
    device = Scripted(None)
    device.never_idle = True
    with pytest.raises(DeviceError, match="scripted: soft reset does not end, the bus does not"):
        run(device, region)
    assert device.resets == 1
    assert RESET_POLLS < 1 << 16


def test_the_emulators_own_words(region):
    """A program that leaves its window: the emulator names instruction, window and limit."""
    driver = Driver(EmulatorDevice(TINY))
    loaded, executable = driver.load(region), executable_of(region)
    driver.place(loaded, executable, {"v0": A})
    io = loaded.windows[Window.IO]
    small = {**loaded.windows, Window.IO: Buffer(io.address, io.array[:8])}
    with pytest.raises(DeviceError, match=r"instruction \d+ \(LOAD\): window IO: .* limit 8"):
        driver.execute(small, executable.tallies)


# --- inputs
def test_inputs_are_those_of_the_executable(region):
    driver = Driver(EmulatorDevice(TINY))
    loaded = driver.load(region)
    with pytest.raises(ProgramError, match="input v0 is int16, must be int8"):
        driver.run(loaded, executable_of(region), {"v0": A.astype(np.int16)})
    with pytest.raises(ProgramError, match="inputs are 1 x 9 rows, the executable takes 1 x 10"):
        driver.run(loaded, executable_of(region), {"v0": A[:, :9]})
    assert right(region, driver.run(loaded, executable_of(region), {"v0": A})[0])


def test_a_region_of_another_configuration(region):
    other = Region("other", region.graph, PYNQ_Z2)
    with pytest.raises(ProgramError, match=r"other is for pynq_z2 \(.*\), the device is tiny \("):
        Driver(EmulatorDevice(TINY)).load(other)


# --- memory
def test_device_memory_that_is_too_small(region):
    with pytest.raises(OutOfMemoryError, match=r"buffer of \d+ bytes, device memory has \d+ left"):
        run(EmulatorDevice(TINY, dram_bytes=4096), region)


def test_buffers_grow_to_the_largest_executable_and_no_further():
    """What was too small is given back, so that memory does not run out."""
    region = Region("mlp", mlp(1, [8, 16, 8]), TINY)
    driver = Driver(EmulatorDevice(TINY, dram_bytes=1 << 18))
    loaded = driver.load(region)
    sizes = []
    for rows in (4, 40, 4, 40, 90):
        executable = executable_of(region, rows=rows)
        driver.run(loaded, executable, random_inputs(region.graph, 1, rows))
        sizes.append(loaded.windows[Window.IO].nbytes)
        assert sizes[-1] >= executable.io_bytes
    assert sizes[0] < sizes[1] == sizes[2] == sizes[3] < sizes[4]
    assert len(driver.device._taken) == len(Window)


def test_buffers_are_zeroed_apart_and_aligned():
    memory = np.full(1 << 14, 7, np.uint8)
    allocator = Allocator(memory, 0x1000)
    first, second = allocator.allocate(100), allocator.allocate(5000)
    assert (first.address, first.nbytes) == (0x1000, 100)
    assert (second.address, second.nbytes) == (0x2000, 5000)
    assert not first.array.any()
    with pytest.raises(OutOfMemoryError, match="buffer of 4097 bytes, device memory has 4096 left"):
        allocator.allocate(4097)
    allocator.release_all()
    assert allocator.allocate(1 << 14).address == 0x1000


def test_what_was_released_is_handed_out_again():
    allocator = Allocator(np.zeros(1 << 14, np.uint8), 0)
    first, second, third = (allocator.allocate(4096) for _ in range(3))
    allocator.release(second)
    assert allocator.allocate(5000 - 904).address == second.address
    allocator.release(first)
    assert allocator.allocate(4097 - 1).address == first.address
    allocator.release(third)
    assert allocator.allocate(8192).address == third.address


def test_registers_that_are_not_there():
    device = EmulatorDevice(TINY)
    with pytest.raises(KeyError, match="there is no register at 0xffc"):
        device.read(0xFFC)
    with pytest.raises(KeyError, match="there is no writable register at 0x0"):
        device.write(0, 1)
