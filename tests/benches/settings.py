"""What a block's test and its cocotb bench agree on: configuration, seed, waveforms."""

from __future__ import annotations

import dataclasses
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transept.golden.config import Config
from transept.sim.build import QUICK
from transept.sim.cache import cache_dir
from transept.sim.cocotb_runner import LIMIT_S, parameters, run_bench

if TYPE_CHECKING:
    from amaranth.lib import wiring

__all__ = ["config", "generator", "prove", "python_random", "seed", "waves"]


def seed() -> int:
    """The seed of this run, from ``transept test --seed``."""
    return int(os.environ.get("TRANSEPT_SEED", "1"))


def waves(name: str) -> Path | None:
    """Where the waveforms of a bench go; None unless ``transept test --waves`` asked for them."""
    if os.environ.get("TRANSEPT_WAVES", "0") != "1":
        return None
    folder = cache_dir() / "waves"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.vcd"


def prove(
    design: wiring.Component,
    block: str,
    cfg: Config,
    *,
    limit_s: int = LIMIT_S,
    speed: str = QUICK,
    **facts: Any,
) -> int:
    """Run the cocotb tests of ``<block>_bench`` on a design; returns how many passed."""
    values = {"config": dataclasses.asdict(cfg), "seed": seed(), **facts}
    where = waves(f"{block}_{cfg.name}")
    bench = f"{block}_bench"
    limits = {"limit_s": limit_s, "speed": speed}
    return run_bench(design, block, bench, values, seed=seed(), waves=where, **limits)


def config() -> Config:
    """In a bench: the configuration under test."""
    fields = dict(parameters()["config"])  # type: ignore[call-overload]
    return Config.from_fields(fields)


def generator(*case: int) -> np.random.Generator:
    """In a bench: random numbers of this run for one case."""
    return np.random.default_rng([parameters()["seed"], *case])  # type: ignore[list-item]


def python_random(*case: int) -> random.Random:
    """In a bench: as ``generator``, of Python's own."""
    return random.Random(f"{parameters()['seed']}/{case}")
