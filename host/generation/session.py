"""Sequences of a language model on one device, of any length, sharing what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transept.golden.config import Config
from transept.host.backends.catalogue import CPU, check_backend
from transept.host.compiler.errors import CompileError
from transept.host.devices.base import DeviceError, OutOfMemoryError
from transept.host.devices.catalogue import ACCELERATORS, BOARD
from transept.host.generation.accelerator import PagedDecoder
from transept.host.generation.arrays import ArrayDecoder
from transept.host.generation.decoder import Cost, Decoder, Growth
from transept.host.language.program import LanguageProgram
from transept.host.runtime.paged import pages_of

__all__ = ["LanguageSequence", "LanguageSession"]

#: Common tokens that are worth sharing.
LEAST_SHARED = 16
#: New tokens of a sequence with a draft.
DRAFT_ROWS = (1, 2, 4, 8, 16)
#: Pages, if nobody says: of one sequence of so many tokens.
DEFAULT_TOKENS = 2048


@dataclass(eq=False)
class LanguageSequence:
    """One text; held: how many of its tokens the device has the keys and values of."""

    tokens: list[int] = field(default_factory=list)
    held: int = 0
    place: Any = None


class LanguageSession:
    """A language model on ``rtl``, ``emulator``, ``pynq``, ``cpu`` or ``golden``; every device
    gives the same logits, to the last bit, however tokens come and whatever runs beside. (``gpu``
    has no kernels for attention to earlier tokens, and goes on on the CPU.)

    pages: of sixteen tokens, for all sequences on an accelerator together. A device that fails is
    left for ``cpu``, which computes all sequences anew and goes on; ``notes`` says so. Without
    ``fallback`` the error is raised. cost: of all steps.

    Raises
    ------
    ValueError
        If there is no such device, or it has no such option.
    DeviceError
        If there is no fallback, and the device fails or is too small.
    """

    def __init__(
        self,
        program: LanguageProgram,
        device: str = "emulator",
        *,
        pages: int | None = None,
        fallback: bool = True,
        **options: Any,
    ) -> None:
        check_backend(device, options)
        if pages is not None and pages < 1:
            raise ValueError(f"{pages} pages, must be at least 1")
        self.program, self.device = program, device
        self.pages = pages or pages_of(min(program.context, DEFAULT_TOKENS))
        self.notes: list[str] = []
        self.cost = Cost()
        self._fallback = fallback
        self._open: list[LanguageSequence] = []
        try:
            self._decoder = self._decode_on(device, options)
        except OutOfMemoryError:
            raise
        except DeviceError as error:
            self._leave(error)

    @property
    def config(self) -> Config:
        """Of the accelerator."""
        return self.program.config

    @property
    def counts_pages(self) -> bool:
        """Whether sequences take pages of a device's memory."""
        return isinstance(self._decoder, PagedDecoder)

    @property
    def free_pages(self) -> int:
        """Pages that no sequence has."""
        return self._decoder.free_pages if isinstance(self._decoder, PagedDecoder) else self.pages

    def rows_together(self, sequences: int) -> int:
        """New tokens of each of some sequences that take one step."""
        return max(rows for rows in DRAFT_ROWS if self._decoder.together(rows) >= sequences)

    def open(self, ids: Sequence[int] = ()) -> LanguageSequence:
        """A sequence that is to begin with these tokens: it has as many of them as it can share
        with one that is open, but not the last one."""
        best, shared = None, 0
        for other in self._open:
            common = min(_common(other.tokens[: other.held], ids), len(ids) - 1)
            if common > shared:
                best, shared = other, common
        sequence = LanguageSequence()
        if best is not None and shared >= LEAST_SHARED:
            sequence.place = self._decoder.fork(best.place, shared)
            sequence.tokens, sequence.held = list(ids[:shared]), shared
        else:
            sequence.place = self._decoder.start()
        self._open.append(sequence)
        return sequence

    def truncate(self, sequence: LanguageSequence, length: int) -> None:
        """Forget the tokens behind the first ``length``."""
        del sequence.tokens[length:]
        sequence.held = min(sequence.held, length)
        # a step that failed may have left more there
        self._decoder.truncate(sequence.place, sequence.held)

    def close(self, sequence: LanguageSequence) -> None:
        """The sequence has ended."""
        if sequence in self._open:
            self._open.remove(sequence)
            self._decoder.release(sequence.place)

    def grow(self, growths: Sequence[Growth]) -> list[np.ndarray]:
        """Add tokens to sequences; logits float64[wanted, tokens] of each.

        Raises
        ------
        ValueError
            If a sequence would be longer than the context, is not open or there twice, or a token
            is none of the vocabulary.
        OutOfMemoryError
            If there are not enough pages; no sequence has changed.
        CompileError, DeviceError
            If the device cannot run the model or fails, and there is no fallback; no sequence has
            changed.
        """
        self._check(growths)
        before = [len(growth.sequence.tokens) for growth in growths]
        for growth in growths:
            growth.sequence.tokens += growth.ids
        try:
            return self._compute(growths)
        except BaseException:
            for growth, length in zip(growths, before, strict=True):
                self.truncate(growth.sequence, length)
            raise

    def _check(self, growths: Sequence[Growth]) -> None:
        if len({growth.sequence for growth in growths}) < len(growths):
            raise ValueError("a sequence is there twice")
        for sequence, ids, wanted in growths:
            if sequence not in self._open:
                raise ValueError("a sequence is not open")
            for index in ids:
                if not 0 <= index < self.program.size:
                    raise ValueError(f"token {index} is outside 0 to {self.program.size - 1}")
            whole, limit = len(sequence.tokens) + len(ids), self.program.context
            if whole > limit:
                raise ValueError(f"{whole} tokens exceed the context of {limit}")
            if not 0 <= wanted <= len(ids) or not ids:
                raise ValueError(f"logits of {wanted} of {len(ids)} new tokens")

    def _compute(self, growths: Sequence[Growth]) -> list[np.ndarray]:
        try:
            return self._all_held(growths)
        except OutOfMemoryError:
            raise
        except (CompileError, DeviceError) as error:
            self._leave(error)
            return self._all_held(growths)

    def _all_held(self, growths: Sequence[Growth]) -> list[np.ndarray]:
        """Compute what the decoder does not have: long parts one by one, then the ends of all."""
        found: list[list[np.ndarray]] = [[] for _ in growths]
        ends: list[tuple[int, Growth]] = []
        for number, growth in enumerate(growths):
            *parts, end = self._parts(growth)
            for part in parts:
                found[number] += self._step([part])
            ends.append((number, end))
        for group in self._together(ends):
            logits = self._step([part for _, part in group])
            for (number, _), rows in zip(group, logits, strict=True):
                found[number].append(rows)
        return [np.concatenate(rows) for rows in found]

    def _parts(self, growth: Growth) -> list[Growth]:
        """What is not held of a sequence, in parts that the decoder takes."""
        sequence, _, wanted = growth
        ids, parts = sequence.tokens[sequence.held :], []
        for count in self._decoder.parts(len(ids)):
            left = len(ids) - count
            parts.append(Growth(sequence, ids[:count], max(0, min(count, wanted - left))))
            ids = ids[count:]
        return parts

    def _together(self, parts: list[tuple[int, Growth]]) -> list[list[tuple[int, Growth]]]:
        """Parts of one step each, those of few tokens first."""
        groups: list[list[tuple[int, Growth]]] = []
        for entry in sorted(parts, key=lambda entry: len(entry[1].ids)):
            most = self._decoder.together(len(entry[1].ids))
            if groups and len(groups[-1]) < most:
                groups[-1].append(entry)
            else:
                groups.append([entry])
        return groups

    def _step(self, parts: Sequence[Growth]) -> list[np.ndarray]:
        logits, cost = self._decoder.step(
            [Growth(part.sequence.place, part.ids, part.wanted) for part in parts]
        )
        self.cost += cost
        for part in parts:
            part.sequence.held += len(part.ids)
        return logits

    # --- devices
    def _decode_on(self, device: str, options: dict[str, Any]) -> Decoder:
        if device in (*ACCELERATORS, BOARD):
            return PagedDecoder(self.program, device, pages=self.pages, **options)
        return ArrayDecoder(self.program, device, **options)

    def _leave(self, error: Exception) -> None:
        """Go on with another device, on which nothing is held yet."""
        if not self._fallback or self.device == CPU:
            raise error
        self.notes.append(f"{self.program.name} goes on on {CPU}: {error}")
        self.device, self._decoder = CPU, self._decode_on(CPU, {})
        for sequence in self._open:
            sequence.place, sequence.held = self._decoder.start(), 0


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens at the beginning that are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
