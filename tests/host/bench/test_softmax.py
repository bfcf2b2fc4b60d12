"""The bench of the softmax: errors worked out by hand, and a program that runs the unit alone."""

import numpy as np
import pytest

from transept.golden import isa
from transept.golden.config import PYNQ_Z2, TINY
from transept.host.bench import softmax
from transept.host.bench.softmax import bench_softmax, row_errors
from transept.host.runtime.driver import Driver

#: Scores in 256ths of a power of two, what the unit makes of them, and levels out of 254.
SCORES = np.array([[0, -300, -1000, -90], [5, 5, 5, 5], [700, 0, 699, -9000]])
UNIT = np.array([[130048, 57720, 8674, 101925], [130048] * 4, [130048, 19543, 129697, 0]])
LEVELS = np.array([[254, 113, 17, 199], [254] * 4, [254, 39, 253, 0]])
#: On three rows of six keys.
PROGRAM = """\
LOAD rows=1 words=8 memory=STAT window=WEIGHTS
LOAD rows=3 words=1 stride=1 pitch=1 memory=ACT window=WEIGHTS signal=GEMM
SCORES rows=2 keys=5 s_addr=1344 q_stride=1 s_stride=2 row_shift=15 d_tiles=1 filter=DENSE \
wait=LOAD signal=LOAD
LOAD rows=3 words=2 addr=1344 stride=2 pitch=4 memory=ACT wide=1 stats=1 window=IO \
wait=GEMM signal=SOFTMAX
SOFTMAX rows=2 keys=5 addr=1344 stride=2 wait=LOAD signal=STORE
STORE rows=3 words=2 addr=1344 stride=2 pitch=4 memory=ACT wide=1 window=IO offset=48 wait=SOFTMAX
END"""


def shares(rows):
    return rows / rows.sum(1, keepdims=True)


def test_errors_are_distances_from_the_softmax_of_the_same_scores():
    exact = shares(2.0 ** (SCORES / 256))
    assert row_errors(SCORES) == pytest.approx(
        {
            "l1_unit_mean": abs(shares(UNIT) - exact).sum() / 3,
            "l1_quantised_mean": abs(shares(LEVELS) - exact).sum() / 3,
            "row_sum_error_max": 0.0,
        }
    )


def test_a_wrong_row_sum_is_an_error(monkeypatch):
    sums = LEVELS.sum(1) * [1, 2, 1]
    monkeypatch.setattr(softmax, "softmax_rows", lambda scores, maxima: (LEVELS - 127, sums))
    assert row_errors(SCORES)["row_sum_error_max"] == 0.5


def test_the_unit_runs_alone():
    program = isa.decode_program(softmax._program(TINY, 3, 6))
    assert "\n".join(map(str, program)) == PROGRAM


def test_cycles_and_mismatches_are_of_the_rows_that_fit(monkeypatch):
    """Two elements are made to differ."""
    keys, rows, reports, found = 22, TINY.geometry.max_rows, [], []

    class Watched(Driver):
        def execute(self, *arguments):
            reports.append(super().execute(*arguments))
            return reports[-1]

    def wrong(scores, maxima):
        assert (maxima == scores.max(1)).all()
        operands, sums = rows_of(scores, maxima)
        operands[0, 0] += 1
        operands[-1, -1] -= 1
        found.append(scores)
        return operands, sums

    rows_of = softmax.softmax_rows
    monkeypatch.setattr(softmax, "Driver", Watched)
    monkeypatch.setattr(softmax, "softmax_rows", wrong)
    scores = np.random.default_rng(0).integers(-900, 900, (40, keys))
    unit = softmax._unit(TINY, scores, "rtl", {"seed": 1})
    (report,), (positive,) = reports, found
    assert positive.shape == (rows, keys)
    assert (positive == scores[:rows] - scores[:rows].min() + 1).all()
    assert unit == {"cycles_per_element": report.busy["SOFTMAX"] / (rows * keys), "mismatches": 2}
    assert unit["cycles_per_element"] > 0


def test_the_emulator_knows_no_cycles(monkeypatch):
    """Of 32 rows of 64 keys 16 fill the last bank, which has 256 words of 4."""
    shapes = []
    rows_of = softmax.softmax_rows
    monkeypatch.setattr(
        softmax, "softmax_rows", lambda x, top: shapes.append(x.shape) or rows_of(x, top)
    )
    assert softmax.DRAM_BYTES == 1 << 22
    scores = np.random.default_rng(0).integers(-900, 900, (40, 64))
    config = TINY.replace(name="other", max_rows=32)
    unit = softmax._unit(config, scores, "emulator", {"seed": 1})
    assert unit == {"cycles_per_element": None, "mismatches": 0}
    assert shapes[-1] == (16, 64)


def test_distributions():
    drawn = {
        name: draw(np.random.default_rng(3), (200, 3))
        for name, draw in softmax.DISTRIBUTIONS.items()
    }
    rng = np.random.default_rng(3).standard_normal((200, 3))
    assert list(drawn) == ["N(0,1)", "N(0,3)", "flat", "one-hot"]
    assert np.allclose(drawn["N(0,1)"], rng)
    assert np.allclose(drawn["N(0,3)"], 3 * rng)
    assert not drawn["flat"].any()
    assert drawn["flat"].shape == (200, 3)
    hot = drawn["one-hot"]
    assert (hot.sum(1) == 20).all()
    assert (hot.max(1) == 20).all()
    assert (np.bincount(hot.argmax(1), minlength=3) > 40).all()


def test_a_row_for_every_length_and_distribution(monkeypatch):
    """Scores are log2 units with 8 fractional bits: 20 is 20 * 256 / ln 2."""
    asked = []

    def unit(config, scores, device, options):
        asked.append((config, scores.shape, scores.max(), device, options))
        return {"mismatches": 0}

    monkeypatch.setattr(softmax, "_unit", unit)
    monkeypatch.setattr(softmax, "row_errors", lambda scores: {"error": scores.shape})
    rows = bench_softmax(PYNQ_Z2, device="rtl", seed=3, memory="board")
    names = ["N(0,1)", "N(0,3)", "flat", "one-hot"]
    assert rows == [
        {
            **{"length": length, "rows": 256, "distribution": name},
            **{"error": (256, length), "mismatches": 0},
        }
        for length in (128, 1024)
        for name in names
    ]
    options = {"seed": 3, "memory": "board"}
    assert [(*a[:2], *a[3:]) for a in asked] == [
        (PYNQ_Z2, (256, n), "rtl", options) for n in (128, 1024) for _ in names
    ]
    assert [largest for _, _, largest, _, _ in asked[2:4]] == [0, round(20 * 256 / np.log(2))]
