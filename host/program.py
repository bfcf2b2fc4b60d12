"""Programs as users see them: a torch model of which the accelerator runs a part."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transept.golden import quantized
from transept.golden.config import Config, preset
from transept.host.devices.base import Device, DeviceError
from transept.host.driver import Driver, Loaded, RunReport
from transept.host.launch import Launch, ProgramError

if TYPE_CHECKING:
    import torch

    from transept.host.quantize import Ranges

__all__ = ["Execution", "Program", "compile", "load", "measure_ranges", "open_device"]

INT16 = 32767
DRAM_MARGIN = 1 << 20


def open_device(name: str, config: Config, launch: Launch, **options: Any) -> Device:
    """The device ``rtl`` or ``emulator``, with DRAM for ``launch``.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    sizes = (len(launch.instructions), launch.weights.size, launch.io_bytes, launch.scratch_bytes)
    dram_bytes = sum(-(-size // 4096) * 4096 for size in sizes) + DRAM_MARGIN
    if name == "rtl":
        from transept.host.devices.rtl import RtlDevice

        return RtlDevice(config, dram_bytes=dram_bytes, **options)
    if name == "emulator":
        from transept.host.devices.emulator import EmulatorDevice

        return EmulatorDevice(config, dram_bytes=dram_bytes, seed=options.get("seed", 1))
    raise ValueError(f"no accelerator {name!r}, there is rtl and emulator")


@dataclass(frozen=True)
class Execution:
    """What the accelerator's part of the last run took and gave.

    values, output: int16 rows; report: counters, None on the golden model; seconds: of wall time.
    """

    values: np.ndarray
    lengths: list[int] | None
    output: np.ndarray
    report: RunReport | None
    seconds: float


@dataclass
class Program:
    """A compiled model. ``last`` tells about its last run, ``notes`` what went wrong in it.

    launch: the accelerator's part; model: its quantised layers, and graph: the torch graph around
    it, both only where the program was compiled (a loaded program takes the values that enter the
    accelerator); fallback: (operator, reason) of what stays with torch.
    """

    launch: Launch
    model: quantized.Encoder | quantized.LinearChain | None = None
    graph: torch.fx.GraphModule | None = None
    fallback: tuple[tuple[str, str], ...] = ()
    last: Execution | None = None
    notes: list[str] = field(default_factory=list)
    _sessions: dict[str, tuple[Driver, Loaded]] = field(default_factory=dict, repr=False)

    @property
    def config(self) -> Config:
        """The configuration that the program was compiled for."""
        return self.launch.config

    def run(self, *inputs: torch.Tensor, device: str = "emulator", **options: Any) -> torch.Tensor:
        """Run the whole model on ``rtl``, ``emulator`` or ``cpu`` (the torch golden model).

        Every device gives the same bits. A device that fails is reset, and the golden model does
        the work instead; ``notes`` says so.

        Raises
        ------
        ValueError
            If an input has another shape or type than the example or holds NaN or infinity, or a
            mask is not ones, then zeros.
        """
        self.notes = []
        if self.graph is None:
            if not 1 <= len(inputs) <= 2:
                raise ProgramError(f"a loaded program takes values and a mask, got {len(inputs)}")
            return self._accelerate(*(*inputs, None)[:2], device, options)
        self._check_inputs(inputs)
        self.graph.accelerator.call = lambda x, mask: self._accelerate(x, mask, device, options)
        return self.graph(*inputs)

    def _check_inputs(self, inputs: Sequence[torch.Tensor]) -> None:
        """The exported graph would name its guard, not the input."""
        assert self.graph is not None
        nodes = [node for node in self.graph.graph.nodes if node.op == "placeholder"]
        if len(inputs) != len(nodes):
            raise ProgramError(f"the model takes {len(nodes)} inputs, got {len(inputs)}")
        for node, value in zip(nodes, inputs, strict=True):
            example = node.meta["val"]
            want = (tuple(example.shape), example.dtype)
            if (tuple(value.shape), value.dtype) != want:
                raise ProgramError(
                    f"input {node.target} is {value.dtype}{list(value.shape)}, "
                    f"the program takes {want[1]}{list(want[0])}"
                )

    def _accelerate(
        self, x: torch.Tensor, mask: torch.Tensor | None, device: str, options: dict
    ) -> torch.Tensor:
        import torch

        lengths = None if mask is None else mask_lengths(mask)
        values = self.quantise(x.detach().cpu().double().numpy())
        integers = self.run_integers(values, lengths, device=device, **options)
        scale = np.array(self.launch.output.scale)
        return torch.as_tensor((integers * scale).reshape(*x.shape[:-1], -1), dtype=x.dtype)

    def quantise(self, x: np.ndarray) -> np.ndarray:
        """Real values [..., width] to the int16 rows that enter the accelerator.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, or the shape does not fit.
        """
        tensor = self.launch.inputs[0]
        rows = x.reshape(-1, x.shape[-1] if x.ndim else 1)
        if rows.shape != (tensor.rows, tensor.width):
            raise ProgramError(
                f"input has shape {rows.shape}, the program takes {(tensor.rows, tensor.width)}"
            )
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            raise ProgramError(
                f"input holds {rows[row, column]} in row {row}, element {column}; "
                "only finite values can be quantised"
            )
        steps = np.rint(rows.astype(np.float64) / np.array(tensor.scale))
        return np.clip(steps, -INT16, INT16).astype(np.int16)

    def run_integers(
        self,
        values: np.ndarray,
        lengths: list[int] | None = None,
        *,
        device: str = "emulator",
        **options: Any,
    ) -> np.ndarray:
        """int16 rows in, int16 rows out, on a device; falls back to the golden model on a fault."""
        start = time.perf_counter()
        output, report = self._execute(values, lengths, device, options)
        seconds = time.perf_counter() - start
        self.last = Execution(values, lengths, output, report, seconds)
        return output

    def _execute(
        self, values: np.ndarray, lengths: list[int] | None, device: str, options: dict
    ) -> tuple[np.ndarray, RunReport | None]:
        if device == "cpu":
            return self.golden(values, lengths), None
        try:
            driver, loaded = self.session(device, **options)
            return driver.run(loaded, [values], lengths)
        except DeviceError as error:
            if self.model is None:
                raise
            self.notes.append(f"fell back to cpu: {error}")
            return self.golden(values, lengths), None

    def session(self, device: str, **options: Any) -> tuple[Driver, Loaded]:
        """The driver of an open device with this program loaded; devices stay open."""
        key = f"{device} {sorted(options.items(), key=str)}"
        if key not in self._sessions:
            driver = Driver(open_device(device, self.config, self.launch, **options))
            self._sessions[key] = driver, driver.load(self.launch)
        return self._sessions[key]

    def golden(self, values: np.ndarray, lengths: list[int] | None = None) -> np.ndarray:
        """The whole-tensor torch golden model on the same integers."""
        import torch

        from transept.golden.models import encoder

        x = torch.as_tensor(values)
        if isinstance(self.model, quantized.LinearChain):
            return encoder.linear_chain(self.model, x).numpy().astype(np.int16)
        if self.model is None:
            raise ProgramError("a loaded program has no golden model; compile the model instead")
        launch = self.launch
        shaped = x.view(launch.batch, launch.tokens, -1)
        lengths = lengths or [launch.tokens] * launch.batch
        output = encoder.encoder(self.model, shaped, lengths)
        return output.reshape(launch.output.rows, -1).numpy().astype(np.int16)

    def save(self, path: str | Path) -> None:
        """Write the accelerator's part to one file."""
        self.launch.save(path)


def load(path: str | Path) -> Program:
    """A program from a file. ``run`` takes the values that enter the accelerator.

    Raises
    ------
    ProgramError
        If the file is missing, corrupt, or for another contract version.
    """
    return Program(Launch.load(path))


def mask_lengths(mask: torch.Tensor) -> list[int]:
    """Real tokens of each sequence of an attention mask [batch, tokens].

    Raises
    ------
    ProgramError
        If padding is not at the end of a sequence.
    """
    lengths = []
    for index, row in enumerate(mask.bool().tolist()):
        length = sum(row)
        if not length or not all(row[:length]):
            found = "".join("01"[keep] for keep in row)
            raise ProgramError(
                f"attention mask of sequence {index} is {found}; "
                "masks must be ones, then zeros, with at least one 1"
            )
        lengths.append(length)
    return lengths


def compile(
    model: torch.nn.Module,
    example: Sequence[torch.Tensor],
    *,
    config: str | Config = "pynq_z2",
    calibration: Sequence[Sequence[torch.Tensor]] | Ranges | None = None,
) -> Program:
    """Compile a torch model for the shapes of ``example``.

    calibration: inputs of the example's shape whose ranges set the scales (the example alone by
    default), or ranges that ``measure_ranges`` found, so that programs of different shapes share
    their scales and give the same bits.

    Raises
    ------
    UnsupportedModelError
        If no part of the model can run on the accelerator.
    CompileError
        If a shape exceeds the accelerator.
    ValueError
        If weights or calibration inputs hold NaN or infinity.
    """
    import torch

    from transept.host import importer
    from transept.host.compile import CompileError, compile_chain, compile_encoder
    from transept.host.partition import calibrate, check_region, replace_region
    from transept.host.quantize import Ranges, quantize_chain, quantize_encoder

    config = preset(config) if isinstance(config, str) else config
    with torch.no_grad():
        imported = importer.import_model(model, tuple(example))
        shape = imported.entry.meta["val"].shape
        if 0 in shape:
            raise CompileError(f"{imported.entry} has shape {tuple(shape)}, there is nothing to do")
        check_region(imported, example)
        ranges = (
            calibration
            if isinstance(calibration, Ranges)
            else calibrate(imported, calibration or [example])
        )
        if isinstance(imported.layers, importer.graph.Encoder):
            quantised = quantize_encoder(
                imported.layers, ranges, max_tokens=config.geometry.max_tokens
            )
            launch = compile_encoder(config, quantised, tokens=shape[1], batch=shape[0])
        else:
            quantised = quantize_chain(imported.layers, ranges)
            launch = compile_chain(config, quantised, rows=int(np.prod(shape[:-1])))
    return Program(launch, quantised, replace_region(imported), imported.fallback)


def measure_ranges(model: torch.nn.Module, calibration: Sequence[Sequence[torch.Tensor]]) -> Ranges:
    """Ranges of every tensor of the model's accelerated region over inputs of one shape."""
    import torch

    from transept.host import importer
    from transept.host.partition import calibrate

    with torch.no_grad():
        return calibrate(importer.import_model(model, tuple(calibration[0])), calibration)
