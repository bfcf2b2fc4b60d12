"""What does not fit an operator of a graph, and what just fits."""

import dataclasses

import numpy as np
import pytest
from graphs import GraphBuilder, attention_alone

from transept.golden.graph import GraphError, Value
from transept.golden.numerics.four_bit import FourBitWeights
from transept.golden.ops import Multiply, Rotary


def plain(**changes):
    """What a value becomes."""
    return {"scale": None, **changes}


def turned(
    heads=2, width=16, d=8, bits=8, x_bits=16, cos_bits=16, dim="rows", shift=7, out_width=None
):
    """A rotary embedding with one thing that is not as it must be."""
    values = {
        "x": Value("x", "rows", width, x_bits),
        "cos": Value("cos", dim, d, cos_bits),
        "sin": Value("sin", dim, d),
        "out": Value("out", "rows", out_width or width, bits),
    }
    Rotary("turn", "x", "cos", "sin", "out", heads, shift).check(values)


def multiplied(width=4, x_bits=16, dim="rows", shift=15):
    values = {
        "y": Value("y", "rows", 4),
        "x": Value("x", dim, 4, x_bits),
        "out": Value("out", "rows", width),
    }
    Multiply("gate", "y", "x", "out", shift).check(values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: turned(out_width=15), "turn has x of rows x 16 and out of rows x 15"),
        (lambda: turned(heads=0), "turn has 0 heads of 8 elements for the 16 of x"),
        (lambda: turned(heads=4), "turn has 4 heads of 8 elements for the 16 of x"),
        (lambda: turned(heads=2, width=10, d=5), "pairs are due"),
        (lambda: turned(x_bits=8), "turn takes int16 rows, x has 8 bits"),
        (lambda: turned(cos_bits=8), "turn takes int16 rows, cos has 8 bits"),
        (lambda: turned(bits=16), "turn makes 8 bits, out has 16"),
        (lambda: turned(dim="others"), "turn: x and cos differ in rows"),
        (lambda: turned(shift=16), "turn: field shift=16 is outside 0 to 15"),
        (lambda: multiplied(width=5), "gate has y of rows x 4 and out of rows x 5"),
        (lambda: multiplied(x_bits=8), "gate takes int16 rows, x has 8 bits"),
        (lambda: multiplied(dim="others"), "gate has y of rows x 4 and x of others x 4"),
        (lambda: multiplied(shift=-1), "gate: field shift=-1 is outside 0 to 15"),
    ],
)
def test_elements_that_do_not_meet(make, message):
    with pytest.raises(GraphError, match=message):
        make()


def test_what_meets_is_taken():
    turned()
    turned(heads=1, width=8, shift=15)
    multiplied()
    multiplied(shift=0)


def put(name, *numbers):
    """An operator whose parameter ``name`` begins with other numbers."""

    def make(op):
        array = getattr(op, name).copy()
        array[: len(numbers)] = numbers
        return dataclasses.replace(op, **{name: array})

    return make


def inside(part, name, *numbers):
    """The same of a parameter of ``part``."""

    def make(op):
        return dataclasses.replace(op, **{part: put(name, *numbers)(getattr(op, part))})

    return make


def checked(op, values, change, others):
    """Check an operator with one thing changed, of it or of its values."""
    op = change(op) if callable(change) else dataclasses.replace(op, **change)
    op.check(values | {name: dataclasses.replace(values[name], **o) for name, o in others.items()})


@pytest.mark.parametrize(
    ("change", "others", "message"),
    [
        ({"heads": 0}, {}, "has heads 0, at least 1 is due"),
        ({"kv_heads": -1}, {}, "has kv_heads -1, at least 1 is due"),
        ({"block": 0}, {}, "has block 0, at least 1 is due"),
        ({}, {"v0": {"bits": 16}}, "takes v0 of 8 bits, not 16"),
        ({}, {"v1": {"bits": 16}}, "takes v1 of 8 bits, not 16"),
        ({}, {"v2": {"bits": 16}}, "takes v2 of 8 bits, not 16"),
        ({}, {"v3": {"bits": 8}}, "takes v3 of 16 bits, not 8"),
        ({"heads": 5}, {}, "has 5 heads for 2 key-value heads"),
        ({}, {"v0": plain(width=30)}, "4 heads do not divide the 30 of v0"),
        ({}, {"v1": plain(width=15)}, "2 heads do not divide the 15 of v1"),
        ({}, {"v2": plain(width=17)}, "2 heads do not divide the 17 of v2"),
        ({}, {"v0": plain(width=28)}, "heads of v0 and v1 differ in width"),
        ({}, {"v3": plain(width=36)}, "v3 has 36 elements for its heads"),
        ({}, {"v2": plain(width=18)}, "v3 has 32 elements for its heads"),
        ({}, {"v1": {"dim": "keys"}}, "v1, v2 or v0, v3 differ in rows"),
        ({}, {"v2": {"dim": "keys"}}, "v1, v2 or v0, v3 differ in rows"),
        ({}, {"v3": {"dim": "keys"}}, "v1, v2 or v0, v3 differ in rows"),
        (put("score_multiplier", 1 << 16, 0), {}, "holds 65536, outside 0 to 65535"),
        (put("score_shift", 0, -1), {}, "holds -1, outside 0 to 31"),
        ({"score_shift": np.zeros(2, np.int64)}, {}, r"is int64\[2\], must be int64\[4\]"),
        ({"score_shift": np.zeros(4)}, {}, r"is float64\[4\], must be int64\[4\]"),
        ({"score_row_shift": 64}, {}, "field row_shift=64 is outside 0 to 63"),
        (inside("context", "bias", -1, -1 - (1 << 23)), {}, "holds -8388609, outside -8388608 to"),
        ({"context_row_shift": -1}, {}, "field row_shift=-1 is outside 0 to 63"),
        ({"context_out_shift": 16}, {}, "field out_shift=16 is outside 0 to 15"),
    ],
)
def test_attention_that_does_not_fit(change, others, message):
    graph = attention_alone(0, 32, 4, kv_heads=2)
    (op,) = graph.ops
    with pytest.raises(GraphError, match=f"^(.* of )?attention0:? {message}"):
        checked(op, graph.values, change, others)


@pytest.mark.parametrize(
    ("change", "others"),
    [
        ({"block": 1, "score_row_shift": 63, "context_row_shift": 63, "context_out_shift": 15}, {}),
        ({"score_row_shift": 0, "context_row_shift": 0, "context_out_shift": 0}, {}),
        (put("score_multiplier", 65535, 0), {}),
        (put("score_shift", 31, 0), {}),
        (inside("context", "bias", (1 << 23) - 1, -(1 << 23)), {}),
        ({}, {"v1": {"dim": "keys"}, "v2": {"dim": "keys"}}),
    ],
)
def test_attention_at_its_limits(change, others):
    graph = attention_alone(0, 32, 4, kv_heads=2)
    (op,) = graph.ops
    checked(op, graph.values, change, others)


def linear(total=100, halves=False, k=4224):
    """A linear layer whose first output has weights of this sum of magnitudes."""
    build = GraphBuilder(0, dims=("rows", "keys"))
    x = build.value(k)
    build.linear(x, 2)
    weight = np.zeros((2, k), np.int8)
    weight[0, : total // 127], weight[0, total // 127] = -127, total % 127
    return dataclasses.replace(build.ops[0], weight=weight, halves=halves), build.values


@pytest.mark.parametrize(
    ("halves", "most", "reach"), [(False, 528416, 67108959), (True, 526344, 67108988)]
)
def test_sums_that_an_accumulator_holds(halves, most, reach):
    """``127 * most`` is less than ``2**26``, with half of it once more for the lower halves."""
    op, values = linear(most, halves)
    op.check(values)
    op, values = linear(most + 1, halves)
    with pytest.raises(GraphError, match=f"may reach {reach}, accumulators have 27 bits"):
        op.check(values)


def four_bit(n, k, code=3):
    """Weights of four bits, each of them ``code``."""
    groups = np.full((n, k // 32), 128, np.uint16), np.zeros((n, k // 32), np.int16)
    return FourBitWeights(np.full((n, k), code, np.uint8), *groups)


THREES = {"weight": np.full((2, 64), 3, np.int8)}


@pytest.mark.parametrize(
    ("change", "others", "message"),
    [
        ({"weight": np.zeros((2, 64))}, {}, r"weights of linear0 are float64\[2, 64\], must be"),
        ({}, {"v1": plain(width=3)}, r"are int8\[2, 64\], must be int8\[3, 64\]"),
        (inside("channel", "shift", 0, 32), {}, "shift of linear0 holds 32, outside 0 to 31"),
        ({"row_shift": 64}, {}, "linear0: field row_shift=64 is outside 0 to 63"),
        ({"out_shift": 16}, {}, "linear0: field out_shift=16 is outside 0 to 15"),
        (
            lambda op: dataclasses.replace(op, table=dataclasses.replace(op.table, width=16)),
            {},
            "width of the table of linear0 holds 16, outside 0 to 15",
        ),
        (inside("table", "c2", 1 << 15), {}, "c2 of the table of linear0 holds 32768, outside"),
        ({}, {"v1": {"dim": "keys"}}, "linear0 reads rows of rows and writes rows of keys"),
        (
            {"weight": np.eye(2, 64, dtype=np.int8) * -128},
            {},
            "linear0 hold -128, operands are -127",
        ),
        ({"halves": True}, {"v0": {"bits": 8}}, "linear0 has halves of rows of 8 bits, must be 16"),
        (
            {"packed": four_bit(2, 32)},
            {},
            r"four-bit weights of linear0: codes is uint8\[2, 32\], must be uint8\[2, 64\]",
        ),
        (
            {"packed": four_bit(2, 64, 4), **THREES},
            {},
            "weights of linear0 are not those of its four bits",
        ),
    ],
)
def test_linear_layers_that_do_not_fit(change, others, message):
    op, values = linear(k=64)
    op = dataclasses.replace(op, table=GraphBuilder(0).table())
    checked(op, values, {"packed": four_bit(2, 64), **THREES}, {})
    checked(op, values, {"halves": True, "row_shift": 63, "out_shift": 15}, {})
    with pytest.raises(GraphError, match=message):
        checked(op, values, change, others)


def normed(width=4):
    """A norm of a sum that is kept."""
    build = GraphBuilder(0, dims=("rows", "keys"))
    build.norm_and_sum(build.value(width), build.value(width))
    return build.ops[0], build.values


@pytest.mark.parametrize(
    ("change", "others", "message"),
    [
        *(
            ({}, {f"v{n}": {"bits": 8}}, f"norm0 takes int16 rows, v{n} has 8 bits")
            for n in range(4)
        ),
        *(
            ({}, {f"v{n}": plain(width=5)}, f"norm0 has v0 of rows x 4 and v{n} of rows x 5")
            for n in range(1, 4)
        ),
        ({}, {"v3": {"dim": "keys"}}, "norm0 has v0 of rows x 4 and v3 of keys x 4"),
        (inside("parameters", "sum_shift", 16), {}, "sum_shift of norm0 holds 16, outside 0 to 15"),
        ({"epsilon": 1 << 32}, {}, "norm0: field epsilon=4294967296 is outside 0 to 4294967295"),
        ({"out_shift": -1}, {}, "norm0: field out_shift=-1 is outside 0 to 63"),
    ],
)
def test_norms_that_do_not_fit(change, others, message):
    op, values = normed()
    checked(op, values, {"epsilon": (1 << 32) - 1, "out_shift": 63}, {})
    with pytest.raises(GraphError, match=message):
        checked(op, values, change, others)


def test_the_shortest_norm_has_two_elements():
    op, values = normed(2)
    op.check(values)
    op, values = normed(1)
    with pytest.raises(GraphError, match="norm0 needs rows of at least 2 elements, got 1"):
        op.check(values)


@pytest.mark.parametrize(
    ("change", "others", "message"),
    [
        ({}, {"v1": {"bits": 8}}, "add0 takes int16 rows, v1 has 8 bits"),
        ({}, {"v2": {"bits": 8}}, "add0 takes int16 rows, v2 has 8 bits"),
        ({}, {"v2": plain(width=5)}, "add0 has v0 of rows x 4 and v2 of rows x 5"),
        (inside("parameters", "y_shift", -1), {}, "y_shift of add0 holds -1, outside 0 to 15"),
    ],
)
def test_sums_that_do_not_fit(change, others, message):
    build = GraphBuilder(0)
    build.add(build.value(4), build.value(4))
    with pytest.raises(GraphError, match=message):
        checked(build.ops[0], build.values, change, others)
