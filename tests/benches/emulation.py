"""An executable on the golden emulator, without driver or device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from transept.golden.emulator import Emulator
from transept.golden.graph import Lengths
from transept.golden.isa import Window
from transept.host.compiler.executable import Executable
from transept.host.runtime.region import Region

__all__ = ["emulate"]

PAGE = 4096


def emulate(
    region: Region,
    executable: Executable,
    inputs: Mapping[str, np.ndarray],
    lengths: Lengths | None = None,
    order: np.random.Generator | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Outputs [batch, length, width]. order: of the engines, at random; seed: of what on-chip
    memories and DRAM hold at first, padding of the inputs excepted."""
    shape = executable.shape
    rng = np.random.default_rng(seed)
    parts = {
        Window.PROGRAM: np.frombuffer(
            executable.linked(shape.rows | dict(lengths or {})), np.uint8
        ),
        Window.WEIGHTS: region.weights,
        Window.IO: rng.integers(0, 128, executable.io_bytes).astype(np.uint8),
        Window.SCRATCH: rng.integers(0, 128, executable.scratch_bytes).astype(np.uint8),
    }
    windows, start = {}, 0
    for window, part in parts.items():
        windows[window] = (start, part.size)
        start += -(-part.size // PAGE) * PAGE
    dram = np.zeros(start, np.uint8)
    for window, part in parts.items():
        first, size = windows[window]
        dram[first : first + size] = part

    def view(name: str) -> np.ndarray:
        tensor = executable.tensors[name]
        first = windows[Window.IO][0] + tensor.offset
        elements = dram[first : first + tensor.nbytes].view(f"i{tensor.bits // 8}")
        return elements.reshape(
            shape.batch, -1, tensor.segments, elements.size // tensor.rows // tensor.segments
        )

    def real(name: str) -> np.ndarray:
        return view(name)[..., : executable.tensors[name].width]

    for name in region.graph.inputs:
        view(name)[:] = 0
        real(name)[:] = inputs[name].reshape(real(name).shape)
    Emulator(region.config, dram, windows, seed).run(order=order)
    return {
        name: np.array(real(name)).reshape(shape.batch, shape.lengths[value.dim], -1)
        for name, value in region.graph.values.items()
        if name in region.graph.outputs
    }
