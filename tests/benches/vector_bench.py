"""cocotb tests of the vector unit: residual sums and norms, sums and products of elements."""

import cocotb
import numpy as np
import settings
from pins import Pins
from scratchpads import Scratchpads, run_engine

from transept.golden.isa import TALLIES, Instruction, Opcode, Operation, OutMode
from transept.golden.layouts import pack_norm_parameters
from transept.golden.numerics.elementwise import combine
from transept.golden.numerics.fixed import Clipping
from transept.golden.numerics.norm import (
    NormParameters,
    inverse_count,
    normalise,
    residual_sum,
    rounded_sum,
)
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
        sum_shift=rng.integers(0, shifts, count),
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


class Expected:
    """One instruction, the memories before it (``pads``) and what they must hold afterwards; bytes:
    of VPARAM, from ``unit`` on."""

    bytes, unit = np.zeros(0, np.uint8), 0

    async def load(self, pins):
        for unit, word in enumerate(self.bytes.reshape(-1, CFG.tile)):
            data = int.from_bytes(word.tobytes(), "little")
            pins.put("vparam", addr=self.unit + unit, data=data, en=1)
            await pins.tick()
        pins.set("vparam__en", 0)

    async def run(self, dut):
        """Cycles of the instruction, after its results have been compared."""
        pins, told = Pins(dut, DESIGN), []

        async def listen():
            while True:
                await pins.settle()
                if pins.raw("clipped__valid"):
                    told.append(pins.get("clipped__payload"))

        await pins.start()
        cocotb.start_soon(listen())
        await self.load(pins)
        (cycles,) = await run_engine(pins, self.pads, [self.instruction])
        assert (self.pads.act == self.act).all()
        assert (self.pads.rowstat == self.rowstat).all()
        assert told == [{"tally": self.tally, "count": self.clipped}]
        return cycles


class Case(Expected):
    """One NORM instruction, the memories before it and what they must hold afterwards.

    write: what is written ("out", "sum" or both); in_place: sum and result go over X and Y.
    """

    def __init__(
        self,
        rng,
        *,
        rows,
        count,
        residual,
        refuse=0.0,
        wide=False,
        in_place=True,
        centre=True,
        write=("out",),
    ):
        self.pads = Scratchpads(CFG, rng, refuse=refuse)
        words = -(-count // CFG.tile)
        y_addr, x_addr = 5, 300
        places = dict(zip(write[::-1], (x_addr, y_addr) if in_place else (700, 1000), strict=False))
        stride = words + 1
        group = 1 if words < CFG.geometry.max_hidden // CFG.tile else 0
        norm = norm_parameters(rng, count, wide=wide)
        self.bytes, self.unit = pack_norm_parameters(norm, CFG.tile), group * 8
        y, x = rows_of(rng, rows, count), rows_of(rng, rows, count)[::-1]
        place(self.pads.act, y, y_addr, stride)
        place(self.pads.act, x, x_addr, stride)
        self.tally = int(rng.integers(0, TALLIES))
        operands = {
            "rows": rows - 1,
            "words": words,
            "count": count,
            "residual": int(residual),
            "centre": int(centre),
            "normalise": int("out" in write),
            "sum": int("sum" in write),
            "y_addr": y_addr,
            "y_stride": stride,
            "x_addr": x_addr,
            "x_stride": stride,
            "out_addr": places.get("out", 0),
            "out_stride": stride,
            "sum_addr": places.get("sum", 0),
            "sum_stride": stride,
            "rowstat": ROWSTAT,
            "param": group,
            "inverse_count": inverse_count(max(2, count)),
            "epsilon": int(rng.choice([0, 1000, (1 << 32) - 1])),
            "out_shift": int(rng.integers(14, 24)),
            "tally": self.tally,
        }
        self.instruction = Instruction(Opcode.NORM, operands)
        self.expect(y, x if residual else None, norm)

    def expect(self, y, x, norm):
        """Memories after the instruction, and how many elements it clips."""
        i, clipping = self.instruction, Clipping()
        z = residual_sum(y, x, norm, clipping)
        self.act, self.rowstat = self.pads.act.copy(), self.pads.rowstat.copy()
        results = []
        if i.sum:
            results.append((i.sum_addr, rounded_sum(z, norm, clipping)))
        if i.normalise:
            options = {"epsilon": i.epsilon, "out_shift": i.out_shift, "centre": bool(i.centre)}
            results.append((i.out_addr, normalise(z, norm, **options, clip=clipping)))
        for addr, result in results:
            padded = np.pad(result, ((0, 0), (0, i.words * CFG.tile - i.count)))
            place(self.act, padded, addr, i.out_stride)
        self.rowstat[ROWSTAT : ROWSTAT + len(y)] = abs(result).max(1)
        self.clipped = int(clipping.elements.sum())


class Elementwise(Expected):
    """One ELEMENTWISE instruction; in_place: the result goes over X."""

    def __init__(
        self, rng, *, rows, count, operation, mode, shift, stats=True, refuse=0.0, in_place=False
    ):
        self.pads = Scratchpads(CFG, rng, refuse=refuse)
        words = -(-count // CFG.tile)
        stride, addresses = words + 1, {"y": 5, "x": 300, "out": 300 if in_place else 700}
        y, x = rows_of(rng, rows, count), rows_of(rng, rows, count)[::-1]
        place(self.pads.act, y, addresses["y"], stride)
        place(self.pads.act, x, addresses["x"], stride)
        self.tally, clipping = int(rng.integers(0, TALLIES)), Clipping()
        operands = {
            "rows": rows - 1,
            "words": words,
            "count": count,
            "shift": shift,
            **{f"{name}_addr": addr for name, addr in addresses.items()},
            **{f"{name}_stride": stride for name in addresses},
            "tally": self.tally,
            "out_mode": mode,
            "stats": int(stats),
            "operation": operation,
            "rowstat": ROWSTAT,
        }
        self.instruction = Instruction(Opcode.ELEMENTWISE, operands)
        bits = 8 if mode == OutMode.ACT8 else 16
        result = combine(y, x, operation, shift=shift, bits=bits, clip=clipping)
        self.clipped = int(clipping.elements.sum())
        self.act, self.rowstat = self.pads.act.copy(), self.pads.rowstat.copy()
        padded = np.pad(result, ((0, 0), (0, words * CFG.tile - count)))
        place(self.act, padded, addresses["out"], stride)
        if stats:
            self.rowstat[ROWSTAT : ROWSTAT + rows] = abs(result).max(1)


@cocotb.test()
@cocotb.parametrize(
    shape=[tuple(shape) for shape in parameters()["shapes"]], refuse=[0.0, 0.3, 0.8]
)
async def equals_golden(dut, shape, refuse):
    rows, count, residual = shape
    rng = settings.generator(count)
    await Case(rng, rows=rows, count=count, residual=residual, refuse=refuse).run(dut)


@cocotb.test()
@cocotb.parametrize(
    shape=[tuple(shape) for shape in parameters()["shapes"]],
    write=[("out",), ("sum",), ("sum", "out")],
    refuse=[0.0, 0.4],
)
async def every_way_to_write_equals_golden(dut, shape, write, refuse):
    """RMSNorm, the sum alone, both; in place and elsewhere."""
    rows, count, residual = shape
    for case, in_place in enumerate((False, True)):
        rng = settings.generator(4000, count, case, len(write))
        options = {"centre": case, "write": write, "in_place": in_place, "refuse": refuse}
        await Case(rng, rows=rows, count=count, residual=residual, **options).run(dut)


@cocotb.test()
@cocotb.parametrize(case=range(4), write=[("out",), ("sum", "out")])
async def all_shifts_equal_golden(dut, case, write):
    rng = settings.generator(2000, case)
    options = {"wide": True, "in_place": False, "write": write}
    await Case(rng, rows=8, count=30, residual=True, **options).run(dut)


async def row_cycles(dut, write):
    """Cycles of one more row, and of three rows, in units of a visit to a row."""
    count = CFG.geometry.max_hidden * 3 // 8
    words = count // CFG.tile
    options = {"count": count, "residual": True, "write": write}
    short, long = [
        await Case(settings.generator(3000), rows=rows, **options).run(dut) for rows in (3, 5)
    ]
    visit = words * CFG.tile // CFG.engines.vector_lanes
    return (long - short) / 2, short, visit


@cocotb.test()
@cocotb.parametrize(write=[("out",), ("sum",), ("sum", "out")])
async def a_row_is_visited_for_its_statistics_and_for_each_result(dut, write):
    row, three_rows, visit = await row_cycles(dut, write)
    visits = len(write) + ("out" in write)
    assert row <= visits * visit + 2
    assert three_rows <= 3 * visits * visit + 100


@cocotb.test()
@cocotb.parametrize(
    shape=[tuple(shape) for shape in parameters()["shapes"]],
    operation=[Operation.SUM, Operation.PRODUCT],
    mode=[OutMode.ACT16, OutMode.ACT8],
    refuse=[0.0, 0.4],
)
async def sums_and_products_equal_golden(dut, shape, operation, mode, refuse):
    rows, count, _ = shape
    for case, in_place in enumerate((False, True)):
        rng = settings.generator(5000, count, case, operation, mode)
        shift = int(rng.integers(0, 16))
        options = {"operation": operation, "mode": mode, "shift": shift, "refuse": refuse}
        options |= {"stats": bool(case), "in_place": in_place}
        await Elementwise(rng, rows=rows, count=count, **options).run(dut)


@cocotb.test()
@cocotb.parametrize(shift=range(16), mode=[OutMode.ACT16, OutMode.ACT8])
async def all_shifts_of_products_equal_golden(dut, shift, mode):
    """Also in rows that no norm would take, and with parameters of a norm on chip."""
    rng = settings.generator(6000, shift)
    before = Case(rng, rows=1, count=8, residual=True, wide=True)
    count = min(4095, CFG.geometry.max_hidden + CFG.tile + 1)
    case = Elementwise(
        rng, rows=2, count=count, operation=Operation.PRODUCT, mode=mode, shift=shift
    )
    case.bytes, case.unit = before.bytes, 0
    await case.run(dut)


@cocotb.test()
async def a_row_of_a_product_is_visited_once(dut):
    count = CFG.geometry.max_hidden * 3 // 8
    options = {"count": count, "operation": Operation.PRODUCT, "mode": OutMode.ACT16, "shift": 15}
    short, long = [
        await Elementwise(settings.generator(7000), rows=rows, **options).run(dut)
        for rows in (3, 5)
    ]
    visit = count // CFG.tile * CFG.tile // CFG.engines.vector_lanes
    assert (long - short) / 2 <= visit + 2
