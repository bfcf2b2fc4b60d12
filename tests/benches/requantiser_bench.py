"""cocotb tests of the epilogue's requantiser lanes."""

import cocotb
import numpy as np
import settings
from draws import KINDS
from pins import Pins

from transept.golden.numerics.fixed import Clipping
from transept.golden.numerics.requantise import ChannelParameters, requantise
from transept.golden.numerics.softmax import CONTEXT_KEYS
from transept.rtl.gemm.requantise import Requantiser

CFG = settings.config()
LANES = CFG.engines.epilogue_lanes
DESIGN = Requantiser(CFG)
BEATS = 400


def magnitudes(rng, bits, shape, kind):
    """Numbers of up to ``bits`` bits: of every magnitude, the largest, or mostly large ones."""
    value = rng.integers(0, 1 << bits, shape)
    if kind == "random":
        value >>= rng.integers(0, bits + 1, shape)
    share = 0.9 if kind == "extreme" else 0.1
    return np.where(rng.random(shape) < share, (1 << bits) - 1, value)


def shifts(rng, kind, low, high, shape):
    """A shift from ``low`` to ``high`` as compiled layers have it, else any of the field's."""
    limit = {31: 32, 23: 63, 4: 16}[high]
    return rng.integers(low, high + 1, shape) if kind == "real" else rng.integers(0, limit, shape)


def draw_beats(rng, kind):
    """Accumulators and parameters, one beat a cycle."""
    wide, narrow = (BEATS, LANES), (BEATS,)
    signs = rng.choice([-1, 1], (3, *wide))
    key_bits = CONTEXT_KEYS.bit_length() - 1
    has_columns, halves = (rng.random(narrow) < 0.5)[:, None], rng.random(narrow) < 0.3
    row_shift = shifts(rng, kind, 14, 23, narrow)
    return {
        "acc": magnitudes(rng, 26, wide, kind) * signs[0],
        "column_sum": magnitudes(rng, key_bits + 7, wide, kind) * signs[1] * has_columns,
        "halves": halves,
        "multiplier": magnitudes(rng, 16, wide, kind),
        "shift": shifts(rng, kind, 10, 31, wide),
        "bias": magnitudes(rng, 23, wide, kind) * signs[2],
        "row_multiplier": np.where(
            rng.random(narrow) < 0.1, 1 << 16, magnitudes(rng, 16, narrow, kind)
        ),
        "row_shift": row_shift >> rng.integers(0, 3, narrow),
        "pre": shifts(rng, kind, 0, 4, narrow),
        "out_shift": shifts(rng, kind, 0, 4, narrow),
    }


def golden(beats, n):
    """The outputs of one beat, and a bit for each that was clipped."""
    clipping = Clipping()
    channel = (beats[name][n] for name in ("multiplier", "shift", "bias"))
    factor = 1 if beats["halves"][n] else 127
    values = requantise(
        (beats["acc"] + factor * beats["column_sum"])[n : n + 1],
        ChannelParameters(*channel),
        beats["row_multiplier"][n : n + 1],
        np.zeros(1, dtype=np.int64),
        **{name: int(beats[name][n]) for name in ("pre", "row_shift", "out_shift")},
        bits=16,
        clip=clipping,
    )
    clipped = sum(1 << lane for lane in np.flatnonzero(clipping.elements[0]).tolist())
    return values[0].tolist(), clipped


def payload(beats, n):
    names = ("acc", "column_sum", "halves", "row_multiplier", "row_shift", "pre", "out_shift")
    channels = [
        {name: beats[name][n, lane] for name in ("multiplier", "shift", "bias")}
        for lane in range(LANES)
    ]
    return {name: beats[name][n] for name in names} | {"channel": channels}


@cocotb.test()
@cocotb.parametrize(kind=KINDS)
async def matches_golden_and_holds_its_latency(dut, kind):
    pins, beats = Pins(dut, DESIGN), draw_beats(settings.generator(KINDS.index(kind)), kind)
    expected = [golden(beats, n) for n in range(BEATS)]
    got = []
    await pins.start()
    for cycle in range(BEATS + DESIGN.LATENCY):
        if cycle < BEATS:
            pins.set("i", payload(beats, cycle))
        await pins.tick()
        if cycle >= DESIGN.LATENCY:
            got.append((pins.get("o"), pins.get("clipped")))
    assert got == expected
    # the parameters leave something to compare
    outputs = [values for values, _ in expected]
    assert len(np.unique(outputs)) > (BEATS // 2 if kind == "random" else 10)
    assert len({clipped for _, clipped in expected}) > 2
