"""The kernels in C++, compiled with the open headers of Vitis, against their golden functions."""

import math

import numpy as np
import pytest
from kernel_vectors import VECTORS, exponential

from transept.golden.filters import QueryBlock, Window, kept_tiles
from transept.hls.headers import sources, write
from transept.host.bench.avoiding import bench_avoiding
from transept.sim import tools
from transept.sim.hls import simulate_vitis
from transept.sim.tools import BuildError

ABSENT = tools.missing(tools.VITIS_HEADERS)
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=tools.absence(ABSENT))


@pytest.mark.parametrize("kernel", VECTORS)
def test_kernels_have_the_bits_of_golden(kernel):
    arguments, expected = VECTORS[kernel](np.random.default_rng(1), 20_000)
    got = simulate_vitis(kernel, np.array([len(arguments)]), arguments).reshape(expected.shape)
    wrong = np.flatnonzero((got != expected).any(-1))
    assert not wrong.size, (arguments[wrong[0]], got[wrong[0]], expected[wrong[0]])


def test_every_score_has_the_level_of_golden():
    arguments, expected = exponential(np.random.default_rng(1), 1 << 16)
    assert len(arguments) == 4 << 16
    got = simulate_vitis("exponential", np.array([len(arguments)]), arguments).reshape(
        expected.shape
    )
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
        got = simulate_vitis("window", np.array(asked))[1:].reshape(-1, 4).tolist()
        assert [last for *_, last in got] == [0] * (len(got) - 1) + [1]
        kept = kept_tiles(rule, block)
        assert [tile for tile, *_ in got] == (kept or [0])
        for answer in got:
            band, seen = keeps(tile, answer, block, rule)
            assert np.array_equal(band, seen & bool(kept))


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
    found = bench_avoiding(shape, side)
    assert found["mismatches"] == 0
    # both operands for every tile, outputs, and eight bytes a column of a tile
    assert found["bytes"] == 2 * m * n * k // side + m * n + 8 * m * n // side
    assert found["elements"] == side**2 + 2 * side
    assert found["bytes"] <= 1.1 * 2 * m * n * k / math.sqrt(found["elements"])
    assert found["ratio"] == round(found["bytes"] / found["bound"], 3)


@pytest.mark.parametrize(
    ("shape", "side", "message"),
    [
        ((32, 32, 8), 8, "side=8 must be 16 or 64"),
        ((32, 24, 8), 16, "32 x 24 outputs must be multiples of side=16"),
        ((24, 32, 8), 16, "24 x 32 outputs must be multiples of side=16"),
    ],
)
def test_products_that_the_tile_does_not_divide_are_refused(shape, side, message):
    with pytest.raises(ValueError, match=message):
        bench_avoiding(shape, side)


def test_a_kernel_that_is_not_there_is_an_error():
    with pytest.raises(BuildError, match=r"simulate nope failed .* no kernel nope"):
        simulate_vitis("nope", np.zeros(1, int))
    with pytest.raises(BuildError, match="simulate rsqrt failed with exit status 2"):
        simulate_vitis("rsqrt", np.array([2, 5]))


def test_every_file_is_written_for_a_project(tmp_path):
    write(tmp_path / "project")
    assert {path.name for path in (tmp_path / "project").iterdir()} == set(sources())
    assert {"gemm.h", "tables.h", "simulate.cpp"} <= set(sources())
