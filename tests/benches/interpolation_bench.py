"""cocotb test of the interpolation of an activation's table."""

import cocotb
import settings
from kernel_vectors import POINTS, VECTORS, WIDTHS
from pins import Pins

from transept.rtl.gemm.interpolation import Interpolation

DESIGN = Interpolation()
COUNT = 3000


@cocotb.test()
async def matches_golden_and_holds_its_latency(dut):
    pins, latency = Pins(dut, DESIGN), DESIGN.LATENCY
    arguments, expected = VECTORS["interpolation"](settings.generator(1), COUNT)
    got = []
    await pins.start()
    for part in arguments.reshape(-1, POINTS, arguments.shape[-1]):
        for cycle in range(POINTS + latency):
            if cycle < POINTS:
                facts = dict(zip(WIDTHS["interpolation"][0], part[cycle].tolist(), strict=True))
                pins.set("segment", {name: facts.pop(name) for name in ("c2", "c1", "c0")})
                for name, value in facts.items():
                    pins.set(name, value)
            await pins.tick()
            if cycle >= latency:
                got.append((pins.get("o"), pins.get("clipped")))
    assert got == [tuple(row) for row in expected.tolist()]
