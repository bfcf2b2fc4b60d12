"""What generation needs of a device: sequences that grow by some tokens, and logits of the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = ["Cost", "Decoder", "Growth"]


class Growth(NamedTuple):
    """New tokens of a sequence, at least one, and of how many of the last ones logits are wanted.

    sequence: what the decoder knows it by.
    """

    sequence: Any
    ids: Sequence[int]
    wanted: int


@dataclass(frozen=True)
class Cost:
    """What steps took, 0 on devices that do not count it; predicted: cycles that the compiler
    expects of an accelerator; head_cycles, head_array_cycles: what the vocabulary projection had of
    both.
    """

    steps: int = 0
    cycles: int = 0
    predicted: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    array_cycles: int = 0
    head_cycles: int = 0
    head_array_cycles: int = 0

    def __add__(self, other: Cost) -> Cost:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Cost(*(one + another for one, another in pairs))

    def __sub__(self, other: Cost) -> Cost:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Cost(*(one - another for one, another in pairs))

    @property
    def layers_utilisation(self) -> float:
        """Share of the array's time in use, without the vocabulary projection."""
        cycles = self.cycles - self.head_cycles
        return (self.array_cycles - self.head_array_cycles) / cycles if cycles else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written


class Decoder(Protocol):
    """Sequences of one language model on one device."""

    def together(self, rows: int) -> int:
        """Sequences of one step, at most, with up to so many new tokens each."""

    def start(self) -> Any:
        """A sequence without tokens."""

    def fork(self, sequence: Any, length: int) -> Any:
        """Another sequence with the same first tokens."""

    def truncate(self, sequence: Any, length: int) -> None:
        """Forget the tokens behind the first ``length``."""

    def release(self, sequence: Any) -> None:
        """The sequence has ended."""

    def parts(self, count: int) -> list[int]:
        """So many new tokens of a sequence in parts that ``step`` takes."""

    def step(self, growths: Sequence[Growth]) -> tuple[list[np.ndarray], Cost]:
        """Let sequences grow; logits float64[wanted, tokens] of each.

        growths: as many as go ``together``, each of one of the ``parts``.

        Raises
        ------
        OutOfMemoryError
            If there is no memory for the new tokens; no sequence has changed.
        DeviceError
            If the device fails.
        """
