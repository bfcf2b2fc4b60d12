import numpy as np
import pytest
from scratchpads import Scratchpads, run_engine

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.isa import Instruction, Opcode
from transept.golden.layouts import pack_norm_parameters
from transept.golden.numerics.norm import NormParameters, inverse_count, layer_norm
from transept.rtl.vector.engine import VectorEngine


def parameters(rng, count, *, wide=False):
    shifts = 16 if wide else 9
    return NormParameters(
        gamma=rng.integers(-(1 << 17), 1 << 17, count),
        beta=rng.integers(-(1 << 23), 1 << 23, count),
        y_shift=rng.integers(0, shifts, count),
        x_shift=rng.integers(0, shifts, count),
    )


def rows_of(rng, rows, count):
    """int16 rows, each of another kind: small, constant, extreme, ordinary."""
    result = np.zeros((rows, count), np.int64)
    for m in range(rows):
        kind = m % 4
        if kind == 0:
            result[m] = rng.integers(-3, 4, count)
        elif kind == 1:
            result[m] = rng.integers(-32767, 32768)
        elif kind == 2:
            result[m] = rng.choice([-32767, 32767], count, p=[1 / count, 1 - 1 / count])
        else:
            result[m] = np.clip(rng.normal(0, 5000, count), -32767, 32767).astype(np.int64)
    return result


def place(act, block, addr, stride, tile):
    for m, row in enumerate(block):
        words = -(-len(row) // tile)
        act[addr + m * stride : addr + m * stride + words].reshape(-1)[: len(row)] = row


class Case:
    """One NORM instruction, the memories before it and what they must hold afterwards."""

    def __init__(self, cfg, *, rows, count, residual, seed, refuse=0.0, wide=False, in_place=True):
        rng = np.random.default_rng(seed)
        self.cfg, self.pads = cfg, Scratchpads(cfg, refuse=refuse, seed=seed)
        words = -(-count // cfg.tile)
        y_addr, x_addr, out_addr = 5, 300, 300 if in_place else 700
        stride = words + 1
        group = 1 if words < cfg.max_hidden // cfg.tile else 0
        norm = parameters(rng, count, wide=wide)
        self.bytes, self.unit = pack_norm_parameters(norm, cfg.tile), group * 8
        y, x = rows_of(rng, rows, count), rows_of(rng, rows, count)[::-1]
        place(self.pads.act, y, y_addr, stride, cfg.tile)
        place(self.pads.act, x, x_addr, stride, cfg.tile)
        out_shift, epsilon = int(rng.integers(14, 24)), int(rng.choice([0, 1000, (1 << 32) - 1]))
        operands = {
            "rows": rows - 1,
            "words": words,
            "count": count,
            "residual": int(residual),
            "y_addr": y_addr,
            "y_stride": stride,
            "x_addr": x_addr,
            "x_stride": stride,
            "out_addr": out_addr,
            "out_stride": stride,
            "rowstat": 9,
            "param": group,
            "inverse_count": inverse_count(count),
            "epsilon": epsilon,
            "out_shift": out_shift,
        }
        self.instruction = Instruction(Opcode.NORM, operands)
        result = layer_norm(y, x if residual else None, norm, epsilon=epsilon, out_shift=out_shift)
        self.act, self.rowstat = self.pads.act.copy(), self.pads.rowstat.copy()
        padded = np.pad(result, ((0, 0), (0, words * cfg.tile - count)))
        place(self.act, padded, out_addr, stride, cfg.tile)
        self.rowstat[9 : 9 + rows] = abs(result).max(1)

    async def load(self, ctx):
        tile = self.cfg.tile
        for unit in range(len(self.bytes) // tile):
            word = self.bytes[unit * tile : (unit + 1) * tile].tobytes()
            ctx.set(self.dut.vparam.addr, self.unit + unit)
            ctx.set(self.dut.vparam.data, int.from_bytes(word, "little"))
            ctx.set(self.dut.vparam.en, 1)
            await ctx.tick()
        ctx.set(self.dut.vparam.en, 0)

    def run(self):
        """Cycles of the instruction, after its results have been compared."""
        self.dut = VectorEngine(self.cfg)
        (cycles,) = run_engine(self.dut, self.pads, [self.instruction], before=self.load)
        assert (self.pads.act == self.act).all()
        assert (self.pads.rowstat == self.rowstat).all()
        return cycles


@pytest.mark.parametrize(
    ("rows", "count", "residual", "refuse"),
    [
        (16, 2, True, 0.0),
        (15, 4, False, 0.3),
        (9, 23, True, 0.8),
        (6, 64, True, 0.3),
        (4, 125, False, 0.0),
        (4, 128, True, 0.0),
    ],
)
def test_tiny_equals_golden(rows, count, residual, refuse):
    Case(TINY, rows=rows, count=count, residual=residual, refuse=refuse, seed=count).run()


@pytest.mark.parametrize("seed", range(4))
def test_all_shifts_equal_golden(seed):
    Case(TINY, rows=8, count=30, residual=True, wide=True, in_place=False, seed=seed).run()


@pytest.mark.parametrize(
    ("count", "residual", "refuse"), [(1024, True, 0.0), (100, True, 0.3), (37, False, 0.0)]
)
def test_pynq_equals_golden(count, residual, refuse):
    Case(PYNQ_Z2, rows=4, count=count, residual=residual, refuse=refuse, seed=count).run()


def test_one_row():
    Case(TINY, rows=1, count=16, residual=True, seed=1).run()


def test_rows_take_two_sweeps():
    words = 384 // PYNQ_Z2.tile
    short, long = (
        Case(PYNQ_Z2, rows=rows, count=384, residual=True, seed=rows).run() for rows in (3, 5)
    )
    assert (long - short) / 2 <= 4 * words + 2
    assert short <= 3 * 4 * words + 100
