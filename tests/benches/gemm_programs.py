"""Random legal instructions for the GEMM engine."""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

import numpy as np
from bench import instruction

from transept.golden.config import Config
from transept.golden.filters import Causal, Dense, KeyFilter, TileThreshold, Window
from transept.golden.isa import TALLIES, AMode, Filter, Instruction, Opcode, OutMode, RowScale
from transept.golden.layouts import pack_channel_parameters, pack_table
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, ChannelParameters

__all__ = ["Attention", "GemmPrograms"]

#: n tiles of channel parameters at the start of STAT.
PARAMETER_TILES = 8


class Attention(NamedTuple):
    """Shape and addresses of one attention; ``cuts`` bound the parts of its keys."""

    rows: int
    keys: int
    d_tiles: int
    q_addr: int
    q_stride: int
    k_addr: int
    v_addr: int
    s_addr: int
    s_stride: int
    rowstat: int
    sums: int
    select: int
    position: int
    key_base: int
    cuts: tuple[int, ...]


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
            "tally": rng.randrange(TALLIES),
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
        a_mode = fixed.get("a_mode", rng.choice(list(AMode)))
        few = 2 * rows <= self.cfg.geometry.max_rows and self.cfg.blocks.halves
        halves = int(few and a_mode == AMode.DYNAMIC and rng.random() < 0.5)
        scales = [RowScale.ONE, RowScale.ROW_MAX]
        operands = {
            "rows": rows - 1,
            "k_tiles": k_tiles,
            "n_tiles": n_tiles,
            "finish": 1,
            "a_addr": rng.randrange(max(1, self.act - stride * rows)),
            "a_stride": stride,
            "a_mode": a_mode,
            "halves": halves,
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
        rows, mode = self.rows(), {}
        if 2 * rows <= self.cfg.geometry.max_rows and self.cfg.blocks.halves:
            halves = self.rng.randint(0, 1)
            mode = {"halves": halves} | ({"a_mode": AMode.DYNAMIC} if halves else {})
        last = self.matmul(rows=rows, n_tiles=1, accumulate=1, **mode)
        if not last:
            return []
        free, parts = dict(self.free), []
        for index in range(self.rng.randint(1, 3)):
            self.free = dict(free)
            shared = {"rows": rows, "n_tiles": 1, "finish": 0, **mode}
            parts += self.matmul(accumulate=int(index > 0), **shared)
            if len(parts) <= index:
                self.free = free
                return []
        self.free = free
        return parts + last

    def attention(self) -> Attention:
        """One attention, all in the lower halves but K and the results; its keys in parts."""
        rng, cfg = self.rng, self.cfg
        d_tiles = rng.randint(1, 3)
        keys = rng.choice(
            [1, 2, cfg.tile, cfg.geometry.max_keys, rng.randint(1, cfg.geometry.max_keys)]
        )
        keys = min(keys, self.stat // 2 // d_tiles)
        rows = min(self.rows(), cfg.query_blocks * cfg.tile)
        cuts = sorted(rng.sample(range(1, keys), min(rng.choice([0, 0, 1, 2]), keys - 1)))
        tiles = self._tiles([0, *cuts, keys])
        while rows * sum(tiles) > self.act // 2:
            rows = -(-rows // 2)
        blocks = -(-rows // cfg.tile)
        too_many = blocks * d_tiles > 2 * cfg.geometry.acc_slots
        if too_many or blocks * len(tiles) > cfg.query_blocks:
            cuts, tiles = [], self._tiles([0, keys])
        position = rng.choice([rng.randrange(keys + cfg.tile), 65_530])
        return Attention(
            rows=rows,
            keys=keys,
            d_tiles=d_tiles,
            q_addr=rng.randrange(self.act - rows * (d_tiles + 1)),
            q_stride=d_tiles + rng.randint(0, 1),
            k_addr=self._key_place((keys // cfg.tile + 1) * cfg.tile * d_tiles),
            v_addr=rng.randrange(self.stat - (keys + cfg.tile) * d_tiles + 1),
            s_addr=self._place("act", rows * sum(tiles)),
            s_stride=sum(tiles),
            rowstat=self._place("rowstat", rows),
            sums=self._place("rowstat", rows),
            select=rng.randint(0, cfg.query_blocks - blocks * len(tiles)),
            position=position,
            key_base=min(rng.choice([0, max(0, position - keys // 2), 65_535]), 65_535 - keys),
            cuts=(0, *cuts, keys),
        )

    def _key_place(self, words: int) -> int:
        """Room for K at a multiple of ``tile``."""
        tile = self.cfg.tile
        return -(-self._place("stat", words + tile) // tile) * tile

    def _tiles(self, cuts: list[int]) -> list[int]:
        """Key tiles of each part."""
        return [-(-(end - at) // self.cfg.tile) for at, end in itertools.pairwise(cuts)]

    def long_attention(self, *, blocks: int, d_tiles: int) -> Attention:
        """The longest attention that fits, over ``blocks`` blocks of query rows."""
        cfg = self.cfg
        keys = min(cfg.geometry.max_keys, self.stat // 2 // d_tiles // cfg.tile * cfg.tile)
        rows, tiles = blocks * cfg.tile, keys // cfg.tile
        rowstat = self._place("rowstat", rows)
        return Attention(
            rows=rows,
            keys=keys,
            d_tiles=d_tiles,
            q_addr=0,
            q_stride=d_tiles,
            k_addr=self._place("stat", keys * d_tiles),
            v_addr=0,
            s_addr=self._place("act", rows * tiles),
            s_stride=tiles,
            rowstat=rowstat,
            sums=rowstat,
            select=0,
            position=keys,
            key_base=0,
            cuts=(0, keys),
        )

    def parts(self, a: Attention) -> list[dict[str, int]]:
        """Operands of each part of the keys: first, keys, and places of scores and selection."""
        blocks, column, parts = -(-a.rows // self.cfg.tile), 0, []
        for number, (first, end) in enumerate(itertools.pairwise(a.cuts)):
            parts.append(
                {
                    "first": first,
                    "keys": end - first - 1,
                    "s_addr": a.s_addr + column,
                    "select": a.select + number * blocks,
                }
            )
            column += self._tiles([first, end])[0]
        return parts

    def keys(self, a: Attention) -> list[Instruction]:
        """The MATMULs that write K, some rows and n tiles each, and show it to the filters."""
        rng, program, first = self.rng, [], 0
        whole, width = rng.random() < 0.5, rng.choice([1, a.d_tiles])
        while first < a.keys:
            most = min(self.cfg.geometry.max_rows, a.keys - first)
            rows = most if whole else rng.randint(1, most)
            for column in range(0, a.d_tiles, width):
                program += self._keys(a, first, rows, column, min(width, a.d_tiles - column))
            first += rows
        return program

    def _keys(
        self, a: Attention, first: int, rows: int, column: int, width: int
    ) -> list[Instruction]:
        rng, tile = self.rng, self.cfg.tile
        # a tile whose first row nobody saw would have any sum
        unseen = first % tile and first % tile + rows <= tile and rng.random() < 0.2
        fixed = {
            "rows": rows,
            "n_tiles": width,
            "k_tiles": rng.randint(1, 2),
            "out_mode": OutMode.STAT8,
            "observe": int(not unseen),
            "phase": first % tile,
            "summary": a.k_addr // tile + first // tile * a.d_tiles + column,
            "stats": 0,
            "activation": 0,
            "pre": 0,
            "out_addr": a.k_addr + first * a.d_tiles + column,
            "out_stride": a.d_tiles,
        }
        free = dict(self.free)
        self.fresh()
        program = self.matmul(**fixed)
        self.free = free
        return program

    def rule(self, kind: Filter, threshold: int = -(1 << 23)) -> KeyFilter:
        """A filter of any parameters, but for the threshold."""
        reach = [0, 1, self.cfg.tile, self.rng.randrange(4096)]
        rules = {
            Filter.DENSE: Dense(),
            Filter.CAUSAL: Causal(),
            Filter.TILE_THRESHOLD: TileThreshold(threshold),
            Filter.WINDOW: Window(before=self.rng.choice(reach), after=self.rng.choice(reach)),
        }
        return rules[kind]

    def scores(self, a: Attention, rule: KeyFilter) -> list[Instruction]:
        """SCORES of each part of the keys."""
        rng = self.rng
        shifts = {
            "multiplier": rng.randrange(1 << 16),
            "channel_shift": rng.randint(4, 16),
            "row_shift": rng.randint(12, 20),
        }
        return [
            instruction(
                Opcode.SCORES,
                rows=a.rows - 1,
                position=a.position,
                key_base=a.key_base + part["first"],
                keys=part["keys"],
                d_tiles=a.d_tiles,
                q_addr=a.q_addr,
                q_stride=a.q_stride,
                k_addr=a.k_addr + part["first"] * a.d_tiles,
                s_addr=part["s_addr"],
                s_stride=a.s_stride,
                rowstat=a.rowstat,
                stats_keep=int(part["first"] > 0),
                select=part["select"],
                filter=rule.kind,
                parameter=rule.parameter,
                tally=rng.randrange(TALLIES),
                **shifts,
            )
            for part in self.parts(a)
        ]

    def softmax(self, a: Attention) -> list[Instruction]:
        """SOFTMAX of each part of the keys."""
        return [
            instruction(
                Opcode.SOFTMAX,
                rows=a.rows - 1,
                keys=part["keys"],
                addr=part["s_addr"],
                stride=a.s_stride,
                rowstat=a.rowstat,
                out_rowstat=a.sums,
                keep=int(part["first"] > 0),
                select=part["select"],
            )
            for part in self.parts(a)
        ]

    def context(self, a: Attention) -> list[Instruction]:
        """CONTEXT on the probabilities that replaced the scores, for each part of the keys."""
        output = None
        while output is None:
            mode = self.rng.choice(list(OutMode))
            output = self._output(mode, a.rows, a.d_tiles)
            if output is None:
                self.fresh()
                self._place("act", a.s_addr + a.rows * a.s_stride - self.act)
                # the maxima of scores are read no more, and lie in front of the sums
                self.free["rowstat"] = a.rowstat
        return [
            instruction(
                Opcode.CONTEXT,
                rows=a.rows - 1,
                keys=part["keys"],
                d_tiles=a.d_tiles,
                accumulate=int(part["first"] > 0),
                finish=int(part["first"] + part["keys"] + 1 == a.keys),
                p_addr=part["s_addr"],
                p_stride=a.s_stride,
                v_addr=a.v_addr + part["first"] * a.d_tiles,
                p_rowstat=a.sums,
                select=part["select"],
                **output,
            )
            for part in self.parts(a)
        ]
