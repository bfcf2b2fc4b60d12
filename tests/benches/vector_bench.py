"""cocotb tests of the vector unit: LayerNorm with and without residual."""

import cocotb
import numpy as np
import settings
from pins import Pins
from scratchpads import Scratchpads, run_engine

from transept.golden.isa import Instruction, Opcode
from transept.golden.layouts import pack_norm_parameters
from transept.golden.numerics.norm import NormParameters, inverse_count, layer_norm
from transept.rtl.vector.engine import VectorEngine
from transept.sim.cocotb_runner import parameters

CFG = settings.config()
DESIGN = VectorEngine(CFG)
ROWSTAT = 9


def norm_parameters(rng, count, *, wide):
    shifts = 16 if wide else 9
    return NormParameters(
        gamma=rng.integers(-(1 << 17), 1 << 17, count),
        beta=rng.integers(-(1 << 23), 1 << 23, count),
        y_shift=rng.integers(0, shifts, count),
        x_shift=rng.integers(0, shifts, count),
    )


def rows_of(rng, rows, count):
    """int16 rows, each of another kind: small, constant, extreme, ordinary with outliers."""
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
            spread = np.where(rng.random(count) < 0.01, 20_000, 1500)
            result[m] = np.rint(rng.normal(0, spread)).clip(-32767, 32767).astype(np.int64)
    return result


def place(act, block, addr, stride):
    for m, row in enumerate(block):
        words = -(-len(row) // CFG.tile)
        act[addr + m * stride : addr + m * stride + words].reshape(-1)[: len(row)] = row


class Case:
    """One NORM instruction, the memories before it and what they must hold afterwards."""

    def __init__(self, rng, *, rows, count, residual, refuse=0.0, wide=False, in_place=True):
        self.pads = Scratchpads(CFG, rng, refuse=refuse)
        words = -(-count // CFG.tile)
        y_addr, x_addr, out_addr = 5, 300, 300 if in_place else 700
        stride = words + 1
        group = 1 if words < CFG.geometry.max_hidden // CFG.tile else 0
        norm = norm_parameters(rng, count, wide=wide)
        self.bytes, self.unit = pack_norm_parameters(norm, CFG.tile), group * 8
        y, x = rows_of(rng, rows, count), rows_of(rng, rows, count)[::-1]
        place(self.pads.act, y, y_addr, stride)
        place(self.pads.act, x, x_addr, stride)
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
            "rowstat": ROWSTAT,
            "param": group,
            "inverse_count": inverse_count(count),
            "epsilon": epsilon,
            "out_shift": out_shift,
        }
        self.instruction = Instruction(Opcode.NORM, operands)
        result = layer_norm(y, x if residual else None, norm, epsilon=epsilon, out_shift=out_shift)
        self.act, self.rowstat = self.pads.act.copy(), self.pads.rowstat.copy()
        padded = np.pad(result, ((0, 0), (0, words * CFG.tile - count)))
        place(self.act, padded, out_addr, stride)
        self.rowstat[ROWSTAT : ROWSTAT + rows] = abs(result).max(1)

    async def load(self, pins):
        for unit, word in enumerate(self.bytes.reshape(-1, CFG.tile)):
            data = int.from_bytes(word.tobytes(), "little")
            pins.put("vparam", addr=self.unit + unit, data=data, en=1)
            await pins.tick()
        pins.set("vparam__en", 0)

    async def run(self, dut):
        """Cycles of the instruction, after its results have been compared."""
        pins = Pins(dut, DESIGN)
        await pins.start()
        await self.load(pins)
        (cycles,) = await run_engine(pins, self.pads, [self.instruction])
        assert (self.pads.act == self.act).all()
        assert (self.pads.rowstat == self.rowstat).all()
        return cycles


@cocotb.test()
@cocotb.parametrize(
    shape=[tuple(shape) for shape in parameters()["shapes"]], refuse=[0.0, 0.3, 0.8]
)
async def equals_golden(dut, shape, refuse):
    rows, count, residual = shape
    rng = settings.generator(count)
    await Case(rng, rows=rows, count=count, residual=residual, refuse=refuse).run(dut)


@cocotb.test()
@cocotb.parametrize(case=range(4))
async def all_shifts_equal_golden(dut, case):
    rng = settings.generator(2000, case)
    await Case(rng, rows=8, count=30, residual=True, wide=True, in_place=False).run(dut)


@cocotb.test()
async def rows_take_two_sweeps(dut):
    count = CFG.geometry.max_hidden * 3 // 8
    words = count // CFG.tile
    short, long = [
        await Case(settings.generator(3000), rows=rows, count=count, residual=True).run(dut)
        for rows in (3, 5)
    ]
    sweeps = 2 * words * CFG.tile // CFG.engines.vector_lanes
    assert (long - short) / 2 <= sweeps + 2
    assert short <= 3 * sweeps + 100
