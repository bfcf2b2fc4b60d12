"""Small programs, pinned by value: who changes a cut, an order or a place on purpose pins it anew.

A program that keeps the bits of the golden model may still be another one, and slower.
"""

import hashlib
from typing import NamedTuple

import pytest
from graphs import (
    SMALL,
    GraphBuilder,
    attention_alone,
    cross,
    iterated,
    mlp,
    norms_in_front,
    post_norm,
    pre_norm,
    read_again,
    read_sums,
    twice_the_same,
    uneven,
)

from transept.golden.config import TINY
from transept.golden.filters import Causal, TileThreshold
from transept.host.compiler.compile import compile_graph
from transept.host.compiler.cut import Shape
from transept.host.compiler.weights import WeightImage


def context_kept():
    """What attention and a linear layer behind it make are outputs, and read on chip."""
    build = GraphBuilder(13)
    first = build.value(16)
    x = build.norm(first)
    context = build.attention(*(build.linear(x, 16, 8) for _ in range(3)), 2)
    y = build.linear(context, 16)
    return build.graph([first], [context, y, build.norm(y, x)])


def memory_from_dram():
    """Queries are projected from rows on chip, keys and values from those of an input."""
    build = GraphBuilder(15, dims=("rows", "memory"))
    first, memory = build.value(12), build.value(16, dim="memory")
    x = build.norm(first)
    q, k, v = (build.linear(rows, 12, 8) for rows in (x, memory, memory))
    return build.graph(
        [first, memory], [build.norm(build.linear(build.attention(q, k, v, 2), 12), x)]
    )


GRAPHS = SMALL | {
    "memory from DRAM": memory_from_dram,
    "context kept": context_kept,
    "read again": lambda: read_again(14, 16, 2),
    "cross": lambda: cross(1, 12, 3, 20),
    "three times": lambda: iterated(12, 8, 2, 12, 3),
    "five times": lambda: iterated(12, 8, 2, 12, 5),
    "four layers": lambda: post_norm(3, 12, 2, [20, 8, 12, 16]),
    "norms in front": lambda: norms_in_front(4, 8, 2, [12, 8], Causal()),
    "one key head": lambda: pre_norm(9, 12, 3, 1, [20]),
    "uneven": lambda: uneven(11, [(8, 2, 20), (18, 3, 7)]),
    "attention alone": lambda: attention_alone(10, 12, 2, TileThreshold(500)),
    "wide mlp": lambda: mlp(7, [60, 90, 50]),
    "sums": lambda: read_sums(9),
    "twice": lambda: twice_the_same(10),
}
HARDWARE = {
    "tiny": {},
    "small": {"act_banks": (96,) * 4, "stat_words": 512},
    "tile_8": {"tile": 8, "max_rows": 32},
    "more_rows": {"max_rows": 32, "rowstat_entries": 256},
    "other_banks": {"act_banks": (512, 128, 128, 256, 256)},
    "few_statistics": {"rowstat_entries": 40},
    "small_weights": {"stat_words": 384},
    "narrow": {"max_hidden": 16},
}


class Pin(NamedTuple):
    cycles: int  # predicted
    instructions: int
    digest: str  # of all that a driver gets


class Case(NamedTuple):
    graph: str
    hardware: str
    batch: int
    length: int  # of the first dimension; the second one has 2 * length - 3 rows


PINS = {
    Case("memory from DRAM", "tiny", 1, 21): Pin(4_704, 121, "78e69a5f65f0"),
    Case("read again", "tiny", 1, 7): Pin(4_680, 102, "5ddbdde19a2e"),
    Case("context kept", "tiny", 1, 7): Pin(2_352, 51, "0db3b5deda79"),
    Case("context kept", "small", 2, 30): Pin(12_759, 452, "4e8462a0dcce"),
    Case("pre-norm", "narrow", 1, 21): Pin(12_618, 295, "b3083599eb16"),
    Case("post-norm", "narrow", 3, 5): Pin(5_450, 121, "b07e2eea6bbb"),
    Case("window", "small", 2, 30): Pin(15_813, 550, "712f2c2f6752"),
    Case("one key head", "small", 2, 30): Pin(11_472, 281, "7e0f7ce2851e"),
    Case("wide mlp", "tile_8", 5, 6): Pin(16_551, 122, "ebe644022d8a"),
    Case("window", "small_weights", 1, 7): Pin(2_872, 68, "c551df3bcf4e"),
    Case("attention alone", "tiny", 1, 7): Pin(789, 16, "198c8350403a"),
    Case("mlp", "tile_8", 3, 5): Pin(2_043, 28, "030ad156d184"),
    Case("sums", "other_banks", 1, 7): Pin(2_330, 43, "655a1dc6564b"),
    Case("cross", "tile_8", 1, 7): Pin(4_692, 56, "8b39161686c4"),
    Case("mlp from int8", "more_rows", 1, 7): Pin(1_264, 31, "3e18cf73d7b9"),
    Case("causal", "few_statistics", 1, 7): Pin(3_560, 68, "654123fa24c2"),
    Case("threshold", "small_weights", 3, 5): Pin(3_910, 133, "9ed82eb69ed0"),
    Case("one key head", "small", 1, 7): Pin(2_898, 56, "a13190b654c6"),
    Case("padded heads", "small", 1, 21): Pin(6_568, 153, "bb908be1613a"),
    Case("three times", "tile_8", 1, 21): Pin(12_223, 111, "58831c804659"),
    Case("post-norm", "tile_8", 1, 7): Pin(4_036, 45, "6aa5d875a768"),
    Case("attention alone", "few_statistics", 5, 6): Pin(1_638, 64, "19102df72d0c"),
    Case("norms in front", "more_rows", 3, 5): Pin(5_013, 137, "884f7f51313e"),
    Case("attention alone", "small_weights", 2, 30): Pin(4_838, 78, "f9881160fa9e"),
    Case("mlp", "tiny", 1, 21): Pin(2_623, 61, "df48e12479d7"),
    Case("layers that differ", "small", 1, 7): Pin(5_940, 147, "e399db3b7e5a"),
    Case("causal", "small_weights", 5, 6): Pin(5_560, 272, "d86c867411e0"),
    Case("mlp from int8", "tiny", 5, 6): Pin(3_480, 93, "7a0e941b58b1"),
    Case("wide mlp", "few_statistics", 1, 21): Pin(21_118, 216, "22a151f49be4"),
    Case("five times", "more_rows", 1, 7): Pin(8_406, 127, "68d62f3c8a9f"),
    Case("cross", "small_weights", 3, 5): Pin(3_673, 173, "5729e15dc50e"),
    Case("four layers", "tile_8", 3, 5): Pin(13_256, 197, "a60f967f7104"),
    Case("pre-norm", "tiny", 1, 7): Pin(5_532, 136, "1db5c6833516"),
    Case("cross", "tile_8", 5, 6): Pin(7_626, 157, "cb9769a500a9"),
    Case("three times", "other_banks", 5, 6): Pin(12_598, 345, "04be57d5dddb"),
    Case("post-norm", "small_weights", 3, 5): Pin(4_630, 137, "8589e4970601"),
    Case("norms in front", "small_weights", 1, 7): Pin(3_768, 81, "18cfcccad635"),
    Case("mlp", "small", 2, 30): Pin(6_160, 137, "5d9657b1e1ab"),
    Case("threshold", "more_rows", 2, 30): Pin(13_098, 289, "589877520bca"),
    Case("one key head", "tiny", 3, 5): Pin(3_258, 96, "cf6f16375976"),
    Case("sums", "more_rows", 5, 6): Pin(4_886, 109, "21ae04695b72"),
    Case("three times", "more_rows", 3, 5): Pin(6_426, 168, "29ace5275d45"),
    Case("cross", "tiny", 1, 21): Pin(6_988, 155, "0146ea8b59cf"),
    Case("post-norm", "more_rows", 1, 21): Pin(7_390, 142, "e47982f19490"),
    Case("uneven", "few_statistics", 3, 5): Pin(7_473, 292, "ae92ee463073"),
    Case("cross", "few_statistics", 1, 7): Pin(3_667, 79, "7a16d4931b7b"),
    Case("norms in front", "few_statistics", 5, 6): Pin(9_568, 261, "5e02f38242a9"),
    Case("five times", "tile_8", 5, 6): Pin(18_342, 291, "5e9e46d51c8d"),
    Case("cross", "small", 5, 6): Pin(8_788, 275, "5c34e2968bc8"),
    Case("norms in front", "tile_8", 2, 30): Pin(18_664, 161, "c0e0aa601ed6"),
    Case("five times", "tiny", 3, 5): Pin(10_478, 264, "3be01ea5088e"),
    Case("layers that differ", "tile_8", 3, 5): Pin(8_788, 181, "feaadca66a43"),
    Case("four layers", "more_rows", 1, 21): Pin(18_281, 380, "9a9a549ad928"),
    Case("five times", "small", 1, 21): Pin(14_363, 341, "5031d8e8120f"),
}


def digest(executable, image):
    """Of everything but predicted cycles; sets in an order of their own."""
    cut = {**vars(executable.cut), "spilled": sorted(executable.cut.spilled)}
    parts = (
        executable.instructions,
        image.image().tobytes(),
        *(executable.patches, executable.labels, executable.tallies, executable.tensors, cut),
        *(executable.io_bytes, executable.scratch_bytes, image.column_words),
    )
    found = hashlib.sha256()
    for part in parts:
        found.update(part if isinstance(part, bytes) else repr(part).encode())
    return found.hexdigest()[:12]


@pytest.mark.parametrize("case", PINS, ids=lambda case: " ".join(map(str, case)))
def test_programs_are_those_that_are_pinned(case):
    graph, config = GRAPHS[case.graph](), TINY.replace(**HARDWARE[case.hardware])
    lengths = (case.length, 2 * case.length - 3)
    shape = Shape(case.batch, {d.name: n for d, n in zip(graph.dims, lengths, strict=False)})
    image = WeightImage(graph, config)
    executable = compile_graph(graph, config, shape, image)
    cycles, instructions = executable.predicted_cycles, len(executable.labels)
    found = Pin(cycles, instructions, digest(executable, image))
    line = f'Case{tuple(case)}: Pin({cycles:_}, {instructions:_}, "{found.digest}"),'
    assert found == PINS[case], f"if that is on purpose, pin it by\n    {line}"
