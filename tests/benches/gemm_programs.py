"""Random legal instructions for the GEMM engine."""

from __future__ import annotations

import random

import numpy as np
from bench import instruction

from transept.golden.config import Config
from transept.golden.isa import AMode, Filter, Instruction, Opcode, OutMode, RowScale
from transept.golden.layouts import pack_channel_parameters, pack_table
from transept.golden.numerics.filters import tile_estimate
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, ChannelParameters

__all__ = ["GemmPrograms"]

#: n tiles of channel parameters at the start of STAT.
PARAMETER_TILES = 8


class GemmPrograms:
    """Operands come from the lower half of each memory, results go to the upper half, once each
    until ``fresh``. A method returns an empty list if there is no room left."""

    def __init__(self, cfg: Config, rng: random.Random) -> None:
        self.cfg, self.rng = cfg, rng
        self.act, self.stat = cfg.act_words // 2, cfg.memories.stat_words // 2
        self.rowstat = cfg.memories.rowstat_entries // 2
        self.fresh()

    def fresh(self) -> None:
        """The results so far may be overwritten."""
        self.free = {"act": self.act, "stat": self.stat, "rowstat": self.rowstat}

    def _place(self, name: str, size: int) -> int | None:
        start, limit = self.free[name], 2 * getattr(self, name)
        if start + size > limit:
            return None
        self.free[name] = start + size
        return start

    def rows(self) -> int:
        """Rows of an instruction, often at a boundary."""
        cfg = self.cfg
        return self.rng.choice(
            [1, 2, cfg.tile, cfg.geometry.max_rows, self.rng.randint(1, cfg.geometry.max_rows)]
        )

    def _output(self, mode: OutMode, rows: int, words: int) -> dict[str, int] | None:
        """Output operands of MATMUL and CONTEXT."""
        rng = self.rng
        stride = words + rng.choice([0, 0, 1])
        addr = self._place("stat" if mode == OutMode.STAT8 else "act", rows * stride)
        entry = self._place("rowstat", rows)
        if addr is None or entry is None:
            return None
        return {
            "out_addr": addr,
            "out_stride": stride,
            "out_mode": mode,
            "out_rowstat": entry,
            "stats": rng.randint(0, 1),
            "stats_keep": rng.randint(0, 1),
            "param": self._parameters(words),
            "pre": rng.randint(0, 4),
            "row_shift": rng.randint(14, 26),
            "out_shift": rng.randint(0, 3),
        }

    def _parameters(self, n_tiles: int) -> int:
        """Where channel parameters are: mostly those of ``channels``, else any bytes at all, whose
        biases saturate nearly every output."""
        if self.rng.random() < 0.2:
            return self.rng.randrange(self.stat - 8 * n_tiles)
        return 8 * self.rng.randrange(PARAMETER_TILES - n_tiles + 1)

    def channels(self) -> np.ndarray:
        """Words of channel parameters for the start of STAT: outputs of every magnitude."""
        rng = np.random.default_rng(self.rng.randrange(1 << 32))
        count = PARAMETER_TILES * self.cfg.tile
        parameters = ChannelParameters(
            rng.integers(1 << 15, 1 << 16, count),
            rng.integers(6, 19, count),
            rng.integers(-(1 << 10), 1 << 10, count),
        )
        packed = pack_channel_parameters(parameters, self.cfg.tile)
        return packed.view(np.int8).reshape(-1, self.cfg.tile)

    def _stationary(self, k_tiles: int, n_tiles: int) -> dict[str, int]:
        """B of any layout that fits."""
        rng, tile = self.rng, self.cfg.tile
        layouts = [
            (1, tile, tile * k_tiles),
            (n_tiles, tile * n_tiles, 1),
            (k_tiles, 1, tile * k_tiles),
            (rng.randint(0, 3), rng.randint(0, 9), rng.randint(0, 9)),
        ]
        rng.shuffle(layouts)
        for row, k, n in layouts:
            extent = row * (tile - 1) + k * (k_tiles - 1) + n * (n_tiles - 1) + 1
            if extent <= self.stat:
                break
        b_addr = rng.randrange(max(1, self.stat - extent + 1))
        return {"b_addr": b_addr, "b_row": row, "b_k": k, "b_n": n}

    def matmul(self, **fixed: int) -> list[Instruction]:
        """One MATMUL; operands in ``fixed`` are kept."""
        rng = self.rng
        rows = fixed.pop("rows", None) or self.rows()
        k_tiles = fixed.pop("k_tiles", None) or rng.choice([1, 2, rng.randint(1, 6)])
        n_tiles = fixed.pop("n_tiles", None) or rng.choice([1, 2, rng.randint(1, 5)])
        mode = fixed.get("out_mode", rng.choice(list(OutMode)))
        output = self._output(mode, rows, n_tiles)
        if output is None:
            return []
        stride = k_tiles + rng.randint(0, 3)
        a_mode = rng.choice(list(AMode))
        scales = [RowScale.ONE, RowScale.ROW_MAX]
        operands = {
            "rows": rows - 1,
            "k_tiles": k_tiles,
            "n_tiles": n_tiles,
            "finish": 1,
            "a_addr": rng.randrange(max(1, self.act - stride * rows)),
            "a_stride": stride,
            "a_mode": a_mode,
            "a_rowstat": rng.randrange(self.rowstat - rows + 1),
            "b_transposed": rng.randint(0, 1),
            "activation": rng.randint(0, 1),
            "row_scale": rng.choice(scales + [RowScale.RECIPROCAL] * (a_mode == AMode.RAW)),
        }
        operands |= self._stationary(k_tiles, n_tiles) | output | fixed
        return [instruction(Opcode.MATMUL, **operands)]

    def table(self) -> np.ndarray:
        """Words of a random activation table, uint8[words, tile]."""
        rng = self.rng
        coefficients = {
            name: np.array([rng.randrange(-limit, limit) for _ in range(SEGMENTS)])
            for name, limit in (("c0", 1 << 22), ("c1", 1 << 16), ("c2", 1 << 15))
        }
        table = ActivationTable(
            start=-rng.randint(0, 1 << 15),
            width=rng.randint(6, 10),
            slope_shift=rng.randint(0, 15),
            out_shift=rng.randint(8, 15),
            **coefficients,
        )
        return pack_table(table, self.cfg.tile).reshape(-1, self.cfg.tile)

    def chain(self) -> list[Instruction]:
        """A sum over k in several MATMULs."""
        rows = self.rows()
        last = self.matmul(rows=rows, n_tiles=1, accumulate=1)
        if not last:
            return []
        free, parts = dict(self.free), []
        for index in range(self.rng.randint(1, 3)):
            self.free = dict(free)
            parts += self.matmul(rows=rows, n_tiles=1, accumulate=int(index > 0), finish=0)
            if len(parts) <= index:
                self.free = free
                return []
        self.free = free
        return parts + last

    def attention(self) -> dict[str, int]:
        """Shape and addresses of one attention, all in the lower halves but K and the results."""
        rng, cfg = self.rng, self.cfg
        d_tiles = rng.randint(1, 3)
        keys = rng.choice(
            [1, 2, cfg.tile, cfg.geometry.max_keys, rng.randint(1, cfg.geometry.max_keys)]
        )
        keys = min(keys, self.stat // 2 // d_tiles)
        rows = min(self.rows(), cfg.query_blocks * cfg.tile)
        tiles = -(-keys // cfg.tile)
        while rows * tiles > self.act // 2:
            rows = -(-rows // 2)
        blocks = -(-rows // cfg.tile)
        return {
            "rows": rows,
            "keys": keys,
            "d_tiles": d_tiles,
            "tiles": tiles,
            "q_addr": rng.randrange(self.act - rows * (d_tiles + 1)),
            "q_stride": d_tiles + rng.randint(0, 1),
            "k_addr": self._place("stat", (tiles + 1) * cfg.tile * d_tiles) // cfg.tile * cfg.tile,
            "v_addr": rng.randrange(self.stat - tiles * cfg.tile * d_tiles + 1),
            "s_addr": self._place("act", rows * tiles),
            "rowstat": self._place("rowstat", rows),
            "select": rng.randint(0, cfg.query_blocks - blocks),
            "position": rng.randrange(keys + cfg.tile),
        }

    def long_attention(self, *, blocks: int, d_tiles: int) -> dict[str, int]:
        """The longest attention that fits, over ``blocks`` blocks of query rows."""
        cfg = self.cfg
        keys = min(cfg.geometry.max_keys, self.stat // 2 // d_tiles // cfg.tile * cfg.tile)
        rows, tiles = blocks * cfg.tile, keys // cfg.tile
        return {
            "rows": rows,
            "keys": keys,
            "d_tiles": d_tiles,
            "tiles": tiles,
            "q_addr": 0,
            "q_stride": d_tiles,
            "k_addr": self._place("stat", keys * d_tiles),
            "v_addr": 0,
            "s_addr": self._place("act", rows * tiles),
            "rowstat": self._place("rowstat", rows),
            "select": 0,
            "position": keys,
        }

    def keys(self, a: dict[str, int]) -> list[Instruction]:
        """The MATMULs that write K and show it to the filters."""
        program = []
        for first in range(0, a["keys"], self.cfg.geometry.max_rows):
            fixed = {
                "rows": min(self.cfg.geometry.max_rows, a["keys"] - first),
                "n_tiles": a["d_tiles"],
                "k_tiles": self.rng.randint(1, 2),
                "out_mode": OutMode.STAT8,
                "observe": 1,
                "stats": 0,
                "activation": 0,
                "pre": 0,
                "out_addr": a["k_addr"] + first * a["d_tiles"],
                "out_stride": a["d_tiles"],
            }
            free = dict(self.free)
            self.fresh()
            program += self.matmul(**fixed)
            self.free = free
        return program

    def scores(self, a: dict[str, int], q, k) -> Instruction:
        """SCORES with any filter; q, k: int8[rows, d], to choose a threshold between estimates."""
        rng, tile = self.rng, self.cfg.tile
        estimates = sorted(
            tile_estimate(q[r : r + tile], k[t : t + tile])
            for r in range(0, len(q), tile)
            for t in range(0, len(k), tile)
        )
        threshold = rng.choice([*estimates, estimates[-1] + 1])
        return instruction(
            Opcode.SCORES,
            rows=a["rows"] - 1,
            position=a["position"],
            keys=a["keys"] - 1,
            d_tiles=a["d_tiles"],
            q_addr=a["q_addr"],
            q_stride=a["q_stride"],
            k_addr=a["k_addr"],
            s_addr=a["s_addr"],
            s_stride=a["tiles"],
            rowstat=a["rowstat"],
            select=a["select"],
            filter=rng.choice(list(Filter)),
            threshold=max(-(1 << 23), min((1 << 23) - 1, threshold)),
            multiplier=rng.randrange(1 << 16),
            channel_shift=rng.randint(4, 16),
            row_shift=rng.randint(12, 20),
        )

    def context(self, a: dict[str, int]) -> Instruction:
        """CONTEXT on the probabilities that replaced the scores."""
        output = None
        while output is None:
            mode = self.rng.choice(list(OutMode))
            output = self._output(mode, a["rows"], a["d_tiles"])
            if output is None:
                self.fresh()
                self._place("act", a["s_addr"] + a["rows"] * a["tiles"] - self.act)
                self._place("rowstat", a["rowstat"] + a["rows"] - self.rowstat)
        return instruction(
            Opcode.CONTEXT,
            rows=a["rows"] - 1,
            keys=a["keys"] - 1,
            d_tiles=a["d_tiles"],
            p_addr=a["s_addr"],
            p_stride=a["tiles"],
            v_addr=a["v_addr"],
            p_rowstat=a["rowstat"],
            select=a["select"],
            **output,
        )
