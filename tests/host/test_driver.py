"""The driver on a scripted device: what it checks, what it says, and how it goes on."""

import numpy as np
import pytest
from small_models import quantised_chain, quantised_encoder

from transept.golden import registers
from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.isa import Engine, Window
from transept.golden.registers import ErrorCode, Stall, Unit
from transept.host.compile import compile_chain, compile_encoder
from transept.host.devices.base import Buffer, BumpAllocator, DeviceError, OutOfMemoryError
from transept.host.devices.emulator import DRAM_BASE, EmulatorDevice
from transept.host.driver import RESET_POLLS, Driver
from transept.host.gemm import compile_gemm, reference
from transept.host.launch import ProgramError

A = np.arange(-60, 60).reshape(10, 12).astype(np.int8)
B = np.arange(-72, 72).reshape(12, 12).astype(np.int8)


@pytest.fixture(scope="module")
def gemm():
    return compile_gemm(TINY, 10, 12, 12, B)


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


def run(device, gemm):
    driver = Driver(device)
    return driver.run(driver.load(gemm.launch), [A])


# --- identity
@pytest.mark.parametrize(
    ("register", "value", "message"),
    [
        ("ID", 0xDEADBEEF, "magic number is 0xdeadbeef, this driver needs 0x5452414e"),
        ("CONTRACT", 7, "contract version is 0x00000007, this driver needs 0x00000002"),
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
def test_caches_are_flushed_and_invalidated(gemm):
    driver = Driver(Cached(TINY))
    loaded = driver.load(gemm.launch)
    for a in (A, -A):
        assert (driver.run(loaded, [a])[0] == reference(a, B, gemm)).all()


def test_a_run_starts_without_the_interrupt_of_the_one_before(gemm):
    class Strict(EmulatorDevice):
        def _run(self):
            assert not self._values[registers.offset("IRQ")]
            super()._run()

    driver = Driver(Strict(TINY))
    loaded = driver.load(gemm.launch)
    for _ in range(2):
        driver.run(loaded, [A])


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
def test_failures_are_told_and_the_next_job_runs(gemm, name):
    step, message = FAILURES[name]
    device = Scripted(step)
    driver = Driver(device)
    loaded = driver.load(gemm.launch)
    with pytest.raises(DeviceError, match=message):
        driver.run(loaded, [A])
    assert device.resets == 1
    output, report = driver.run(loaded, [A])
    assert (output == reference(A, B, gemm)).all()
    assert report.instructions == len(gemm.launch.labels)


def test_the_timeout_is_in_the_message(gemm):
    driver = Driver(Scripted(None))
    with pytest.raises(DeviceError, match="no interrupt within 123 cycles"):
        driver.run(driver.load(gemm.launch), [A], timeout_cycles=123)


def test_a_reset_that_never_ends(gemm):
    device = Scripted(None)
    device.never_idle = True
    with pytest.raises(DeviceError, match="scripted: soft reset does not end, the bus does not"):
        run(device, gemm)
    assert device.resets == 1
    assert RESET_POLLS < 1 << 16


def test_the_emulators_own_words(gemm):
    """A program that leaves its window: the emulator names instruction, window and limit."""
    driver = Driver(EmulatorDevice(TINY))
    loaded = driver.load(gemm.launch)
    small = type(loaded.windows[Window.IO])(
        loaded.windows[Window.IO].address, np.zeros(8, np.uint8)
    )
    driver.place(loaded, [A])
    loaded.windows[Window.IO] = small
    driver.start(loaded)
    with pytest.raises(DeviceError, match=r"instruction \d+ \(LOAD\): window IO: .* limit 8"):
        driver._finish(1)


# --- inputs
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (A.astype(np.int16), "input is int16, the program takes int8"),
        (A.astype(np.float32), "input is float32, the program takes int8"),
        (A[:-1], r"input has shape \(9, 12\), the program takes \(10, 12\)"),
        (A.reshape(-1), r"input has shape \(120,\), the program takes \(10, 12\)"),
        (np.where(A == 3, -128, A).astype(np.int8), "holds -128; int8 operands are -127 to 127"),
    ],
)
def test_inputs_are_checked(gemm, value, message):
    driver = Driver(EmulatorDevice(TINY))
    loaded = driver.load(gemm.launch)
    with pytest.raises(ProgramError, match=message):
        driver.run(loaded, [value])
    output, _ = driver.run(loaded, [A])
    assert (output == reference(A, B, gemm)).all()


def test_int16_operands_are_symmetric():
    launch = compile_chain(TINY, quantised_chain([4, 4], [None]), rows=1)
    driver = Driver(EmulatorDevice(TINY))
    with pytest.raises(ProgramError, match="holds -32768; int16 operands are -32767 to 32767"):
        driver.run(driver.load(launch), [np.full((1, 4), -32768, np.int16)])


def test_the_number_of_inputs(gemm):
    driver = Driver(EmulatorDevice(TINY))
    loaded = driver.load(gemm.launch)
    with pytest.raises(ProgramError, match="program takes 1 inputs, got 2"):
        driver.run(loaded, [A, A])


@pytest.mark.parametrize("length", [0, 6])
def test_sequence_lengths(length):
    launch = compile_encoder(TINY, quantised_encoder(8, 2, 8, 1), tokens=5, batch=1)
    driver = Driver(EmulatorDevice(TINY))
    loaded = driver.load(launch)
    with pytest.raises(ProgramError, match=f"sequence length {length} is outside 1 to 5"):
        driver.run(loaded, [np.zeros((5, 8), np.int16)], [length])


# --- memory
def test_device_memory_that_is_too_small(gemm):
    with pytest.raises(OutOfMemoryError, match=r"buffer of \d+ bytes, device memory has 0 left"):
        Driver(EmulatorDevice(TINY, dram_bytes=4096)).load(gemm.launch)


def test_a_new_program_takes_the_place_of_the_old(gemm):
    driver = Driver(EmulatorDevice(TINY, dram_bytes=1 << 16))
    for _ in range(100):
        loaded = driver.load(gemm.launch)
    assert (driver.run(loaded, [A])[0] == reference(A, B, gemm)).all()


def test_buffers_are_zeroed_apart_and_aligned():
    memory = np.full(1 << 14, 7, np.uint8)
    allocator = BumpAllocator(memory, 0x1000)
    first, second = allocator.allocate(100), allocator.allocate(5000)
    assert (first.address, first.nbytes) == (0x1000, 100)
    assert (second.address, second.nbytes) == (0x2000, 5000)
    assert not first.array.any()
    with pytest.raises(OutOfMemoryError, match="buffer of 4097 bytes, device memory has 4096 left"):
        allocator.allocate(4097)
    allocator.release_all()
    assert allocator.allocate(1 << 14).address == 0x1000


def test_registers_that_are_not_there():
    device = EmulatorDevice(TINY)
    with pytest.raises(KeyError, match="there is no register at 0xffc"):
        device.read(0xFFC)
    with pytest.raises(KeyError, match="there is no writable register at 0x0"):
        device.write(0, 1)


def test_the_report_counts(gemm):
    _, report = run(EmulatorDevice(TINY), gemm)
    assert report.bytes_read > gemm.launch.weights.size
    assert report.bytes_written == gemm.launch.output.nbytes
    assert set(report.busy) == {engine.name for engine in Engine}
