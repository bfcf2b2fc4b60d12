"""What a value of a manifest must be, to its limits, and what is said of one that is not."""

import pytest

from transept.host.runtime.errors import ProgramError
from transept.host.runtime.manifest import DEEPEST, Node, parse


def refused(call, message):
    with pytest.raises(ProgramError) as found:
        call()
    assert str(found.value) == message


ACCEPTED = [
    (-2, lambda node: node.integer(-2, 3)),
    (3, lambda node: node.integer(-2, 3)),
    (0.25, lambda node: node.number(0.25, 1)),
    (1.0, lambda node: node.number(0.25, 1)),
    (True, lambda node: node.flag()),
    (False, lambda node: node.flag()),
    ("x", lambda node: node.text()),
    ("x" * 256, lambda node: node.text()),
    ("xy", lambda node: node.text(2, 2)),
    ("", lambda node: node.text(2, 0)),
    ("a1", lambda node: node.matching("[a-z][0-9]")),
    ("a", lambda node: node.choice(["b", "a"])),
    (None, lambda node: node.optional()),
]


@pytest.mark.parametrize(("value", "read"), ACCEPTED)
def test_what_is_within_its_limits_is_returned(value, read):
    found = read(Node(value, "it"))
    assert found == value
    assert type(found) is type(value)


REFUSED = [
    (-3, lambda node: node.integer(-2, 3), "-3, must be an integer from -2 to 3"),
    (4, lambda node: node.integer(-2, 3), "4, must be an integer from -2 to 3"),
    (0.2, lambda node: node.number(0.25, 1), "0.2, must be a number from 0.25 to 1"),
    (1.1, lambda node: node.number(0.25, 1), "1.1, must be a number from 0.25 to 1"),
    (True, lambda node: node.number(0, 1), "True, must be a number from 0 to 1"),
    ("1", lambda node: node.number(0, 1), "'1', must be a number from 0 to 1"),
    (1, lambda node: node.flag(), "1, must be true or false"),
    ("x", lambda node: node.text(3, 2), "'x', must be a text of 2 to 3 printable characters"),
    ("wxyz", lambda node: node.text(3, 2), "'wxyz', must be a text of 2 to 3 printable characters"),
    ("", lambda node: node.text(), "'', must be a text of 1 to 256 printable characters"),
    ("a1b", lambda node: node.matching("[a-z][0-9]"), "'a1b', must be a text like [a-z][0-9]"),
    ("c", lambda node: node.choice(["b", "a"]), "'c', must be one of b, a"),
    ([1], lambda node: node.items(3, 2), "[1], must be a list of 2 to 3 elements"),
    ([1] * 4, lambda node: node.items(3, 2), "[1, 1, 1, 1], must be a list of 2 to 3 elements"),
    ({"a": 1}, lambda node: [*node.named(0)], "{'a': 1}, must be an object of at most 0 fields"),
    ({"a": 1}, lambda node: node["b"], "{'a': 1}, must be an object with a field b"),
    ("abc", lambda node: node["b"], "'abc', must be an object with a field b"),
    ("abc", lambda node: node.fields("b"), "'abc', must be an object"),
    ("x" * 58, lambda node: node.flag(), f"'{'x' * 58}', must be true or false"),
    ("x" * 59, lambda node: node.flag(), f"'{'x' * 59}..., must be true or false"),
]


@pytest.mark.parametrize(("value", "read", "message"), REFUSED)
def test_what_is_beyond_its_limits_is_shown(value, read, message):
    refused(lambda: read(Node(value, "it")), f"it is {message}")


def test_places_are_told():
    node = Node({"a": [{"b": "x"}], "c": {"long" * 20: 5}}, "it")
    (inner,) = node.fields("a", "c")["a"].items(1, 1)
    assert inner["b"].where == "it.a[0].b"
    ((name, value),) = node["c"].named(1)
    assert (name, value.where, value.integer(5, 5)) == ("long" * 20, f"it.c.{'long' * 15}", 5)
    assert node.optional() is node
    refused(lambda: node.fields("a", "b"), "it has no field b")
    refused(lambda: node["c"].fields(), f"it.c has an unknown field '{'long' * 15}'")
    odd = Node({"a\n": 5}, "it")
    refused(
        lambda: [*odd.named(1)],
        "a name in it is 'a\\n', must be a text of 1 to 256 printable characters",
    )


def test_containers_inside_each_other_are_counted_outside_of_text():
    assert DEEPEST == 16
    for opened, closed in (("[", "]"), ('{"\\"{[":', "}")):
        assert parse((opened * 16 + "1" + closed * 16).encode(), "it").optional() is not None
        refused(
            lambda text=opened * 17 + "1" + closed * 17: parse(text.encode(), "it"),
            "it has 17 levels, at most 16 are allowed",
        )
    flat = parse(b"[" + b"[],{}," * 40 + b"[]]", "it")
    assert len(flat.items(81)) == 81


def test_the_field_that_is_there_twice_is_told():
    text = f'{{"a": 1, "{"b" * 61}": 1, "{"b" * 61}": 2}}'
    message = f"it is no JSON: field '{'b' * 60}' is there twice"
    refused(lambda: parse(text.encode(), "it"), message)
