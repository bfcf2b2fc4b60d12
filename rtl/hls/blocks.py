"""The five blocks by high-level synthesis, and who asks for them: ``Config.hls``."""

from __future__ import annotations

from amaranth import Cat, Module
from amaranth.lib import wiring

from transept.golden.config import Config
from transept.hls import kernels
from transept.rtl.arith.pipeline import delay
from transept.rtl.arith.polynomial import VALUE_BITS
from transept.rtl.arith.reciprocal import Rsqrt
from transept.rtl.attention.filters.window import WindowFilter
from transept.rtl.gemm.interpolation import Interpolation
from transept.rtl.gemm.requantise import Requantiser
from transept.rtl.hls.instance import add_process, pipeline
from transept.rtl.softmax.exponential import LEVEL_BITS, Exponential

__all__ = [
    "HlsExponential",
    "HlsInterpolation",
    "HlsRequantiser",
    "HlsRsqrt",
    "HlsWindowFilter",
    "chosen",
]


class HlsExponential(Exponential):
    """``Exponential`` by high-level synthesis."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inputs = {"score": self.score, "maximum": self.maximum, "dither": self.dither}
        level = pipeline(m, platform, kernels.exponential(), LEVEL_BITS, self.LATENCY, inputs)
        m.d.comb += self.level.eq(level)
        return m


class HlsInterpolation(Interpolation):
    """``Interpolation`` by high-level synthesis."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inputs = {
            "offset": self.offset,
            "base": self.base,
            **{name: self.segment[name] for name in ("c0", "c1", "c2")},
            "slope_shift": self.slope_shift,
            "out_shift": self.out_shift,
        }
        results = pipeline(m, platform, kernels.interpolation(), 17, self.LATENCY, inputs)
        m.d.comb += Cat(self.o, self.clipped).eq(results)
        return m


class HlsRsqrt(Rsqrt):
    """``Rsqrt`` by high-level synthesis."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inputs = {"v": self.i.payload}
        m.d.comb += [
            self.o.valid.eq(delay(m, self.i.valid, self.LATENCY)),
            self.o.payload.eq(
                pipeline(m, platform, kernels.rsqrt(), VALUE_BITS + 5, self.LATENCY, inputs)
            ),
        ]
        return m


class HlsRequantiser(Requantiser):
    """``Requantiser`` by high-level synthesis: one kernel for each lane."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shared = ("row_multiplier", "row_shift", "pre", "out_shift")
        for lane in range(self._cfg.engines.epilogue_lanes):
            inputs = {
                "acc": self.i.acc[lane],
                "column_sum": self.i.column_sum[lane],
                "halves": self.i.halves,
                **{name: self.i.channel[lane][name] for name in ("multiplier", "shift", "bias")},
                **{name: self.i[name] for name in shared},
            }
            name = f"lane_{lane}"
            results = pipeline(
                m, platform, kernels.requantiser(), 17, self.LATENCY, inputs, submodule=name
            )
            m.d.comb += Cat(self.o[lane], self.clipped[lane]).eq(results)
        return m


class HlsWindowFilter(WindowFilter):
    """``WindowFilter`` by high-level synthesis: a process with two channels."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        asked, answer = self.request, self.select
        names = ("parameter", "keys", "key_base", "position")
        add_process(
            m,
            platform,
            kernels.window(self._cfg),
            # a structure's first field is its highest
            i_request_data=Cat(asked.payload[name] for name in reversed(names)),
            i_request_valid=asked.valid,
            o_request_ready=asked.ready,
            o_select_data=answer.payload.as_value(),
            o_select_valid=answer.valid,
            i_select_ready=answer.ready,
        )
        return m


_TWINS: dict[type[wiring.Component], tuple[str, type[wiring.Component]]] = {
    Exponential: ("exponential", HlsExponential),
    Interpolation: ("interpolation", HlsInterpolation),
    Rsqrt: ("rsqrt", HlsRsqrt),
    Requantiser: ("requantiser", HlsRequantiser),
    WindowFilter: ("window", HlsWindowFilter),
}


def chosen(cfg: Config, block: type) -> type:
    """The component that the configuration has in place of ``block``; itself if it has no other."""
    name, twin = _TWINS.get(block, ("", block))
    return twin if name in cfg.hls else block
