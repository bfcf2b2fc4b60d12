"""The Verilated accelerator with DRAM and registers, without Python in any cycle."""

from __future__ import annotations

import ctypes
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from transept.golden.config import Config
from transept.sim import build

__all__ = [
    "MEMORIES",
    "BusError",
    "Faults",
    "MemoryCounters",
    "MemoryProfile",
    "NativeSimulation",
    "ProtocolError",
    "Recording",
    "Replay",
    "SimulationTimeout",
    "WaveWindow",
    "replay",
]

NEVER = (1 << 64) - 1
RESET_CYCLES = 4
REGISTER_TIMEOUT_CYCLES = 10_000
#: Cycles between two looks at the keyboard (Ctrl-C).
CHUNK_CYCLES = 100_000

_LIMIT, _INTERRUPT, _VIOLATION, _TIMEOUT, _ASSERTION = range(5)


class ProtocolError(RuntimeError):
    """The accelerator broke the AXI4 protocol or left DRAM; the message has cycle and channel."""


class BusError(RuntimeError):
    """A register access was answered with an error."""


class SimulationTimeout(TimeoutError):  # noqa: N818
    """What was waited for did not come in the cycles allowed."""


@dataclass(frozen=True)
class MemoryProfile:
    """Timing of DRAM.

    Reads and writes together move at most ``bytes_per_cycle``, each at most a beat a cycle. The
    first beat of a burst comes ``read_latency_cycles`` after its address, plus up to
    ``read_jitter_cycles`` drawn for each burst; a write is confirmed ``write_latency_cycles``
    after its last beat. Each way has at most ``outstanding`` bursts in flight.
    """

    bytes_per_cycle: float
    read_latency_cycles: int = 32
    read_jitter_cycles: int = 15
    write_latency_cycles: int = 16
    outstanding: int = 8


#: ``wide``: 80 % of a 256-bit bus. ``default``: of a 128-bit bus. ``board``: of one 64-bit port
#: of a Zynq-7000.
MEMORIES = {
    "wide": MemoryProfile(bytes_per_cycle=25.6),
    "default": MemoryProfile(bytes_per_cycle=12.8),
    "board": MemoryProfile(bytes_per_cycle=6.4),
}


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Failures of memory, each from a cycle on (None: never).

    ``flip`` inverts, once, bit ``flip_bit`` (0 to 7) of the byte at DRAM address ``flip_address``.
    """

    hang_reads_from: int | None = None
    hang_writes_from: int | None = None
    error_reads_from: int | None = None
    error_writes_from: int | None = None
    flip_at: int | None = None
    flip_address: int = 0
    flip_bit: int = 0


@dataclass(frozen=True)
class WaveWindow:
    """Write a VCD of the cycles ``start <= cycle < stop`` to ``path``.

    ``scope`` names an instance below which signals are kept, e.g. ``"accelerator.core.gemm"``.
    """

    path: Path
    start: int = 0
    stop: int = NEVER
    scope: str = ""


@dataclass(frozen=True)
class MemoryCounters:
    """What memory has done since the start."""

    read_bytes: int
    write_bytes: int
    read_bursts: int
    write_bursts: int
    in_flight: int  # bursts not finished yet


@dataclass(frozen=True)
class Recording:
    """All inputs of a run, from the first cycle, and how it ended."""

    model: Path  # the shared library that ran
    seed: int
    cycles: int
    irq: bool
    words: np.ndarray  # uint32


@dataclass(frozen=True)
class Replay:
    """Speed of the bare model."""

    seconds: float
    cycles: int

    @property
    def khz(self) -> float:
        """Thousands of cycles in a second."""
        return self.cycles / self.seconds / 1e3


class _MemoryOptions(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("base", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("rate_tenths", ctypes.c_uint32),
        ("read_latency", ctypes.c_uint32),
        ("read_jitter", ctypes.c_uint32),
        ("write_latency", ctypes.c_uint32),
        ("outstanding", ctypes.c_uint32),
        ("stall", ctypes.c_uint32),
    ]


class _HarnessOptions(ctypes.Structure):
    _fields_ = [
        ("memory", _MemoryOptions),
        ("timeline", ctypes.c_uint32),
        ("record", ctypes.c_uint32),
        ("waves_path", ctypes.c_char_p),
        ("waves_scope", ctypes.c_char_p),
        ("waves_start", ctypes.c_uint64),
        ("waves_stop", ctypes.c_uint64),
    ]


class _Faults(ctypes.Structure):
    _fields_ = [
        ("hang_reads", ctypes.c_uint64),
        ("hang_writes", ctypes.c_uint64),
        ("error_reads", ctypes.c_uint64),
        ("error_writes", ctypes.c_uint64),
        ("flip", ctypes.c_uint64),
        ("flip_address", ctypes.c_uint64),
        ("flip_bit", ctypes.c_uint32),
    ]


class _Counters(ctypes.Structure):
    _fields_ = [(field.name, ctypes.c_uint64) for field in dataclasses.fields(MemoryCounters)]


_HANDLE = ctypes.c_void_p
_U64 = ctypes.c_uint64
_INT = ctypes.c_int
_WORDS = ctypes.POINTER(ctypes.c_uint32)
_SIGNATURES = {
    "transept_bus_bytes": (ctypes.c_uint, []),
    "transept_create": (_HANDLE, [ctypes.POINTER(_HarnessOptions)]),
    "transept_destroy": (None, [_HANDLE]),
    "transept_reset": (None, [_HANDLE, _U64]),
    "transept_run": (_INT, [_HANDLE, _U64, _INT]),
    "transept_write": (_INT, [_HANDLE, ctypes.c_uint32, ctypes.c_uint32, _U64]),
    "transept_read": (_INT, [_HANDLE, ctypes.c_uint32, _U64]),
    "transept_lite_data": (ctypes.c_uint32, [_HANDLE]),
    "transept_lite_response": (ctypes.c_uint, [_HANDLE]),
    "transept_cycle": (_U64, [_HANDLE]),
    "transept_irq": (_INT, [_HANDLE]),
    "transept_faults": (None, [_HANDLE, ctypes.POINTER(_Faults)]),
    "transept_counters": (None, [_HANDLE, ctypes.POINTER(_Counters)]),
    "transept_violation": (ctypes.c_char_p, [_HANDLE]),
    "transept_timeline": (_U64, [_HANDLE, ctypes.POINTER(ctypes.POINTER(_U64))]),
    "transept_recording": (_U64, [_HANDLE, ctypes.POINTER(_WORDS)]),
    "transept_replay": (
        ctypes.c_double,
        [_WORDS, _U64, _U64, ctypes.POINTER(_U64), ctypes.POINTER(_INT)],
    ),
}


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _copy(pointer: object, count: int, dtype: type[np.generic]) -> np.ndarray:
    """A copy of memory that the harness may move."""
    if not count:
        return np.empty(0, dtype)
    return np.ctypeslib.as_array(pointer, (count,)).copy()


class NativeSimulation:
    """One accelerator, clocked by C++, with its DRAM and its registers.

    Parameters
    ----------
    config : the accelerator
    memory : a name in MEMORIES, or a profile
    seed : of everything random: latencies, back-pressure, initial contents of on-chip memories
    dram_bytes, dram_base : size and first address of DRAM
    backpressure : probability that a channel is refused or held back for a cycle
    faults : failures of memory
    timeline : record ``activity`` for ``transept.sim.timeline``
    record : keep all inputs for ``replay``
    waves : write a waveform (uses a second, slower library)
    library : the shared library; built from the configuration if absent

    The simulation is reset when it is made; ``dram`` is DRAM as a uint8 array, zero at first.
    """

    def __init__(
        self,
        config: Config,
        memory: str | MemoryProfile = "default",
        *,
        seed: int = 1,
        dram_bytes: int = 64 << 20,
        dram_base: int = 0x1000_0000,
        backpressure: float = 0.0,
        faults: Faults | None = None,
        timeline: bool = False,
        record: bool = False,
        waves: WaveWindow | None = None,
        library: Path | None = None,
    ) -> None:
        if not 0 <= backpressure < 1:
            raise ValueError(f"backpressure={backpressure} must be a probability below 1")
        if dram_base % 4096 or dram_base + dram_bytes > 1 << 32:
            raise ValueError("DRAM must start on a 4 KiB page and end within 32-bit addresses")
        if isinstance(memory, str):
            if memory not in MEMORIES:
                raise ValueError(f"unknown memory {memory!r}, there is {', '.join(MEMORIES)}")
            memory = MEMORIES[memory]
        self._handle = None
        self.config, self.seed, self.dram_base = config, seed, dram_base
        self.dram = np.zeros(dram_bytes, np.uint8)
        #: Whether ``timeline`` has something to tell.
        self.keeps_timeline, self._record = timeline, record
        self._path = library or build.accelerator_library(config, trace=waves is not None)
        self._lib = _load(self._path)
        if self._lib.transept_bus_bytes() != config.axi_bytes:
            raise ValueError(f"{self._path} was built for another bus than {config.name}")
        options = _HarnessOptions(
            memory=self._memory_options(memory, backpressure),
            timeline=timeline,
            record=record,
            waves_path=str(waves.path).encode() if waves else None,
            waves_scope=f"TOP.{waves.scope}".encode() if waves and waves.scope else b"",
            waves_start=waves.start if waves else 0,
            waves_stop=waves.stop if waves else 0,
        )
        self._handle = self._lib.transept_create(ctypes.byref(options))
        if faults:
            self.inject(faults)
        self.reset()

    def _memory_options(self, profile: MemoryProfile, backpressure: float) -> _MemoryOptions:
        # more than one beat a cycle each way is out of reach, and tokens must not pile up
        rate = min(self.config.axi_bytes, profile.bytes_per_cycle)
        return _MemoryOptions(
            data=self.dram.ctypes.data,
            base=self.dram_base,
            bytes=self.dram.size,
            seed=self.seed,
            rate_tenths=round(10 * rate),
            read_latency=profile.read_latency_cycles,
            read_jitter=profile.read_jitter_cycles,
            write_latency=profile.write_latency_cycles,
            outstanding=profile.outstanding,
            stall=round(65536 * backpressure),
        )

    def close(self) -> None:
        """End the simulation and finish its waveform; ``dram`` stays."""
        if self._handle is not None:
            self._lib.transept_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> NativeSimulation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    @property
    def cycle(self) -> int:
        """Cycles simulated so far."""
        return self._lib.transept_cycle(self._handle)

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return bool(self._lib.transept_irq(self._handle))

    def reset(self, cycles: int = RESET_CYCLES) -> None:
        """Hold reset, also in the middle of traffic; memory forgets what it has not answered."""
        self._lib.transept_reset(self._handle, cycles)

    def inject(self, faults: Faults) -> None:
        """Replace the failures of memory."""
        end = self.dram_base + self.dram.size
        if faults.flip_at is not None and not self.dram_base <= faults.flip_address < end:
            raise ValueError(f"address {faults.flip_address:#x} is outside of DRAM")
        times = ("hang_reads_from", "hang_writes_from", "error_reads_from", "error_writes_from")
        cycles = [getattr(faults, name) for name in (*times, "flip_at")]
        packed = [NEVER if cycle is None else cycle for cycle in cycles]
        raw = _Faults(*packed, faults.flip_address, faults.flip_bit)
        self._lib.transept_faults(self._handle, ctypes.byref(raw))

    def read32(self, address: int) -> int:
        """Read a register, over AXI4-Lite; takes cycles.

        Raises
        ------
        BusError, SimulationTimeout, ProtocolError
            If the answer is an error, does not come, or memory saw a violation meanwhile.
        """
        status = self._lib.transept_read(self._handle, address, REGISTER_TIMEOUT_CYCLES)
        self._check_register(status, f"read of register {address:#05x}")
        return self._lib.transept_lite_data(self._handle)

    def write32(self, address: int, value: int) -> None:
        """Write a register, over AXI4-Lite; takes cycles. Raises as ``read32``."""
        status = self._lib.transept_write(self._handle, address, value, REGISTER_TIMEOUT_CYCLES)
        self._check_register(status, f"write of register {address:#05x}")

    def _check_register(self, status: int, what: str) -> None:
        self._check(status)
        if status == _TIMEOUT:
            raise SimulationTimeout(f"{what}: no answer in {REGISTER_TIMEOUT_CYCLES} cycles")
        if response := self._lib.transept_lite_response(self._handle):
            raise BusError(f"{what}: response {response}")

    def _check(self, status: int) -> None:
        if status == _VIOLATION:
            raise ProtocolError(self._lib.transept_violation(self._handle).decode())
        if status == _ASSERTION:
            raise AssertionError(f"an assertion of the design failed in cycle {self.cycle - 1}")

    def step(self, cycles: int = 1) -> None:
        """Run some cycles.

        Raises
        ------
        ProtocolError
            As soon as the accelerator breaks the protocol of its memory port.
        AssertionError
            As soon as an assertion in the design fails.
        """
        self._run(cycles, until_irq=False)

    def run_until_irq(self, max_cycles: int) -> int:
        """Run until the interrupt is high; returns the cycles it took.

        Raises
        ------
        SimulationTimeout
            If it does not come in ``max_cycles``.
        ProtocolError, AssertionError
            As ``step``.
        """
        start = self.cycle
        if self._run(max_cycles, until_irq=True) != _INTERRUPT:
            raise SimulationTimeout(f"no interrupt in {max_cycles} cycles")
        return self.cycle - start

    def _run(self, cycles: int, *, until_irq: bool) -> int:
        status = _LIMIT
        for done in range(0, cycles, CHUNK_CYCLES):
            chunk = min(CHUNK_CYCLES, cycles - done)
            status = self._lib.transept_run(self._handle, chunk, until_irq)
            self._check(status)
            if until_irq and status == _INTERRUPT:
                break
        return status

    def counters(self) -> MemoryCounters:
        """What memory has done since the start."""
        raw = _Counters()
        self._lib.transept_counters(self._handle, ctypes.byref(raw))
        return MemoryCounters(**{name: getattr(raw, name) for name, *_ in raw._fields_})

    def timeline(self) -> np.ndarray:
        """Changes of ``activity``: uint64 rows of (cycle, value), the first at cycle 0."""
        if not self.keeps_timeline:
            raise RuntimeError("make the simulation with timeline=True")
        pointer = ctypes.POINTER(_U64)()
        count = self._lib.transept_timeline(self._handle, ctypes.byref(pointer))
        return _copy(pointer, 2 * count, np.uint64).reshape(count, 2)

    def recording(self) -> Recording:
        """All inputs so far, to be replayed."""
        if not self._record:
            raise RuntimeError("make the simulation with record=True")
        pointer = _WORDS()
        count = self._lib.transept_recording(self._handle, ctypes.byref(pointer))
        words = _copy(pointer, count, np.uint32)
        return Recording(self._path, self.seed, self.cycle, self.irq, words)


def replay(recording: Recording) -> Replay:
    """Run the recorded inputs through the bare model: no memory, no handshakes, no Python.

    Raises
    ------
    RuntimeError
        If the run ends otherwise than the recorded one.
    """
    library = _load(recording.model)
    cycles, irq = _U64(), _INT()
    seconds = library.transept_replay(
        recording.words.ctypes.data_as(_WORDS),
        recording.words.size,
        recording.seed,
        ctypes.byref(cycles),
        ctypes.byref(irq),
    )
    if (cycles.value, bool(irq.value)) != (recording.cycles, recording.irq):
        raise RuntimeError("the replay ended otherwise than the recorded run")
    return Replay(seconds, cycles.value)
