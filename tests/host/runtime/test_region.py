"""Regions: real numbers to integers and back, and which inputs and lengths fit."""

import dataclasses

import numpy as np
import pytest
from graphs import GraphBuilder, cross

from transept.golden.config import TINY
from transept.golden.graph import Graph
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.region import Region, notes_beyond


@pytest.fixture(scope="module")
def region():
    """A linear layer on three int8 values in steps of 1/8, 1/4 and 1, and one of other rows."""
    build = GraphBuilder(1, limit=6, dims=("rows", "others"))
    x, y = build.value(3, 8), build.value(2, dim="others")
    out, other = build.linear(x, 2), build.linear(y, 3, 8)
    for name, scale in ((x, [0.125, 0.25, 1.0]), (y, [0.5, 2.0])):
        build.values[name] = dataclasses.replace(build.values[name], scale=np.array(scale))
    return Region("it", build.graph([x, y], [out, other]), TINY)


def refused(call, message):
    with pytest.raises(ProgramError) as found:
        call()
    assert str(found.value) == message


# --- real numbers
def test_real_numbers_are_rounded_to_even_and_clipped(region):
    real = [[[0.0625, 0.125, 0.5], [0.1875, 0.375, -2.5], [900, -900, 127.4]]]
    steps = region.quantise("v0", np.array(real))
    assert steps.dtype == np.int8
    assert steps.tolist() == [[[0, 0, 0], [2, 2, -2], [127, -127, 127]]]
    assert region.real("v0", steps).tolist() == [
        [[0, 0, 0], [0.25, 0.5, -2], [15.875, -31.75, 127]]
    ]
    wide = region.quantise("v1", [1e9, -1e9])
    assert (wide.dtype, wide.tolist()) == (np.int16, [32767, -32767])


def test_what_is_no_input_or_has_another_width_is_refused(region):
    for name in ("v2", "x"):
        refused(lambda name=name: region.quantise(name, np.ones(2)), f"it has no input {name}")
    message = "it: input v0 has shape {}, must be [batch, length, 3]"
    refused(lambda: region.quantise("v0", 5.0), message.format("[]"))
    refused(lambda: region.quantise("v0", np.ones((1, 3, 2))), message.format("[1, 3, 2]"))
    assert region.quantise("v0", np.ones((1, 2, 3))).shape == (1, 2, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_number_that_is_not_finite_is_told(region, value):
    real = np.ones((2, 2, 3))
    real[1, 0, 2] = real[1, 1, 1] = value
    refused(
        lambda: region.quantise("v0", real),
        f"it: input v0 holds {value} at [1, 0, 2]; only finite values can be quantised",
    )


def test_values_beyond_the_grid_are_counted_in_real_rows(region):
    real = np.zeros((2, 2, 3))
    real[0] = [[15.9375, -31.75, 128], [1e9, 0, 0]]
    real[1, 1] = [15.875, 32, -1e9]
    for lengths, count in ((None, 5), ([2, 2], 5), ([1, 2], 4), ([1, 1], 2), ([2, 1], 3)):
        assert region.beyond("v0", real, lengths) == (count, 12)


def test_more_than_a_thousandth_beyond_the_grid_is_noted():
    assert notes_beyond({"a": (1, 1000), "b": (2, 1999), "c": (1234, 567890), "d": (0, 9)}) == [
        "2 of 1,999 values lie beyond the grid of b and were clipped",
        "1,234 of 567,890 values lie beyond the grid of c and were clipped",
    ]


def test_values_without_a_scale_take_integers_alone(region):
    values = {
        name: dataclasses.replace(value, scale=None) for name, value in region.graph.values.items()
    }
    graph = region.graph
    bare = Graph(graph.dims, values, graph.inputs, graph.outputs, graph.ops)
    bare = Region("it", bare, TINY)
    refused(lambda: bare.quantise("v0", np.ones(3)), "it: v0 has no scale, it takes integers alone")
    refused(lambda: bare.real("v2", np.ones(2)), "it: v2 has no scale, it takes integers alone")


# --- shapes
def inputs(batch=2, rows=3, others=4):
    return {
        "v0": np.full((batch, rows, 3), -127, np.int8),
        "v1": np.full((batch, others, 2), -32767, np.int16),
    }


def test_shapes_have_the_rows_of_every_dimension(region):
    shape = region.check(inputs(), None)
    assert (shape.batch, shape.lengths) == (2, {"rows": 3, "others": 4})
    assert region.check(inputs(1, 6, 1), {"rows": [6]}).lengths == {"rows": 6, "others": 1}
    assert region.check(inputs(), {"rows": [1, 3], "others": (4, 1)}) == shape
    assert region.shape(2, {"others": 4, "rows": 3}) == shape


LOWEST = inputs()["v0"].copy()
LOWEST[1, 2, 0] = -128
CHECKS = [
    (inputs() | {"v1": LOWEST}, {}, "input v1 is int8, must be int16"),
    (
        inputs() | {"v0": LOWEST},
        {},
        "input v0 holds -128, int8 operands are -127 to 127",
    ),
    (
        inputs() | {"v0": LOWEST[:, :0]},
        {},
        "input v0 has shape [2, 0, 3], must be [batch, length, 3]",
    ),
    (
        inputs() | {"v0": LOWEST[:, :, None]},
        {},
        "input v0 has shape [2, 3, 1, 3], must be [batch, length, 3]",
    ),
    (
        inputs() | {"v0": inputs(1)["v0"]},
        {},
        "input v1 is 2 x 4 rows, the others are 1 x 4",
    ),
    (inputs(rows=7), {}, "7 rows of rows are outside 1 to 6"),
    (inputs(others=7), {}, "7 rows of others are outside 1 to 6"),
    (inputs(), {"others": [4]}, "1 lengths of others for 2 sequences"),
    (inputs(), {"others": [4, 5]}, "sequence length 5 of others is outside 1 to 4"),
    (inputs(), {"rows": [3, 0]}, "sequence length 0 of rows is outside 1 to 3"),
]


@pytest.mark.parametrize(("given", "lengths", "message"), CHECKS)
def test_inputs_that_do_not_fit_are_refused(region, given, lengths, message):
    refused(lambda: region.check(given, lengths), f"it: {message}")


def test_names_of_inputs_and_dimensions_are_known(region):
    refused(lambda: region.check({"v1": LOWEST}, {}), "it: input v0 is missing")
    refused(lambda: region.check(inputs() | {"v2": LOWEST}, {}), "it has no input v2")
    refused(lambda: region.check(inputs(), {"keys": [1]}), "it has no dimension keys")
    refused(lambda: region.shape(1, {"rows": 1}), "it: dimension others is missing")
    refused(lambda: region.shape(0, {"rows": 1, "others": 1}), "it: batch 0 must be at least 1")


# --- executables
def test_what_no_executable_holds_keeps_its_shape():
    """An executable holds as many sequences, and as many or fewer rows of every dimension."""
    region = Region("it", cross(1, 8, 2, 8), TINY)

    def shape(batch, rows, memory):
        return region.shape(batch, {"rows": rows, "memory": memory})

    large, small = shape(1, 8, 6), shape(1, 6, 5)
    for made in (large, small):
        region.executable(made)
    assert list(region.executables) == list(region.shapes) == [large, small]
    assert region.executables[small].predicted_cycles < region.executables[large].predicted_cycles
    found = {(6, 5): small, (1, 1): small, (7, 5): large, (6, 6): large, (8, 6): large}
    assert {rows: region.bucket(shape(1, *rows)) for rows in found} == found
    for alone in (shape(1, 9, 6), shape(1, 8, 7), shape(2, 6, 5)):
        assert region.bucket(alone) == alone
