"""A graph compiled for one shape: instructions, and what a driver must know to run them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transept.golden import isa
from transept.golden.graph import Lengths
from transept.golden.isa import Window
from transept.host.compiler.cut import Cut, Shape
from transept.host.compiler.link import Patch, link
from transept.host.compiler.tensors import Tensor, window_bytes

__all__ = ["Executable"]


@dataclass(frozen=True, eq=False)
class Executable:
    """One launch of the accelerator.

    instructions: encoded, END included; patches: what changes in them from run to run; labels: the
    operator of each instruction; tallies: the counter of every operator's clipped elements;
    tensors: values in DRAM; predicted_cycles: as the scheduler sees them, start and end of the
    launch included.
    """

    shape: Shape
    cut: Cut
    instructions: bytes
    patches: tuple[Patch, ...]
    labels: tuple[str, ...]
    tallies: Mapping[str, int]
    tensors: Mapping[str, Tensor]
    predicted_cycles: int

    def decoded(self) -> list[isa.Instruction]:
        """The instructions."""
        return isa.decode_program(self.instructions)

    def linked(self, lengths: Lengths) -> bytes:
        """The instructions for sequences of these lengths.

        Raises
        ------
        ValueError
            If the number of sequences or a length does not fit the shape.
        """
        for name, limit in self.shape.lengths.items():
            given = lengths[name]
            if len(given) != self.shape.batch:
                raise ValueError(f"program takes {self.shape.batch} sequences, got {len(given)}")
            for length in given:
                if not 1 <= length <= limit:
                    raise ValueError(f"sequence length {length} is outside 1 to {limit}")
        return link(self.instructions, self.patches, lengths)

    @property
    def io_bytes(self) -> int:
        """Bytes of window IO."""
        return window_bytes(dict(self.tensors), Window.IO)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of window SCRATCH."""
        return window_bytes(dict(self.tensors), Window.SCRATCH)
