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
    attentive,
    cross,
    four_bits,
    gated,
    iterated,
    linear_alone,
    mlp,
    norms_in_front,
    post_norm,
    pre_norm,
    read_again,
    read_sums,
    sharing,
    twice_the_same,
    uneven,
)

from transept.golden.config import TINY
from transept.golden.filters import Causal, TileThreshold, Window
from transept.host.compiler.compile import compile_graph
from transept.host.compiler.cut import Shape
from transept.host.compiler.weights import WeightImage
from transept.host.language.cached import cached


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


def one_attention(seed, heads, kv_heads, key_filter):
    build = GraphBuilder(seed)
    x = build.value(16)
    q, *rest = (build.linear(x, 16 * n // heads, 8) for n in (heads, kv_heads, kv_heads))
    context = build.attention(q, *rest, heads, kv_heads, key_filter)
    return build.graph([x], [build.norm(build.linear(context, 16), x)])


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
    "four bits": lambda: four_bits(gated(14, 32, 2, 1, [32, 24])),
    "four bits alone": lambda: four_bits(linear_alone(15, 64, 80)),
    "sums": lambda: read_sums(9),
    "twice": lambda: twice_the_same(10),
}
LIMIT = 64
#: Their attentions read the rows of earlier steps.
STATES = {
    "llama": lambda: gated(1, 32, 4, 2, [12]),
    "heads that share": lambda: sharing(gated(5, 64, 8, 2, [12])),
    "eight heads that share": lambda: sharing(gated(6, 64, 8, 1, [12])),
    "two heads that share": lambda: sharing(one_attention(7, 4, 2, Causal())),
    "window of heads that share": lambda: sharing(one_attention(8, 4, 2, Window(20, 0))),
    "llama of two layers": lambda: gated(4, 16, 2, 1, [8, 12]),
    "llama in four bits": lambda: four_bits(gated(14, 32, 2, 1, [32])),
    "gpt2": lambda: norms_in_front(2, 12, 3, [20], Causal()),
    "sliding window": lambda: norms_in_front(3, 16, 2, [8], Window(9, 0)),
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
    "four_rows": {"max_rows": 4},
    "few_accumulators": {"acc_slots": 1},
    "no_products": {"elementwise": False},
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


class Step(NamedTuple):
    graph: str
    hardware: str
    batch: int
    rows: int
    context: int


PINS = {
    Case("memory from DRAM", "tiny", 1, 21): Pin(4_704, 121, "784344cf6c87"),
    Case("read again", "tiny", 1, 7): Pin(4_680, 102, "ede3b261a966"),
    Case("context kept", "tiny", 1, 7): Pin(2_352, 51, "912147af26d9"),
    Case("context kept", "small", 2, 30): Pin(12_759, 452, "98e92678cd35"),
    Case("pre-norm", "narrow", 1, 21): Pin(12_618, 295, "5f231c6775ef"),
    Case("post-norm", "narrow", 3, 5): Pin(5_450, 121, "cda19f3ced4f"),
    Case("window", "small", 2, 30): Pin(15_813, 550, "29d9ea19ad16"),
    Case("one key head", "small", 2, 30): Pin(11_472, 281, "544a82de5937"),
    Case("wide mlp", "tile_8", 5, 6): Pin(16_551, 122, "098dad556f3e"),
    Case("window", "small_weights", 1, 7): Pin(2_872, 68, "c86c6be82b68"),
    Case("attention alone", "tiny", 1, 7): Pin(789, 16, "71b8b4640d76"),
    Case("mlp", "tile_8", 3, 5): Pin(2_043, 28, "5f863db63674"),
    Case("sums", "other_banks", 1, 7): Pin(2_330, 43, "e545dad87a20"),
    Case("cross", "tile_8", 1, 7): Pin(4_692, 56, "d9ab8d873541"),
    Case("mlp from int8", "more_rows", 1, 7): Pin(1_264, 31, "c1e59e98a151"),
    Case("causal", "few_statistics", 1, 7): Pin(3_560, 68, "407013480893"),
    Case("threshold", "small_weights", 3, 5): Pin(3_910, 133, "2202ec268214"),
    Case("one key head", "small", 1, 7): Pin(2_898, 56, "b6a84602f06d"),
    Case("padded heads", "small", 1, 21): Pin(6_568, 153, "ca21dedb407d"),
    Case("three times", "tile_8", 1, 21): Pin(12_223, 111, "796004315d28"),
    Case("post-norm", "tile_8", 1, 7): Pin(4_036, 45, "a55e2f21b9aa"),
    Case("attention alone", "few_statistics", 5, 6): Pin(1_638, 64, "89667c907113"),
    Case("norms in front", "more_rows", 3, 5): Pin(5_013, 137, "9e7e0dbf916d"),
    Case("attention alone", "small_weights", 2, 30): Pin(4_838, 78, "04346b8eadb6"),
    Case("mlp", "tiny", 1, 21): Pin(2_623, 61, "93280b3f2e00"),
    Case("layers that differ", "small", 1, 7): Pin(5_940, 147, "8a7cdf829f89"),
    Case("causal", "small_weights", 5, 6): Pin(5_560, 272, "edce6a8d1bb6"),
    Case("mlp from int8", "tiny", 5, 6): Pin(3_480, 93, "201fc164829c"),
    Case("wide mlp", "few_statistics", 1, 21): Pin(21_118, 216, "ad9130c48f55"),
    Case("five times", "more_rows", 1, 7): Pin(8_406, 127, "22cd096598ff"),
    Case("cross", "small_weights", 3, 5): Pin(3_673, 173, "bfb42ddbaeda"),
    Case("four layers", "tile_8", 3, 5): Pin(13_256, 197, "3ddf4d738efb"),
    Case("pre-norm", "tiny", 1, 7): Pin(5_532, 136, "14f5963a9d68"),
    Case("cross", "tile_8", 5, 6): Pin(7_626, 157, "45f9d54cf92f"),
    Case("three times", "other_banks", 5, 6): Pin(12_598, 345, "0a2406aa79d7"),
    Case("post-norm", "small_weights", 3, 5): Pin(4_630, 137, "190ad0748a83"),
    Case("norms in front", "small_weights", 1, 7): Pin(3_768, 81, "0c3de77ebc3d"),
    Case("mlp", "small", 2, 30): Pin(6_160, 137, "8668926383de"),
    Case("threshold", "more_rows", 2, 30): Pin(13_098, 289, "4b254ac16ae4"),
    Case("one key head", "tiny", 3, 5): Pin(3_258, 96, "aa7f7e87ef2a"),
    Case("sums", "more_rows", 5, 6): Pin(4_886, 109, "5ecb3d534985"),
    Case("three times", "more_rows", 3, 5): Pin(6_426, 168, "ebebf7779c7e"),
    Case("cross", "tiny", 1, 21): Pin(6_988, 155, "efa333b662bf"),
    Case("post-norm", "more_rows", 1, 21): Pin(7_390, 142, "97ee6ac179aa"),
    Case("uneven", "few_statistics", 3, 5): Pin(7_473, 292, "42e040fa264c"),
    Case("cross", "few_statistics", 1, 7): Pin(3_667, 79, "6170ee29fa27"),
    Case("norms in front", "few_statistics", 5, 6): Pin(9_568, 261, "2a3a3a612195"),
    Case("five times", "tile_8", 5, 6): Pin(18_342, 291, "886d122170b0"),
    Case("cross", "small", 5, 6): Pin(8_788, 275, "f4d3e4a64b09"),
    Case("norms in front", "tile_8", 2, 30): Pin(18_664, 161, "bd45e4d90139"),
    Case("five times", "tiny", 3, 5): Pin(10_478, 264, "1c2349aa7890"),
    Case("layers that differ", "tile_8", 3, 5): Pin(8_788, 181, "56c190ac9f22"),
    Case("four layers", "more_rows", 1, 21): Pin(18_281, 380, "d88ad1ac289a"),
    Case("five times", "small", 1, 21): Pin(14_363, 341, "f20e889bebbd"),
    Case("gated", "tiny", 1, 3): Pin(8_002, 292, "bf12842cdd7a"),
    Case("gated", "tiny", 1, 21): Pin(23_554, 668, "f35226f5932f"),
    Case("gated", "other_banks", 2, 30): Pin(68_421, 1_781, "48d9fc5934f3"),
    Case("gated", "few_statistics", 5, 6): Pin(34_959, 1_445, "f385b1ea06f8"),
    Case("four bits", "tiny", 1, 3): Pin(8_420, 250, "7a4c38e0fed5"),
    Case("four bits", "other_banks", 2, 13): Pin(44_588, 1_399, "6aa75a52e602"),
    Case("four bits alone", "tiny", 1, 21): Pin(14_027, 125, "947b828cde52"),
    Case("four bits alone", "more_rows", 1, 100): Pin(64_680, 367, "4424cbf780fd"),
}


STEP_PINS = {
    Step("llama", "tiny", 1, 1, 64): Pin(5_071, 165, "ebb9e4825338"),
    Step("llama", "tiny", 1, 5, 16): Pin(5_077, 150, "de03344ba191"),
    Step("llama", "tiny", 3, 1, 32): Pin(4_944, 189, "c46b9aea664b"),
    Step("llama", "small_weights", 1, 1, 64): Pin(6_299, 189, "6f21cc209981"),
    Step("llama", "more_rows", 3, 16, 48): Pin(26_632, 625, "ce74401ad840"),
    Step("llama", "other_banks", 1, 40, 64): Pin(27_602, 914, "52363529647a"),
    Step("heads that share", "tiny", 1, 1, 64): Pin(6_923, 182, "42af076ddf74"),
    Step("heads that share", "small_weights", 3, 1, 32): Pin(8_939, 434, "4426a030dafe"),
    Step("heads that share", "small", 1, 5, 16): Pin(15_575, 636, "aeeeb7ffafe2"),
    Step("llama of two layers", "tiny", 3, 1, 32): Pin(5_254, 293, "2b02c2454ea7"),
    Step("llama of two layers", "small_weights", 1, 5, 16): Pin(5_634, 160, "7b381ab40fc3"),
    Step("llama of two layers", "narrow", 1, 19, 48): Pin(14_724, 511, "a43c4ba2f02e"),
    Step("llama in four bits", "tiny", 1, 1, 48): Pin(5_096, 155, "76eae41735dd"),
    Step("llama in four bits", "tiny", 1, 7, 32): Pin(9_025, 272, "2f8a1802853e"),
    Step("gpt2", "tile_8", 3, 16, 48): Pin(12_428, 244, "97b9f79434fc"),
    Step("gpt2", "few_statistics", 1, 40, 64): Pin(11_877, 296, "338543d80be0"),
    Step("gpt2", "small", 3, 1, 32): Pin(4_164, 180, "81af274c2b19"),
    Step("gpt2", "tiny", 1, 33, 64): Pin(10_567, 292, "6b7d99dcdd73"),
    Step("sliding window", "tiny", 1, 40, 64): Pin(12_904, 407, "fb75d245c01d"),
    Step("sliding window", "small", 3, 16, 48): Pin(19_389, 639, "2ba44dff88b9"),
    Step("sliding window", "small_weights", 1, 40, 64): Pin(16_484, 470, "1c813e2369af"),
    Step("sliding window", "other_banks", 1, 5, 16): Pin(3_319, 97, "f9e500db1659"),
    Step("sliding window", "tile_8", 1, 1, 64): Pin(2_982, 62, "4ed126f753a2"),
    Step("heads that share", "four_rows", 1, 1, 32): Pin(6_567, 196, "c31566dabb2a"),
    Step("heads that share", "few_accumulators", 1, 1, 64): Pin(6_923, 182, "42af076ddf74"),
    Step("eight heads that share", "few_accumulators", 1, 1, 16): Pin(5_841, 149, "25002c407601"),
    Step("eight heads that share", "few_accumulators", 1, 1, 64): Pin(9_407, 269, "f89319334ff0"),
    Step("llama", "few_accumulators", 1, 9, 64): Pin(10_309, 497, "8e15dfb67b39"),
    Step("two heads that share", "no_products", 1, 1, 48): Pin(2_158, 60, "8d9464dfcd73"),
    Step("two heads that share", "tiny", 1, 1, 48): Pin(1_768, 55, "cfce82aefef7"),
    Step("window of heads that share", "tiny", 1, 1, 48): Pin(2_158, 60, "782c35829d59"),
}


def digest(executable, image):
    """Of everything but predicted cycles; sets in an order of their own. Graphs without states have
    no chunks."""
    cut = {**vars(executable.cut), "spilled": sorted(executable.cut.spilled)}
    if not cut["chunk"]:
        del cut["chunk"]
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


def found_and_line(case, graph, lengths):
    """The pin of a program, and the line that says so."""
    config = TINY.replace(**HARDWARE[case.hardware])
    shape = Shape(case.batch, {d.name: n for d, n in zip(graph.dims, lengths, strict=False)})
    image = WeightImage(graph, config)
    executable = compile_graph(graph, config, shape, image)
    cycles, instructions = executable.predicted_cycles, len(executable.labels)
    found = Pin(cycles, instructions, digest(executable, image))
    kind = f"{type(case).__name__}{tuple(case)}".replace("'", '"')
    return found, f'{kind}: Pin({cycles:_}, {instructions:_}, "{found.digest}"),'


@pytest.mark.parametrize("case", PINS, ids=lambda case: " ".join(map(str, case)))
def test_programs_are_those_that_are_pinned(case):
    graph = GRAPHS[case.graph]()
    found, line = found_and_line(case, graph, (case.length, 2 * case.length - 3))
    assert found == PINS[case], f"if that is on purpose, pin it by\n    {line}"


@pytest.mark.parametrize("case", STEP_PINS, ids=lambda case: " ".join(map(str, case)))
def test_programs_of_steps_are_those_that_are_pinned(case):
    graph = cached(attentive(STATES[case.graph]()), LIMIT)
    found, line = found_and_line(case, graph, (case.rows, case.context))
    assert found == STEP_PINS[case], f"if that is on purpose, pin it by\n    {line}"
