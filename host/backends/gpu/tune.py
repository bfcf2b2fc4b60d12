"""Sizes of kernels' tiles, tried once for a shape and kept with the card and the versions."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from transept.host.backends.gpu.capture import capture
from transept.host.kernels import INTERPRETED
from transept.host.kernels.attention import AttentionBlocks
from transept.host.kernels.matmul import Blocks
from transept.sim.cache import cache_dir

__all__ = ["ATTENTION_BLOCKS", "Tuner", "linear_blocks"]

Choice = TypeVar("Choice")

#: What is tried for attentions.
ATTENTION_BLOCKS = (
    AttentionBlocks(64, 64, registers=168),
    AttentionBlocks(64, 128, registers=168),
    AttentionBlocks(128, 128),
    AttentionBlocks(128, 64, registers=168),
    AttentionBlocks(64, 128, registers=168, parts=1),
    AttentionBlocks(64, 128, registers=168, parts=2),
    AttentionBlocks(64, 128, registers=128, parts=1),
    AttentionBlocks(64, 64, parts=1),
)
#: What is tried for products of many rows, of some, and of few.
MANY = tuple(Blocks(group=group) for group in (8, 16, 32))
SOME = (Blocks(), Blocks(64, 128), Blocks(64, 64), Blocks(128, 64), Blocks(64, 32))
FEW = (Blocks(64, 64), Blocks(64, 32), Blocks(32, 32), Blocks(32, 64), Blocks(16, 32))

#: Launches that are timed together.
LAUNCHES = 8

_log = logging.getLogger(__name__)


def linear_blocks(rows: int) -> tuple[Blocks, ...]:
    """What is tried for a product of so many rows."""
    return FEW if rows <= 64 else SOME if rows <= 8192 else MANY


class Tuner:
    """Choices by what they were made for, in a file of the cache.

    Where kernels are interpreted the first candidate is taken, and nothing is kept.
    """

    def __init__(self, device: torch.device) -> None:
        self._known: dict[str, int] = {}
        self._path: Path | None = None
        if INTERPRETED or device.type != "cuda":
            return
        card = torch.cuda.get_device_name(device).replace(" ", "_")
        versions = "-".join(importlib.metadata.version(name) for name in ("torch", "triton"))
        self._path = cache_dir() / "kernels" / f"{card}-{versions}.json"
        self._known = _read(self._path)

    def fastest(
        self, kind: tuple, candidates: Sequence[Choice], run: Callable[[Choice], None]
    ) -> Choice:
        """The candidate with which ``run`` takes the least time for this kind of work."""
        if self._path is None or len(candidates) == 1:
            return candidates[0]
        told = [dataclasses.astuple(choice) for choice in candidates]  # type: ignore[call-overload]
        key = json.dumps([*map(str, kind), told])
        if key not in self._known:
            times = [_milliseconds(functools.partial(run, choice)) for choice in candidates]
            self._known[key] = min(range(len(times)), key=times.__getitem__)
            self._keep()
        return candidates[self._known[key]]

    def _keep(self) -> None:
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps(_read(self._path) | self._known, indent=1))
            fresh.replace(self._path)
        except OSError as error:
            _log.warning("choices of kernels are not kept: %s", error)


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _milliseconds(run: Callable[[], None]) -> float:
    """Median time of a launch among others; infinite if the card has not the room."""
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench

    def launches() -> None:
        for _ in range(LAUNCHES):
            run()

    try:
        # the host takes longer to start a short kernel than the card to run it
        graph = capture(launches)
    except OutOfResources:
        return float("inf")
    return do_bench(graph.replay, warmup=5, rep=20, return_mode="median") / LAUNCHES
