"""The bench of the CPU backend."""

import pytest

from transept.host.bench.cpu import bench_cpu


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_three_ways():
    rows = bench_cpu((16, 2, 32, 1), shapes=((8, 1), (5, 2)), rounds=1)
    assert [row["work"] for row in rows] == ["8 x 1 tokens", "5 x 2 tokens"]
    for row in rows:
        assert row["mismatches"] == 0
        assert row["against_golden"] == pytest.approx(row["golden_ms"] / row["ours_ms"])
        assert row["against_float32"] == pytest.approx(row["float32_ms"] / row["ours_ms"])
