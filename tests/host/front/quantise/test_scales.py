"""Scales worked out by hand: who shares a grid, and how fine it is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matches import add, attention, linear, multiply, norm

from transept.host.front.quantise.scales import Scales
from transept.host.front.ranges import Ranges

STEP16 = 2.0 / 32767  # of a value that reaches 1, with room for twice as much


def scales(*ops, **largest):
    """Of operators whose values have these largest magnitudes; ``__before`` is ``.before``."""
    ranges = Ranges(())
    for name, channels in largest.items():
        ranges.add(name.replace("__", "."), torch.tensor([channels], dtype=torch.float64))
    return Scales(ops, ranges)


def test_a_layer_shares_the_spread_of_its_operand_with_its_weights():
    """Factors are the roots of 1 / 4 and of 4 / 9; the bias of the result counts as its range."""
    found = scales(linear([[4.0, 1], [1, -9]], [0, 3.0], outputs=["y"]), x=[1.0, 4], y=[2.0, 1])
    assert found.scale["x"] / STEP16 == pytest.approx([3, 4])
    assert found.scale["y"] / STEP16 == pytest.approx([2, 3])
    assert (found.bits, found.exponents, found.totals) == ({"x": 16, "y": 16}, {}, {})


def test_all_layers_that_read_a_value_count():
    ops = linear([[4.0, 1]], name="a"), linear([[1.0, 16], [0, 0]], name="b")
    found = scales(*ops, x=[1.0, 4], a=[1.0], b=[1.0, 1])
    assert found.scale["x"] / STEP16 == pytest.approx([4, 4])


def test_a_column_without_weights_has_a_scale():
    found = scales(linear([[1.0, 0]]), x=[1.0, 1], linear=[1.0])
    assert found.scale["x"] / STEP16 == pytest.approx([1, 1000])


def test_queries_and_keys_have_a_scale_for_each_head_and_values_for_each_channel():
    found = scales(
        attention(2, 2), q=[1.0, 2, 3, 1], k=[5.0, 6, 7, 9], v=[7.0, 8, 1, 2], attention=[1.0] * 4
    )
    assert {name: (found.scale[name] * 127).tolist() for name in "qkv"} == {
        "q": pytest.approx([2, 2, 3, 3]),
        "k": pytest.approx([6, 6, 9, 9]),
        "v": pytest.approx([7, 8, 1, 2]),
    }
    assert found.bits == {"q": 8, "k": 8, "v": 8, "attention": 16}
    # a context may be a single value, without room above it
    assert found.scale["attention"] / STEP16 == pytest.approx([3.5, 4, 1, 1])


def test_query_heads_of_the_same_keys_share_their_scales():
    found = scales(
        attention(4, 2),
        q=[1.0, 2, 3, 1, 4, 5, 1, 1],
        k=[5.0, 6, 7, 8],
        v=[7.0, 8, 1, 2],
        attention=[1.0, 5, 4, 3, 9, 1, 1, 8],
    )
    assert (found.scale["q"] * 127).tolist() == pytest.approx([3] * 4 + [5] * 4)
    assert (found.scale["k"] * 127).tolist() == pytest.approx([6, 6, 8, 8])
    assert found.scale["attention"] / STEP16 == pytest.approx([4, 5, 4, 5, 9, 8, 9, 8])


def test_and_the_smoothing_of_their_contexts():
    layer = linear(np.diag([1.0, 4, 9, 2]).tolist(), x="attention", outputs=["y"])
    found = scales(
        attention(2, 1),
        layer,
        q=[1.0] * 4,
        k=[1.0] * 2,
        v=[1.0] * 2,
        attention=[4.0, 9, 4, 9],
        y=[1.0] * 4,
    )
    first, second = np.split(found.scale["attention"], 2)
    assert first.tolist() == second.tolist()
    assert first[1] / first[0] == pytest.approx((9 / 4) ** 0.5 / (4 / 9) ** 0.5)


def test_a_normalised_value_reaches_its_gain_and_offset():
    op = norm([1.0, -4, 1], [2.0, 0, 3], outputs=["out", "total"], inputs=["y", "x"], total="total")
    found = scales(op, y=[1.0] * 3, x=[1.0] * 3, out=[1.0, 1, 8], total=[2.0] * 3)
    assert found.scale["out"] / STEP16 == pytest.approx([2, 4, 8])


@pytest.mark.parametrize(
    ("function", "reach", "before", "bias", "exponent"),
    [
        (torch.relu, 20.0, 5.0, 3.0, -11),  # 10 of 32767 steps: twice what reached the function
        (torch.relu, 20.0, 5.0, 9.0, -10),  # its offset alone reaches further
        (torch.square, 20.0, 5.0, 3.0, -9),  # twice what it returned is less than it can
        (torch.tanh, 20.0, 5.0, 3.0, -14),
        (lambda x: 1 / torch.relu(x), 20.0, 5.0, 3.0, -9),  # infinite at 0
        (torch.relu, 1e-9, 0.0, 0.0, -33),
        (lambda x: 0 * x, 0.0, 0.0, 0.0, -34),
        (lambda x: torch.relu(-x), 20.0, 5.0, 3.0, -11),
        (lambda x: torch.exp(-x * x), 20.0, 5.0, 3.0, -14),  # largest at 0 alone
    ],
)
def test_results_of_a_function_have_room_but_no_more_than_it_can_return(
    function, reach, before, bias, exponent
):
    op = linear([[1.0]], [bias], activation=SimpleNamespace(function=function))
    with np.errstate(divide="ignore"):
        found = scales(op, x=[1.0], linear=[reach], linear__before=[before])
    assert found.scale["linear"].tolist() == [2.0**exponent]
    assert found.tables["linear"].out_exponent == exponent


@pytest.mark.parametrize(
    ("before", "bias", "exponent"),
    [
        ([5.0, 1.0], [3.0, 0.0], -11),  # 10 of 32767 steps
        ([1.0, 5.0], [0.0, 9.0], -10),
        ([0.0, 0.0], [0.0, 0.0], -27),  # as if it reached 1e-4
    ],
)
def test_the_argument_of_a_function_reaches_as_far_as_its_bias(before, bias, exponent):
    op = linear([[1.0], [1.0]], bias, activation=SimpleNamespace(function=torch.relu))
    found = scales(op, x=[1.0], linear=[1.0, 1.0], linear__before=before)
    assert found.tables["linear"].in_exponent == exponent


def test_results_of_several_functions_reach_as_far_as_the_largest():
    ops = [
        linear([[1.0]], name="s", activation=SimpleNamespace(function=torch.tanh)),
        linear([[1.0]], name="r", activation=SimpleNamespace(function=torch.relu)),
        linear([[1.0]], name="both", x="s"),
        linear([[1.0]], name="both#2", x="r"),
    ]
    found = scales(*ops, x=[1.0], s=[9.0], r=[9.0], both=[1.0], s__before=[5.0], r__before=[5.0])
    assert found.scale["s"] == found.scale["r"] == 2.0**-11
    assert [found.tables[name].out_exponent for name in "sr"] == [-11, -11]


def test_results_that_are_those_of_a_function_and_of_none_share_a_power_of_two():
    ops = [
        linear([[1.0]], name="act", activation=SimpleNamespace(function=torch.tanh)),
        linear([[1.0]], name="none"),
        linear([[1.0]], name="both", x="act"),
        linear([[1.0]], name="both#2", x="none"),
    ]
    found = scales(*ops, x=[1.0], act=[1.0], none=[3.0], both=[1.0], act__before=[9.0])
    assert found.scale["act"] == found.scale["none"] == 2.0**-12
    assert found.tables.keys() == {"act"}


def test_operands_of_a_sum_are_powers_of_two_from_its_own_step():
    """Steps of the sum, at 24 bits, are 2**-21; no operand is shifted by more than 15."""
    found = scales(add(outputs=["out"]), y=[1.0, 2.0**-9], x=[2.0**-5, 4.0], out=[1.0, 1])
    assert found.totals == {"sum": -21}
    assert {name: exponents.tolist() for name, exponents in found.exponents.items()} == {
        "y": [-13, -21],
        "x": [-18, -11],
        "out": [-13, -13],
    }
    assert found.scale["y"].tolist() == [2.0**-13, 2.0**-21]


def test_an_operand_much_larger_than_its_sum_makes_the_sum_coarser():
    found = scales(add(outputs=["out"]), y=[512.0, 1.0], x=[1.0, 1.0], out=[1.0, 1.0])
    assert found.totals == {"sum": -19}
    assert found.exponents["y"].tolist() == [-4, -13]


def test_what_layers_read_of_a_sum_is_smoothed_by_powers_of_two():
    ops = add(outputs=["out"]), linear([[1.0, 64.0]], x="out", name="next")
    found = scales(*ops, y=[1.0, 1], x=[1.0, 1], out=[1.0, 1], next=[1.0])
    assert found.exponents["out"].tolist() == [-10, -13]
    assert found.exponents["y"].tolist() == [-13, -13]


def test_a_function_before_a_sum_has_one_exponent():
    op = linear([[1.0], [1.0]], activation=SimpleNamespace(function=torch.relu), outputs=["y"])
    ranges = {"y": [1.0, 8.0], "linear__before": [4.0, 8.0], "xs": [1.0]}
    found = scales(*(op, add(outputs=["out"])), x=[2.0, 2], out=[8.0, 8], **ranges)
    assert found.exponents["y"].tolist() == [-10, -10]


def test_a_function_and_none_before_a_sum_have_one_exponent():
    ops = [
        linear([[1.0], [1.0]], name="act", activation=SimpleNamespace(function=torch.relu)),
        linear([[1.0], [1.0]], name="none"),
        add(name="s", inputs=["act", "z"]),
        add(name="s#2", inputs=["none", "z"]),
        linear([[64.0, 1.0]], x="act", name="next"),
    ]
    two = [1.0, 1.0]
    found = scales(*ops, x=[1.0], act=[1.0, 8], none=two, act__before=two, s=two, z=two, next=[1.0])
    assert found.exponents["act"].tolist() == found.exponents["none"].tolist() == [-10, -10]


@pytest.mark.parametrize("reach", [([1.0, 0.25], [100.0, 0.5]), ([100.0, 0.5], [1.0, 0.25])])
def test_uses_of_a_norm_have_the_steps_of_the_larger_sum(reach):
    ops = norm([1.0, 1.0], name="n", inputs=["y"]), norm([1.0, 1.0], name="n#2", inputs=["z"])
    found = scales(*ops, y=reach[0], z=reach[1], n=[1.0, 1.0])
    assert found.totals == {"n": -15, "n#2": -15}  # 200 of 2**23 steps


def test_channels_of_a_group_have_one_scale():
    """Factors of both groups are 2 and 3 / 2: the roots of 4 / 1 and of 9 / 4."""
    x = np.ones(64)
    x[5], x[40] = 4, 9
    weight = np.full(64, 0.5)
    weight[9], weight[50] = 1, -4
    ranges = Ranges(())
    ranges.add("x", torch.as_tensor(x)[None])
    ranges.add("y", torch.ones(1, 1, dtype=torch.float64))
    op = linear([weight.tolist()], outputs=["y"])
    found = Scales([op], ranges, {"x"})
    assert found.scale["x"] / STEP16 == pytest.approx([12] * 32 + [9] * 32)
    assert len(set(Scales([op], ranges, {"z"}).scale["x"].round(12))) > 2


def gated(*activations):
    """Two layers of x, the product of which a third one reads."""
    made = [function and SimpleNamespace(function=function) for function in activations]
    return (
        linear([[1.0]], name="a", activation=made[0]),
        linear([[1.0]], name="b", activation=made[1]),
        multiply("a", "b", name="p"),
        linear([[1.0]], name="last", x="p"),
    )


REACH = {"x": [1.0], "a": [1.0], "b": [1.0], "p": [1.0], "last": [1.0]}


def test_the_second_of_two_free_factors_has_the_scale_that_its_product_wants():
    found = scales(*gated(None, None), **REACH | {"a": [1.8]})
    assert (found.shifts, found.unfit) == ({"p": 13}, {})
    assert found.scale["a"] == pytest.approx(1.8 * STEP16)
    assert found.scale["b"] == pytest.approx(2.0**-13 / 1.8)
    assert found.scale["p"] == pytest.approx(STEP16)


@pytest.mark.parametrize("activations", [(torch.tanh, None), (None, torch.tanh)])
def test_a_factor_that_is_a_function_keeps_its_scale(activations):
    found = scales(*gated(*activations), **REACH, a__before=[5.0], b__before=[5.0])
    fixed, free = ("a", "b") if activations[0] else ("b", "a")
    assert found.scale[fixed] == 2.0**-14
    assert found.scale[free] == pytest.approx(STEP16)
    assert found.scale["p"] == pytest.approx(found.scale[free] * 2.0 ** (found.shifts["p"] - 14))
    assert found.shifts == {"p": 14}


def test_a_factor_that_something_else_reads_keeps_its_scale():
    other = linear([[1.0]], name="other", x="b")
    found = scales(*gated(torch.tanh, None), other, **REACH, other=[1.0], a__before=[5.0])
    assert found.scale["b"] == pytest.approx(STEP16)
    assert found.shifts == {"p": 14}
    assert found.scale["p"] == pytest.approx(STEP16)


def test_factors_that_are_functions_decide_on_their_product():
    given = {"a__before": [5.0], "b__before": [5.0]}
    found = scales(*gated(torch.tanh, torch.tanh), **REACH, **given)
    assert found.scale["a"] == found.scale["b"] == 2.0**-14
    assert found.shifts == {"p": 15}
    assert found.scale["p"] == 2.0**-13


def test_products_that_one_layer_reads_have_one_scale():
    """The factors of the second one have half the steps, however small all of them are."""
    least = 2.0**-9
    functions = (lambda x: torch.tanh(x) * least), (lambda x: torch.tanh(x) * least / 2)
    second = (
        linear([[1.0]], name="c", activation=SimpleNamespace(function=functions[1])),
        linear([[1.0]], name="d", activation=SimpleNamespace(function=functions[0])),
        multiply("c", "d", name="q"),
        linear([[1.0]], name="last#2", x="q"),
    )
    reach = {name: [least] for name in "abd"} | {name: [least**2] for name in "pq"}
    reach["c"] = [least / 2]
    before = {f"{name}__before": [5.0] for name in "abcd"}
    found = scales(*gated(functions[0], functions[0]), *second, **REACH | reach | before)
    assert found.scale["p"] == found.scale["q"] == 2.0**-31
    assert found.unfit == {"q": "its result has the scale of another product"}
    assert found.shifts == {"p": 15}


FINEST16, FINEST8 = 1e-6 * (2 / 32767), 1e-6 * (1 / 127)


@pytest.mark.parametrize(
    ("x", "y", "weight", "small"),
    [
        (1.0, [64 * FINEST16, 0.0], [1.0, 0.0], None),
        (1.0, [63.9 * FINEST16, 0.0], [1.0, 0.0], "y"),
        (1.0, [0.0, 0.0], [1.0, 0.0], None),
        (63.9 * FINEST16, [3e-6, 0.0], [1.0, 0.0], "x"),
        (63.9 * FINEST16, [4.1e-6, 0.0], [1.0, 0.0], None),  # the bias makes nearly all of it
        (63.9 * FINEST16, [4.1e-6, 0.0], [0.0, -2.0], "x"),
        (64.1 * FINEST16, [3e-6, 0.0], [1.0, 0.0], None),
        (1e-9, [1e-6, 0.0], [1.0, 0.0], None),
        (0.0, [3e-6, 0.0], [1.0, 0.0], None),
    ],
)
def test_a_layer_is_too_small_below_64_of_the_finest_steps(x, y, weight, small):
    op = linear([[w] for w in weight], outputs=["y"])
    assert scales(op, x=[x], y=y).too_small(op) == small


@pytest.mark.parametrize(("reach", "small"), [(64 * FINEST8, None), (63.9 * FINEST8, "q")])
def test_steps_of_queries_are_those_of_eight_bits(reach, small):
    op = linear([[1.0]], outputs=["q"])
    one = [1.0]
    found = scales(op, attention(1, 1), x=one, q=[reach], k=one, v=one, attention=one)
    assert found.too_small(op) == small


def test_sums_of_one_value_are_15_shifts_apart_at_most():
    """A large sum makes those before it coarser, through any number of them."""
    ops = (
        add(name="a", inputs=["y", "x"]),
        add(name="b", inputs=["a", "z"]),
        add(name="c", inputs=["b", "big"]),
    )
    one = [1.0]
    found = scales(*ops, y=one, x=one, a=one, z=one, b=one, big=[2.0**38], c=[2.0**38])
    assert found.totals == {"c": 17, "b": 2, "a": -13}
    assert {name: int(exponent[0]) for name, exponent in found.exponents.items()} == {
        **{"y": -13, "x": -13, "a": 2, "z": 2, "b": 17, "big": 25, "c": 25}
    }
    assert [found.lost(op) for op in ops] == ["a", "b", None]


@pytest.mark.parametrize(("reach", "lost"), [(512.0, None), (508.0, "y")])
def test_a_value_is_lost_below_64_steps(reach, lost):
    """A grid is at least as coarse as the sum, here of steps of 8."""
    ops = add(outputs=["out"]), linear([[1.0, 1.0]], x="y", name="next")
    found = scales(*ops, y=[reach, 0.0], x=[1.0, 1], out=[2.0**24, 0], next=[1.0])
    assert found.exponents["y"].tolist() == [3, 3]
    assert found.lost(ops[0]) == lost


def test_what_only_sums_read_may_be_as_small_as_it_likes():
    op = add(outputs=["out"])
    assert scales(op, y=[1.0], x=[1.0], out=[2.0**26]).lost(op) is None


def test_a_value_of_zeros_is_not_lost():
    ops = add(outputs=["out"]), linear([[1.0]], x="y", name="next")
    assert scales(*ops, y=[0.0], x=[1.0], out=[2.0**26], next=[1.0]).lost(ops[0]) is None


def test_an_epsilon_may_leave_nothing_of_a_norm():
    for epsilon, lost in ((1e-6, None), (1e6, "y")):
        op = norm([1.0, 1.0], epsilon=epsilon)
        assert scales(op, y=[1e-3, 1e-3], norm=[1.0, 1.0]).lost(op) == lost


def test_uses_of_one_layer_share_their_grids():
    ops = (
        linear([[1.0]], name="a"),
        linear([[1.0]], name="b"),
        linear([[1.0]], name="c", x="a"),
        linear([[1.0]], name="c#2", x="b"),
    )
    found = scales(*ops, x=[1.0], a=[1.0], b=[7.0], c=[2.0])
    assert found.scale["a"] == found.scale["b"] == pytest.approx(7 * STEP16)
    assert found.scale["c"] == found.scale["c#2"]
