"""The bench of the compiler."""

from transept.golden.config import TINY
from transept.host.bench.compile import bench_compile
from transept.host.bench.encoder import Encoder


def test_encoders_are_compared_with_the_first():
    sizes = [Encoder("one", 1, 16, 2, 24), Encoder("three", 3, 16, 2, 24)]
    one, three = bench_compile(sizes, 8, TINY, rounds=2)
    assert (one["model"], one["layers"], one["ratio"]) == ("one", 1, 1.0)
    assert (three["model"], three["layers"]) == ("three", 3)
    assert three["ratio"] == three["seconds"] / one["seconds"]
    assert three["instructions"] > 2 * one["instructions"]
    for row in (one, three):
        assert 0 < row["compiler_seconds"] < row["seconds"]
