"""Names of operators that are used again."""

import torch

from transept.host.front.names import Names, base_name, layer_name


def test_uses_and_variants_of_a_layer_are_numbered():
    names, one, two = Names(), torch.tensor([1.0, 2]), torch.tensor([1.0, 3])
    facts = [
        (one, 3),
        (one.clone(), 3),
        (two, 3),
        (one, 4),
        (two, 3),
        (one, 3),
        (one,),
        (one[:1], 3),
    ]
    assert [names.give("x", tuple(fact)) for fact in facts] == [
        *("x", "x#2", "x~2", "x~3", "x~2#2", "x#3", "x~4", "x~5")
    ]
    assert names.give("y", (one, 3)) == "y"
    assert names.give("x", (3, one)) == "x~6"


def test_numbers_are_left_out():
    assert base_name("a.0~2#13.query#2") == "a.0~2.query"
    assert layer_name("a.0~2#13.query#2") == "a.0.query"
