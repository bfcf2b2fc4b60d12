"""Policies, in the order in which they are tried, and the cuts that they choose."""

import itertools

import pytest
from graphs import GraphBuilder, mlp, post_norm, pre_norm, read_again

from transept.golden.config import TINY
from transept.host.compiler import compile as compiler
from transept.host.compiler import cut as cuts
from transept.host.compiler.cut import Policy, Shape, Sizing, Spill, choose, policies


def two_layers():
    """Post-norm layers, the first of which reads the input."""
    build = GraphBuilder(3, limit=128)
    first = x = build.value(12)
    for _ in range(2):
        x = build.layer(x, 2, 20)
    return build.graph([first], [x])


# --- policies
def test_what_the_search_weighs():
    assert [(s.loose, s.share) for s in cuts.SIZINGS] == [
        (True, 0.95), (False, 0.95), (False, 0.8), (False, 0.7),
        (False, 0.6), (False, 0.4), (False, 0.2), (False, 0.05),
    ]  # fmt: skip
    assert cuts.FILLS == (1.0, 0.92, 0.85)
    assert (cuts.HEADS, cuts.STATIONARY_SHARE, cuts.BLOCK_SLACK) == ((2, 1), 0.75, 1.15)
    assert (cuts.ROWS_WITHOUT_WEIGHTS, cuts.ROWS_TO_DRAM, cuts.LEAST_BLOCKS) == (2, 1, 2)
    assert (compiler.GOOD_SHARE, compiler.PATIENCE, compiler.GAIN) == (0.985, 2, 0.0005)
    assert (compiler.RESIDENT_SHARE, compiler.PROBE, compiler.LAUNCH) == (0.9, 2, 60)
    assert (compiler.PATIENCE_OF_ROWS, cuts.CHUNK_SHARE, cuts.PAGE_ROWS) == (8, 0.4, 16)


@pytest.mark.parametrize(
    ("batch", "length", "groups"),
    [(1, 4, [1]), (10, 4, [4, 3, 2, 1]), (7, 5, [3, 2, 1]), (6, 2, [6, 3, 2, 1]), (5, 64, [1])],
)
def test_groups_of_nearly_the_same_size_from_the_largest_on(batch, length, groups):
    families = policies(batch, length, TINY, resident=False, chained=False)
    assert list(dict.fromkeys(family[0].group for family in families)) == groups


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize(
    ("chained", "first"),
    [
        (True, [Spill.NONE, Spill.NONE_WHOLE, Spill.CONTEXTS_WHOLE, Spill.CONTEXTS]),
        (False, [Spill.NONE, Spill.CONTEXTS, Spill.NONE_WHOLE, Spill.CONTEXTS_WHOLE]),
    ],
)
def test_policies_come_in_families_by_what_they_keep(resident, chained, first):
    spills = [*first, Spill.RESIDUALS, Spill.BOTH, Spill.ALL]
    stays = [True, False] if resident else [False]
    sizes = list(itertools.product(cuts.SIZINGS, cuts.FILLS))
    expected = [
        [Policy(group, stay, spill, heads, sizing, fill) for sizing, fill in sizes]
        for group, stay, spill, heads in itertools.product((2, 1), stays, spills, (2, 1))
    ]
    assert list(policies(2, 8, TINY, resident=resident, chained=chained)) == expected


# --- cuts
ROOMY = {"max_rows": 256, "act_banks": (544,) * 4, "rowstat_entries": 1024, "stat_words": 2048}
#: Row blocks of every segment that fill a tenth, with all buffers and with those of the worst
#: moment.
TWO_LAYERS = {
    Spill.NONE: ((15, 8, 23, 23, 15), (15, 12, 23, 23, 23)),
    Spill.CONTEXTS: ((15, 8, 23, 23, 15), (15, 12, 23, 15, 23)),
    Spill.NONE_WHOLE: ((15, 12, 15, 23, 23, 15), (15, 23, 23, 23, 23, 23)),
    Spill.CONTEXTS_WHOLE: ((15, 12, 15, 23, 23, 15), (15, 15, 23, 23, 15, 23)),
    Spill.RESIDUALS: ((15, 8, 23, 23, 15), (15, 12, 23, 23, 23)),
    Spill.BOTH: ((15, 8, 23, 23, 15), (15, 12, 23, 15, 23)),
    Spill.ALL: ((15, 9, 15, 12), (15, 12, 15, 12)),
}
NORMS_IN_FRONT = {
    Spill.NONE: ((8, 29, 6), (8, 29, 7)),
    Spill.CONTEXTS: ((8, 29, 7), (8, 29, 7)),
    Spill.ALL: ((4, 19, 7), (4, 19, 7)),
}


@pytest.mark.parametrize(
    ("graph", "batch", "length", "group", "expected"),
    [
        (two_layers, 2, 45, 1, TWO_LAYERS),
        (lambda: pre_norm(4, 16, 4, 2, [32]), 3, 19, 3, NORMS_IN_FRONT),
    ],
    ids=["post-norm", "pre-norm"],
)
def test_row_blocks_fill_their_share_of_the_scratchpad(graph, batch, length, group, expected):
    graph, config = graph(), TINY.replace(name="roomy", **ROOMY)
    for spill, rows in expected.items():
        for loose, wanted in zip((True, False), rows, strict=True):
            policy = Policy(group, False, spill, 2, Sizing(loose, 0.1), 0.9)
            cut = choose(graph, config, Shape(batch, {"rows": length}), policy)
            assert cut.rows == wanted, (spill, loose)
            assert (cut.group, cut.heads, cut.fill, cut.resident) == (group, 2, 0.9, False)
            assert (cut.queries, cut.scores) == (length, group)


@pytest.mark.parametrize(
    ("graph", "rows"),
    [
        (pre_norm(4, 16, 4, 2, [32]), (4, 8, 8)),  # all that the first segment makes is stored
        (read_again(1, 16, 2), (8, 8, 8, 8, 8)),  # one of two results
    ],
    ids=["pre-norm", "read again"],
)
def test_blocks_without_weights_have_two_tiles_and_one_on_the_way_to_dram(graph, rows):
    config, shape = TINY.replace(name="roomy", **ROOMY), Shape(1, {"rows": 45})
    policy = Policy(1, True, Spill.ALL, 2, Sizing(False, 0.95), 1.0)
    assert choose(graph, config, shape, policy).rows == rows


@pytest.mark.parametrize(
    ("changes", "length", "queries", "scores"),
    [
        ({}, 16, 16, 2),  # those of a group fit a bank
        ({}, 17, 8, 2),  # more than max_rows
        ({"act_banks": (128,) * 8}, 16, 16, 2),
        ({"act_banks": (127,) * 8}, 16, 8, 2),
        ({"act_banks": (48,) * 8, "max_rows": 64}, 32, 4, 2),
        ({"max_rows": 64, "act_banks": (300,) * 4}, 60, 20, 2),
    ],
)
def test_query_blocks_take_a_bank(changes, length, queries, scores):
    graph, config = post_norm(1, 16, 2, [16]), TINY.replace(name="other", **changes)
    policy = Policy(2, False, Spill.ALL, 1, Sizing(False, 0.05), 1.0)
    cut = choose(graph, config, Shape(2, {"rows": length}), policy)
    assert (cut.queries, cut.scores) == (queries, scores)


@pytest.mark.parametrize(("few", "queries"), [(3, 8), (16, 8), (48, 8)])
def test_query_blocks_suit_the_longest_sequences(few, queries):
    """Of two attentions: 16 key tiles of at most 48 queries, whichever has them."""
    build = GraphBuilder(1, dims=("few", "rows"))
    made = [[build.value(8, 8, dim) for _ in "qkv"] for dim in ("few", "rows")]
    outputs = [build.attention(*rows, 2) for rows in made]
    graph = build.graph([name for rows in made for name in rows], outputs)
    policy = Policy(1, False, Spill.NONE, 2, Sizing(False, 0.4), 1.0)
    cut = choose(graph, TINY, Shape(1, {"few": few, "rows": 48 if few < 48 else 3}), policy)
    assert (cut.queries, cut.scores) == (queries, 2)


def test_one_head_is_always_worth_a_try():
    """Even if its keys and values take more than three quarters: 4 x 36 of 0.75 x 180 words."""
    config, shape = TINY.replace(name="other", stat_words=180, packed=False), Shape(1, {"rows": 32})
    policy = Policy(1, False, Spill.NONE, 1, Sizing(False, 0.4), 1.0)
    assert choose(post_norm(1, 16, 2, [16]), config, shape, policy).heads == 1


def test_without_attention_heads_are_no_choice():
    graph, shape = mlp(1, [8, 8]), Shape(1, {"rows": 5})
    found = [
        choose(graph, TINY, shape, Policy(1, False, Spill.NONE, heads, Sizing(False, 0.4), 1.0))
        for heads in (2, 1)
    ]
    assert found[0].heads == 2
    assert found[1] is None


@pytest.mark.parametrize(("stat_words", "heads"), [(512, 2), (384, 2), (380, None)])
def test_keys_and_values_of_two_heads_take_three_quarters_of_the_stationary_words(
    stat_words, heads
):
    """4 words of K and V a row, 32 rows and a tile more: 2 x 4 x 36 of 0.75 x 384 words."""
    config = TINY.replace(name="other", stat_words=stat_words, packed=False)
    policy = Policy(1, False, Spill.NONE, 2, Sizing(False, 0.4), 1.0)
    cut = choose(post_norm(1, 16, 2, [16]), config, Shape(1, {"rows": 32}), policy)
    assert (cut and cut.heads) == heads
