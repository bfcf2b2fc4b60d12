"""From accumulators to int16: the requantiser of the GEMM epilogue."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.golden.numerics.requantise import ACCUMULATOR_BITS
from transept.golden.numerics.softmax import OFFSET
from transept.rtl.arith.pipeline import delay
from transept.rtl.arith.shifter import RoundShift
from transept.rtl.gemm.accumulator import MULTIPLIER_BITS
from transept.rtl.gemm.parameters import CHANNEL
from transept.rtl.gemm.stationary import column_sums_layout
from transept.rtl.interfaces import operand

__all__ = ["ROW_SHIFT_BITS", "Requantiser", "requantise_layout"]

#: Bits of the row shift: a product of 42 bits is zero after 42 places, larger shifts saturate here.
ROW_SHIFT_BITS = operand(Opcode.MATMUL, "row_shift").width
FACTOR_BITS = 25
PRODUCT_LATENCY = 1


def requantise_layout(cfg: Config) -> data.StructLayout:
    """``epilogue_lanes`` accumulators of one row with their parameters.

    ``column_sum`` is that of the stationary tiles for CONTEXT, what the lower ``halves`` of rows
    add, or 0; ``row_shift`` includes the exponent of the row.
    """
    lanes = cfg.engines.epilogue_lanes
    column_sum = column_sums_layout(cfg).elem_shape
    return data.StructLayout(
        {
            "acc": data.ArrayLayout(signed(ACCUMULATOR_BITS), lanes),
            "column_sum": data.ArrayLayout(column_sum, lanes),
            "halves": 1,
            "channel": data.ArrayLayout(CHANNEL, lanes),
            "row_multiplier": MULTIPLIER_BITS,
            "row_shift": ROW_SHIFT_BITS,
            "pre": operand(Opcode.MATMUL, "pre"),
            "out_shift": operand(Opcode.MATMUL, "out_shift"),
        }
    )


class Requantiser(wiring.Component):
    """``epilogue_lanes`` outputs a cycle: channel multiplier, row multiplier, bias, to int16.

    ::

        a = sat25(round((acc + (1 if halves else 127) * column_sum) / 2**pre))
        v = sat25(round(a * multiplier / 2**shift))
        z = sat25(round(v * row_multiplier / 2**row_shift))
        y = sat16(round((z + bias) / 2**out_shift))

    ``clipped`` names the lanes of which any step was saturated.

    Latency LATENCY, never stalls; three DSP slices a lane. Golden model: ``requantise``.

    Members
    -------
    i : In(requantise_layout)
    o : Out(int16[epilogue_lanes]), clipped : Out(bit for each)
    """

    SUM_LATENCY = 1
    SCALED = RoundShift.LATENCY + PRODUCT_LATENCY
    LATENCY = SUM_LATENCY + 2 * SCALED + RoundShift.LATENCY + SUM_LATENCY + RoundShift.LATENCY

    i: data.View
    o: data.View
    clipped: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        lanes = cfg.engines.epilogue_lanes
        super().__init__(
            {
                "i": In(requantise_layout(cfg)),
                "o": Out(data.ArrayLayout(signed(16), lanes)),
                "clipped": Out(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        def later(value: object, cycles: int) -> object:
            return delay(m, value, cycles, reset_less=True)

        # cycles at which each parameter meets the data
        at_channel = self.SUM_LATENCY + RoundShift.LATENCY
        at_row = at_channel + self.SCALED
        at_bias = at_row + self.SCALED
        pre = later(self.i.pre, self.SUM_LATENCY)
        row_multiplier = later(self.i.row_multiplier, at_row)
        row_shift = later(self.i.row_shift, at_row + PRODUCT_LATENCY)
        out_shift = later(self.i.out_shift, at_bias + self.SUM_LATENCY)

        for lane in range(self._cfg.engines.epilogue_lanes):
            channel = self.i.channel[lane]
            total = Signal(signed(ACCUMULATOR_BITS + 1), name=f"total_{lane}")
            column_sum = self.i.column_sum[lane]
            m.d.sync += total.eq(self.i.acc[lane] + column_sum * Mux(self.i.halves, 1, OFFSET))
            a, a_clipped = self._shift(m, f"pre_{lane}", total, pre, FACTOR_BITS)
            v, v_clipped = self._scale(
                m,
                f"channel_{lane}",
                a,
                later(channel.multiplier, at_channel),
                later(channel.shift, at_channel + PRODUCT_LATENCY),
            )
            z, z_clipped = self._scale(m, f"row_{lane}", v, row_multiplier, row_shift)
            biased = Signal(signed(FACTOR_BITS + 1), name=f"biased_{lane}")
            m.d.sync += biased.eq(z + later(channel.bias, at_bias))
            y, y_clipped = self._shift(m, f"out_{lane}", biased, out_shift, 16)
            clipped = later(a_clipped, self.SCALED) | v_clipped
            clipped = later(clipped, self.SCALED) | z_clipped
            clipped = later(clipped, self.SUM_LATENCY + RoundShift.LATENCY) | y_clipped
            m.d.comb += [self.o[lane].eq(y), self.clipped[lane].eq(clipped)]
        return m

    def _shift(
        self, m: Module, name: str, x: Signal, shift: Signal, bits: int
    ) -> tuple[Signal, Signal]:
        """The rounded value, and whether it was clipped."""
        m.submodules[name] = shifter = RoundShift(len(x), len(shift), bits)
        m.d.comb += [shifter.x.eq(x), shifter.shift.eq(shift)]
        return shifter.o, shifter.clipped

    def _scale(
        self, m: Module, name: str, x: Signal, factor: Signal, shift: Signal
    ) -> tuple[Signal, Signal]:
        """``sat25(round(x * factor / 2**shift))``; ``shift`` is one cycle later than ``factor``."""
        product = Signal(signed(len(x) + len(factor)), name=f"product_{name}")
        m.d.sync += product.eq(x * factor)
        return self._shift(m, name, product, shift, FACTOR_BITS)
