import numpy as np
import pytest
from amaranth.sim import Simulator

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.numerics.requantise import ChannelParameters, requantise
from transept.rtl.gemm.requantise import Requantiser

BEATS = 400


def random_beats(lanes, key_bits, rng):
    """Accumulators and parameters of every magnitude, and the corners of each."""

    def magnitudes(bits, shape):
        value = rng.integers(0, 1 << bits, shape) >> rng.integers(0, bits + 1, shape)
        return np.where(rng.random(shape) < 0.1, (1 << bits) - 1, value)

    def signs(shape):
        return rng.choice([-1, 1], shape)

    wide, narrow = (BEATS, lanes), (BEATS,)
    return {
        "acc": magnitudes(26, wide) * signs(wide),
        "column_sum": magnitudes(key_bits + 7, wide)
        * signs(wide)
        * (rng.random(narrow) < 0.5)[:, None],
        "multiplier": magnitudes(16, wide),
        "shift": rng.integers(0, 32, wide),
        "bias": magnitudes(23, wide) * signs(wide),
        "row_multiplier": np.where(rng.random(narrow) < 0.1, 1 << 16, magnitudes(16, narrow)),
        "row_shift": rng.integers(0, 63, narrow) >> rng.integers(0, 3, narrow),
        "pre": rng.integers(0, 16, narrow),
        "out_shift": rng.integers(0, 16, narrow),
    }


def golden(beats):
    channel = ChannelParameters(beats["multiplier"], beats["shift"], beats["bias"])
    rows = []
    for n in range(BEATS):
        rows.append(
            requantise(
                (beats["acc"] + 127 * beats["column_sum"])[n : n + 1],
                ChannelParameters(channel.multiplier[n], channel.shift[n], channel.bias[n]),
                beats["row_multiplier"][n : n + 1],
                np.zeros(1, dtype=np.int64),
                pre=int(beats["pre"][n]),
                row_shift=int(beats["row_shift"][n]),
                out_shift=int(beats["out_shift"][n]),
                bits=16,
            )[0]
        )
    return np.array(rows)


def payload(beats, n, lanes):
    row = {
        name: int(beats[name][n]) for name in ("row_multiplier", "row_shift", "pre", "out_shift")
    }
    names = ("multiplier", "shift", "bias")
    channels = [{name: int(beats[name][n, lane]) for name in names} for lane in range(lanes)]
    return row | {
        "acc": beats["acc"][n].tolist(),
        "column_sum": beats["column_sum"][n].tolist(),
        "channel": channels,
    }


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda c: c.name)
def test_matches_golden_and_holds_its_latency(cfg):
    beats = random_beats(
        cfg.epilogue_lanes, cfg.max_keys.bit_length() - 1, np.random.default_rng(1)
    )
    dut = Requantiser(cfg)
    got = []

    async def bench(ctx):
        for cycle in range(BEATS + dut.LATENCY):
            if cycle < BEATS:
                ctx.set(dut.i, payload(beats, cycle, cfg.epilogue_lanes))
            if cycle >= dut.LATENCY:
                got.append(list(ctx.get(dut.o)))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    expected = golden(beats)
    assert (np.array(got) == expected).all()
    assert len(np.unique(expected)) > BEATS // 2  # the parameters leave something to compare
