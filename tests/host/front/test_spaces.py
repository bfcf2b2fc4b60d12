"""Row spaces: which values have the same rows, cut into which sequences."""

import torch
from matches import add, attention, linear, norm

from transept.host.front.spaces import Groups, Spaces


def test_groups_that_are_joined_through_others():
    groups = Groups()
    groups.join("ab")
    groups.join("cd")
    assert [groups.find(item) for item in "abcde"] == list("aacce")
    groups.join("xc")
    groups.join("bd")
    assert len({groups.find(item) for item in "abcdx"}) == 1
    assert groups.find("e") == "e"
    groups.join("")


def cross(queries, keys, **names):
    return attention(1, 1, queries=torch.tensor(queries), keys=torch.tensor(keys), **names)


def test_attention_has_two_spaces_and_everything_else_one():
    ops = [
        linear([[1.0]], name="query", x="x"),
        linear([[1.0]], name="key", x="memory"),
        linear([[1.0]], name="value", x="memory"),
        cross([[0, 1], [2, 3]], [[0, 2, 4], [1, 3, 5]], inputs=("query", "key", "value")),
        add(inputs=("attention", "x"), outputs=["sum"]),
        norm([1.0], inputs=["other"]),
    ]
    rows = {"x": 4, "query": 4, "memory": 6, "other": 5}
    found = Spaces(ops, rows)
    assert found.dims == {
        **dict.fromkeys(("x", "query", "attention", "sum"), "rows"),
        **dict.fromkeys(("memory", "key", "value"), "rows1"),
        **dict.fromkeys(("other", "norm"), "rows2"),
    }
    assert {name: order.tolist() for name, order in found.orders.items()} == {
        "rows": [[0, 1], [2, 3]],
        "rows1": [[0, 2, 4], [1, 3, 5]],
        "rows2": [[0, 1, 2, 3, 4]],
    }
    assert found.conflicts == []


def test_sequences_that_are_cut_in_two_ways_are_conflicts():
    first = cross([[0, 1], [2, 3]], [[0, 1], [2, 3]], inputs="xxx", name="a")
    same = cross([[0, 1], [2, 3]], [[0, 1], [2, 3]], inputs="xxx", name="b")
    queries = cross([[0, 1, 2, 3]], [[0], [1]], inputs="xyy", name="c")
    keys = cross([[0, 1]], [[0, 1, 2, 3]], inputs="zxx", name="d")
    found = Spaces([first, same, queries, keys], {"x": 4, "y": 2, "z": 2})
    assert [op.name for op in found.conflicts] == ["c", "d"]
