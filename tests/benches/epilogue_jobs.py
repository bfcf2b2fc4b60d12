"""Random jobs for the epilogue and what the golden model makes of them."""

from __future__ import annotations

import numpy as np

from transept.golden.config import Config
from transept.golden.isa import TALLIES, OutMode
from transept.golden.layouts import pack_channel_parameters
from transept.golden.numerics.fixed import Clipping
from transept.golden.numerics.requantise import (
    SEGMENTS,
    ActivationTable,
    ChannelParameters,
    activation,
    join_halves,
    requantise,
)
from transept.golden.numerics.softmax import CONTEXT_KEYS
from transept.rtl.gemm.descriptors import Statistic

__all__ = ["Workload"]

PARAM_BASE = 64


def random_table(rng):
    coefficients = [rng.integers(-(1 << b), 1 << b, SEGMENTS) for b in (23, 16, 12)]
    return ActivationTable(-32768, 10, 10, 16, *coefficients)


class Workload:
    """Random jobs with their accumulators, and what the golden model makes of them.

    ``writes`` are (to STAT, address, row), ``statistics`` (entry, value), ``observations``
    (summary, first, low bytes), ``clipped`` (tally, elements) of each job, ``retired`` the (writes,
    statistics) at least seen at each retirement.
    """

    def __init__(
        self, cfg: Config, count: int, rng: np.random.Generator, *, kind: str = "random", **fixed
    ) -> None:
        self.cfg, self.rng, self.kind, self.fixed = cfg, rng, kind, fixed
        self.table = random_table(rng)
        self.stat = {}
        self.jobs = [self.random_job(number) for number in range(count)]
        self.writes, self.statistics, self.observations, self.retired = [], [], [], []
        self.clipped = []
        rowstat = {}
        for job in self.jobs:
            self.expect(job, rowstat)

    def random_job(self, number):
        cfg, rng = self.cfg, self.rng
        masked = rng.random() < 0.3
        rows = int(
            rng.integers(1, (cfg.tile if masked else 2 * cfg.tile) + 1) ** rng.integers(0, 2)
        )
        job = {
            "rows": max(1, min(rows, cfg.geometry.max_rows)),
            "slot": number % (2 * cfg.geometry.acc_slots),
            "out_addr": int(rng.integers(0, cfg.memories.stat_words // 2)),
            "out_stride": int(rng.integers(1, 5)),
            "out_mode": int(OutMode.ACT16 if masked else rng.choice(list(OutMode))),
            "immediate": int(rng.integers(0, 2)),
            "multiplier": int(rng.integers(1 << 12, 1 << 16)),
            "channel_shift": int(rng.integers(8, 24)),
            "param": PARAM_BASE + 8 * number,
            "pre": int(rng.integers(0, 4)),
            # shifts of more than all bits now and then: RECIPROCAL adds up to 23
            "row_shift": int(rng.integers(10, 24) if rng.random() < 0.9 else rng.integers(40, 64)),
            "out_shift": int(rng.integers(0, 6)),
            "columns": int(rng.integers(0, 2)),
            "activation": int(rng.integers(0, 2)),
            "masked": int(masked),
            "band": {
                "upper": int(rng.integers(-cfg.tile, cfg.tile)),
                "lower": int(rng.integers(-cfg.tile, cfg.tile)),
                "last": int(rng.integers(0, cfg.tile)),
            },
            "statistic": Statistic.MAXIMUM if masked else Statistic(int(rng.integers(0, 2))),
            "keep": int(rng.integers(0, 2)),
            "rowstat": int(rng.integers(0, 4)),
            "observe": int(rng.integers(0, 2)),
            "phase": int(rng.integers(0, cfg.tile)),
            "summary": int(rng.integers(0, cfg.key_summaries // 2)),
            "tally": int(rng.integers(0, TALLIES)),
            "retire": int(rng.integers(0, 2)),
        } | self.fixed
        of_rows = not (job["columns"] or job["masked"]) and cfg.blocks.halves
        in_halves = of_rows and 2 * job["rows"] <= cfg.geometry.max_rows
        job["halves"] = int(in_halves and rng.random() < 0.4)
        self.add_operands(job)
        return job

    def add_operands(self, job):
        cfg, rng = self.cfg, self.rng
        # in the order in which they are read, of halves the lower one first
        job["acc"] = self.accumulators((job["rows"] << job["halves"], cfg.tile))
        job["row_multiplier"] = rng.integers(0, (1 << 16) + 1, job["rows"])
        job["row_exponent"] = rng.integers(0, 24, job["rows"])
        job["sums"] = rng.integers(-127 * CONTEXT_KEYS, 127 * CONTEXT_KEYS + 1, cfg.tile)
        job["channels"] = ChannelParameters(
            rng.integers(1 << 12, 1 << 16, cfg.tile),
            rng.integers(4, 28, cfg.tile),
            rng.integers(-(1 << 23), 1 << 23, cfg.tile) >> rng.integers(0, 16, cfg.tile),
        )
        words = pack_channel_parameters(job["channels"], cfg.tile).view(np.int8)
        for offset, word in enumerate(words.reshape(-1, cfg.tile).tolist()):
            self.stat[job["param"] + offset] = word

    def accumulators(self, shape):
        """Of every magnitude; the largest ones; or those of a product of ordinary operands."""
        rng = self.rng
        if self.kind == "extreme":
            return rng.choice([-(1 << 26), (1 << 26) - 1], shape)
        if self.kind == "real":
            return np.rint(rng.normal(0, 1 << 15, shape)).astype(np.int64)
        return rng.integers(-(1 << 26), 1 << 26, shape) >> rng.integers(0, 20, shape)

    def outputs(self, job):
        """What is written, int[rows, tile], and which elements were clipped and not masked."""
        clipping = Clipping()
        channels = job["channels"]
        if job["immediate"]:
            same = np.ones(self.cfg.tile, dtype=np.int64)
            channels = ChannelParameters(
                same * job["multiplier"], same * job["channel_shift"], 0 * same
            )
        acc = job["acc"] + 127 * job["columns"] * job["sums"]
        if job["halves"]:
            acc = join_halves(acc[1::2], acc[::2])
        y = requantise(
            acc,
            channels,
            job["row_multiplier"],
            job["row_exponent"],
            **{name: job[name] for name in ("pre", "row_shift", "out_shift")},
            bits=16,
            clip=clipping,
        )
        if job["activation"]:
            y = activation(y, self.table, clipping)
        if job["out_mode"] != OutMode.ACT16:
            y = clipping(y, 8)
        seen = self.kept(job) if job["masked"] else np.ones_like(y, bool)
        return np.where(seen, y, -32768), clipping.elements & seen

    def kept(self, job):
        """Keys between two diagonals, up to the last one; bool[rows, tile]."""
        band, key = job["band"], np.arange(self.cfg.tile)
        ahead = key - ((job["phase"] + np.arange(job["rows"])) % self.cfg.tile)[:, None]
        return (band["lower"] <= ahead) & (ahead <= band["upper"]) & (key <= band["last"])

    def expect(self, job, rowstat):
        outputs, clipped = self.outputs(job)
        self.clipped.append((job["tally"], int(clipped.sum())))
        for m, row in enumerate(outputs.tolist()):
            addr = job["out_addr"] + m * job["out_stride"]
            self.writes.append((job["out_mode"] == OutMode.STAT8, addr, row))
            if job["observe"] and job["out_mode"] == OutMode.STAT8:
                number, place = divmod(job["phase"] + m, self.cfg.tile)
                summary = job["summary"] + number * job["out_stride"]
                low_bytes = np.array(row).astype(np.int8).tolist()
                self.observations.append((summary, place == 0, low_bytes))
            if job["statistic"] != Statistic.NONE:
                entry = job["rowstat"] + m
                magnitudes = job["statistic"] == Statistic.MAGNITUDE
                value = max(abs(y) for y in row) if magnitudes else max(row)
                if job["keep"]:
                    value = max(value, rowstat.get(entry, 0))
                rowstat[entry] = value
                self.statistics.append((entry, value))
        if job["retire"]:
            self.retired.append((len(self.writes), len(self.statistics)))
