"""The kernels in C++, compiled with the open headers of Vitis, against their golden functions."""

import math
import subprocess

import numpy as np
import pytest
from kernel_vectors import VECTORS, exponential

from transept.golden.filters import QueryBlock, Window, kept_tiles
from transept.golden.layouts import pack_channel_parameters
from transept.golden.numerics.requantise import ChannelParameters, requantise
from transept.hls.headers import sources, write
from transept.sim import tools
from transept.sim.hls import vitis_simulator

ABSENT = tools.missing(tools.VITIS_HEADERS)
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=tools.absence(ABSENT))


def simulate(kernel, numbers):
    text = "\n".join(map(str, np.concatenate([np.ravel(part) for part in numbers]).tolist()))
    command = [vitis_simulator(), kernel]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return np.array(done.stdout.split(), np.int64)


@pytest.mark.parametrize("kernel", VECTORS)
def test_kernels_have_the_bits_of_golden(kernel):
    arguments, expected = VECTORS[kernel](np.random.default_rng(1), 20_000)
    got = simulate(kernel, [[len(arguments)], arguments]).reshape(expected.shape)
    wrong = np.flatnonzero((got != expected).any(-1))
    assert not wrong.size, (arguments[wrong[0]], got[wrong[0]], expected[wrong[0]])


def test_every_score_has_the_level_of_golden():
    arguments, expected = exponential(np.random.default_rng(1), 1 << 16)
    assert len(arguments) == 4 << 16
    got = simulate("exponential", [[len(arguments)], arguments]).reshape(expected.shape)
    assert np.array_equal(got, expected)


def keeps(tile, answer, block, rule):
    """The keys of a tile that each row sees, by the diagonals of an answer and by golden."""
    row, key = np.arange(tile)[:, None], np.arange(tile)
    _, upper, lower, _ = answer
    band = (lower <= key - row) & (key - row <= upper)
    return band, rule.sees(block.position + row, block.first_key(answer[0]) + key)


@pytest.mark.parametrize("tile", [4, 16])
def test_the_window_keeps_the_tiles_of_golden(tile):
    rng = np.random.default_rng(tile)
    for _ in range(60):
        keys = int(rng.integers(1, 200))
        base = int(rng.choice([0, 60_000]))
        position = max(0, base + int(rng.integers(-keys, 2 * keys)))
        before, after = (int(rng.choice([0, tile, rng.integers(0, keys), 4095])) for _ in range(2))
        rule = Window(before=before, after=after)
        block = QueryBlock(tile=tile, position=position, keys=keys, key_base=base)
        asked = [1, tile, position, base, keys - 1, before, after]
        got = simulate("window", [asked])[1:].reshape(-1, 4).tolist()
        assert [last for *_, last in got] == [0] * (len(got) - 1) + [1]
        kept = kept_tiles(rule, block)
        assert [tile for tile, *_ in got] == (kept or [0])
        for answer in got:
            band, seen = keeps(tile, answer, block, rule)
            assert np.array_equal(band, seen & bool(kept))


def product(side, m, n, k, seed=1):
    """The product of random operands; whether it is golden's, and the bytes it moved."""
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-127, 128, shape) for shape in ((m, k), (k, n)))
    channel = ChannelParameters(
        rng.integers(1 << 14, 1 << 16, n), rng.integers(14, 18, n), rng.integers(-9999, 9999, n)
    )
    row = {"row_shift": 15 + k.bit_length() // 2, "out_shift": 0}
    records = pack_channel_parameters(channel, side).view("<i8")
    facts = [m, n, k, 1 << 15, row["row_shift"], row["out_shift"]]
    *got, nbytes = simulate(f"gemm{side}", [facts, a.T, b, records])
    ones, zeros = np.full(m, 1 << 15), np.zeros(m, np.int64)
    expected = requantise(a @ b, channel, ones, zeros, pre=0, **row, bits=8)
    assert len(np.unique(expected)) > 20
    return np.array_equal(np.reshape(got, (m, n)), expected), int(nbytes)


def bound(side, m, n, k):
    """``2 m n k / sqrt(S)`` bytes of int8 elements; S: of the accumulators, a column and a row."""
    return 2 * m * n * k / math.sqrt(side**2 + 2 * side)


@pytest.mark.parametrize(
    ("side", "shape"),
    [
        (16, (32, 48, 600)),
        (16, (128, 128, 512)),
        (64, (512, 512, 512)),
    ],
)
def test_the_product_avoids_communication(side, shape):
    m, n, k = shape
    right, nbytes = product(side, m, n, k)
    assert right
    # both operands for every tile, outputs, and eight bytes a column of a tile
    assert nbytes == 2 * m * n * k // side + m * n + 8 * m * n // side
    assert nbytes <= 1.1 * bound(side, m, n, k)


def test_every_file_is_written_for_a_project(tmp_path):
    write(tmp_path / "project")
    assert {path.name for path in (tmp_path / "project").iterdir()} == set(sources())
    assert {"gemm.h", "tables.h", "simulate.cpp"} <= set(sources())
