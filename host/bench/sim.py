"""``bench sim``: the same RTL and the same program in three simulations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transept.golden import registers
from transept.golden.config import Config
from transept.golden.graph import Lengths
from transept.golden.isa import Window
from transept.host.bench.product import gemm, reference
from transept.host.devices.base import Allocator
from transept.host.devices.rtl import RtlDevice
from transept.host.runtime.driver import Driver, read_rows
from transept.host.runtime.region import Region

if TYPE_CHECKING:
    from transept.sim.native import Recording

__all__ = ["bench_sim", "run_in_cocotb"]

SIZE = 256
ROUNDS = 5
#: Runs of the fast simulations in a round, so that it watches all three for about as long.
RUNS = 8
DRAM_BYTES = 4 << 20


class _Timed(RtlDevice):
    """Keeps the seconds that the clock ran."""

    seconds = 0.0

    def wait(self, timeout_cycles: int) -> bool:
        start = time.perf_counter()
        done = super().wait(timeout_cycles)
        self.seconds = time.perf_counter() - start
        return done


def _operands(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-127, 128, (2, size, size)).astype(np.int8)
    return a, b


class _Bench:
    """One GEMM program and the three simulations that run it."""

    def __init__(self, config: Config, memory: str, seed: int) -> None:
        self._a, self._b = _operands(SIZE, seed)
        self._seed = seed
        self._gemm = gemm(config, SIZE, self._b)
        options: dict[str, Any] = {"memory": memory, "seed": seed, "dram_bytes": DRAM_BYTES}
        self._device = _Timed(config, **options)
        self._driver = Driver(self._device)
        self._loaded = self._driver.load(self._gemm.region)
        self._recording = self._record(RtlDevice(config, **options, record=True))

    def _record(self, device: RtlDevice) -> Recording:
        driver = Driver(device)
        driver.run(driver.load(self._gemm.region), self._gemm.executable, {"a": self._a[None]})
        return device.simulation.recording()

    def native(self) -> float:
        """kHz of the native harness."""
        cycles, seconds = 0, 0.0
        for _ in range(RUNS):
            inputs = {"a": self._a[None]}
            _, report = self._driver.run(self._loaded, self._gemm.executable, inputs)
            cycles, seconds = cycles + report.cycles, seconds + self._device.seconds
        return cycles / seconds / 1000

    def ceiling(self) -> float:
        """kHz of the bare model on the recorded inputs."""
        from transept.sim.native import replay

        replays = [replay(self._recording) for _ in range(RUNS)]
        return RUNS / sum(1 / found.khz for found in replays)

    def cocotb(self) -> float:
        """kHz under cocotb; RuntimeError if the result is not the NumPy product."""
        found = run_in_cocotb(self._gemm.region, {"a": self._a[None]}, seed=self._seed)
        if not (found["outputs"]["c"][0] == reference(self._a, self._b, self._gemm)).all():
            raise RuntimeError("the run under cocotb gave another result than NumPy")
        return found["cycles"] / found["seconds"] / 1000


def run_in_cocotb(
    region: Region,
    inputs: Mapping[str, np.ndarray],
    lengths: Lengths | None = None,
    *,
    backpressure: float = 0.0,
    seed: int = 1,
    waves: Path | None = None,
) -> dict:
    """A region through cocotbext-axi: outputs [batch, length, width], cycles and seconds.

    backpressure: probability that a channel of either bus withholds a cycle.

    Raises
    ------
    AssertionError
        If the run ends in an error or not at all.
    """
    from transept.sim.build import FAST, accelerator_verilog
    from transept.sim.cocotb_runner import run_bench

    config, executable = region.config, region.executable(region.check(inputs, lengths))
    recorder = _Recorder(config)
    driver = Driver(recorder)
    loaded = driver.load(region)
    driver.place(loaded, executable, inputs, lengths)
    driver.start(loaded.windows)
    with tempfile.TemporaryDirectory() as folder:
        image, result = Path(folder) / "image.npy", Path(folder) / "result.npz"
        np.save(image, recorder.dram)
        facts = {
            "image": str(image),
            "result": str(result),
            "registers": recorder.writes,
            "backpressure": backpressure,
            "seed": seed,
        }
        verilog, bench = accelerator_verilog(config), "transept.sim.program_bench"
        run_bench(verilog, "accelerator", bench, facts, seed=seed, waves=waves, speed=FAST)
        found = np.load(result)
        window = found["dram"][loaded.windows[Window.IO].address :]
        return {
            "outputs": {
                name: read_rows(window, executable.tensors[name], executable.shape.batch)
                for name in region.graph.outputs
            },
            "cycles": float(found["cycles"]),
            "seconds": float(found["seconds"]),
        }


class _Recorder(Allocator):
    """A device that only keeps what the driver writes: memory at address 0, and registers."""

    name = "recorder"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dram = np.zeros(DRAM_BYTES, np.uint8)
        self.writes: list[tuple[int, int]] = []
        super().__init__(self.dram, 0)
        self._constants = {r.offset: r.constant or 0 for r in registers.table(config)}

    def read(self, offset: int) -> int:
        """A constant register."""
        return self._constants[offset]

    def write(self, offset: int, value: int) -> None:
        """Remember a write."""
        self.writes.append((offset, int(value)))

    def wait(self, timeout_cycles: int) -> bool:
        """It never runs."""
        return False


def bench_sim(config: Config, *, memory: str, seed: int) -> dict:
    """kHz of the native harness, of the bare model replaying the same inputs, and of cocotb.

    Each is the best of ROUNDS rounds, in which the three take turns: whatever else the machine
    does slows them alike.

    Raises
    ------
    RuntimeError
        If cocotb's result differs from the NumPy product.
    """
    bench = _Bench(config, memory, seed)
    rounds = [(bench.native(), bench.ceiling(), bench.cocotb()) for _ in range(ROUNDS)]
    native, ceiling, cocotb = (max(khz) for khz in zip(*rounds, strict=True))
    return {
        "native_khz": native,
        "ceiling_khz": ceiling,
        "cocotb_khz": cocotb,
        "native_to_ceiling": native / ceiling,
        "native_to_cocotb": native / cocotb,
        "gemm": f"{SIZE}x{SIZE}x{SIZE}",
    }
