"""What a device must compute to be believed."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from graphs import linear_alone, post_norm, random_inputs

from transept.golden import isa
from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.isa import Opcode, Window
from transept.host.bench.product import gemm, reference
from transept.host.compiler.cut import Shape
from transept.host.compiler.segments import beginning
from transept.host.deploy.cases import copy_case, load_cases, patterns, region_case, save_cases
from transept.host.deploy.prepare import random_parts
from transept.host.deploy.prepare import test_cases as cases_of
from transept.host.runtime.driver import read_rows
from transept.host.runtime.program import Program
from transept.host.runtime.region import Region


def test_patterns_move_every_bit_alone():
    words = patterns(8 * 200).view(np.uint64)
    assert words[:64].tolist() == [1 << bit for bit in range(64)]
    assert words[64:128].tolist() == [(1 << 64) - 1 - (1 << bit) for bit in range(64)]
    assert len(set(words.tolist())) == 200
    assert words[128:131].tolist() == [0, 0x9E37_79B9_7F4A_7C15, 0x3C6E_F372_FE94_F82A]
    assert np.array_equal(patterns(21), patterns(24)[:21])


@pytest.mark.parametrize(
    ("config", "words"), [(TINY, 512), (PYNQ_Z2, 512), (TINY.replace(stat_words=96), 96)]
)
def test_a_copy_goes_through_the_stationary_scratchpad(config, words):
    case = copy_case(config)
    program = isa.decode_program(case.before[Window.PROGRAM].tobytes())
    assert [i.opcode for i in program] == [Opcode.LOAD, Opcode.STORE, Opcode.END]
    nbytes = words * config.tile
    assert [str(instruction) for instruction in program] == [
        f"LOAD rows=1 words={words} memory=STAT window=IO signal=STORE",
        f"STORE rows=1 words={words} memory=STAT window=IO offset={nbytes} wait=LOAD",
        "END",
    ]
    data = patterns(nbytes)
    assert np.array_equal(case.before[Window.IO], np.concatenate([data, 0 * data]))
    assert np.array_equal(case.after, np.concatenate([data, data]))


@pytest.fixture(scope="module")
def layer():
    graph = post_norm(1, 8, 2, [12])
    region = Region("it", graph, TINY)
    shape = Shape(2, {"rows": 5})
    return region_case("a", region, region.executable(shape), random_inputs(graph, 2, 5))


def test_a_region_becomes_what_the_emulator_makes_of_it(layer):
    assert layer.before.keys() == {Window.PROGRAM, Window.WEIGHTS, Window.IO}
    assert layer.after.shape == layer.before[Window.IO].shape
    assert (layer.after != layer.before[Window.IO]).any()
    assert layer.scratch >= 64


def test_cases_are_kept_in_a_file(layer):
    cases = [copy_case(TINY), layer]
    for found, case in zip(load_cases(save_cases(cases)), cases, strict=True):
        assert (found.name, found.scratch) == (case.name, case.scratch)
        assert found.before.keys() == case.before.keys()
        for window, contents in case.before.items():
            assert np.array_equal(found.before[window], contents)
            assert found.before[window].dtype == np.uint8
        assert np.array_equal(found.after, case.after)


def test_a_file_of_cases_runs_no_code():
    file = io.BytesIO()
    np.savez(file, **{"0.name": np.array([print], object)})
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        load_cases(file.getvalue())


@pytest.mark.parametrize(
    ("regions", "names"), [(["it"], ["a model"]), (["a", "b"], ["a model, a", "a model, b"])]
)
def test_regions_are_told_apart(regions, names):
    graph = post_norm(1, 8, 2, [12])
    inputs = random_inputs(graph, 1, 5)
    program = Program(TINY, [Region(name, graph, TINY) for name in regions])
    parts = [program.run_region(name, inputs, device="cpu") for name in regions]
    found = [case.name for case in cases_of(TINY, parts, "a model")]
    assert found == ["memory, by the accelerator", "one tile", "one layer", *names]


def test_without_an_attention_there_is_no_layer():
    graph = linear_alone(1, 8, 8)
    program = Program(TINY, [Region("it", graph, TINY)])
    part = program.run_region("it", random_inputs(graph, 1, 5), device="cpu")
    found = [case.name for case in cases_of(TINY, [part], "a model")]
    assert found == ["memory, by the accelerator", "one tile", "a model"]


def test_one_tile_is_a_product_and_one_layer_ends_before_the_second_attention():
    graph = post_norm(2, 8, 2, [12, 12])
    program = Program(TINY, [Region("it", graph, TINY)])
    inputs = random_inputs(graph, 1, 5)
    part = program.run_region("it", inputs, device="cpu")
    _, tile, layer, whole = cases_of(TINY, [part], "a model")
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-127, 128, (TINY.tile, TINY.tile), np.int8) for _ in range(2))
    product = gemm(TINY, TINY.tile, b)
    place = product.executable.tensors
    before = tile.before[Window.IO].view(np.int8)
    assert np.array_equal(read_rows(before, place["a"], 1)[0], a)
    assert np.array_equal(read_rows(tile.after, place["c"], 1)[0], reference(a, b, product))
    region = Region("first", beginning(graph, 1), TINY)
    first = region_case("first", region, region.executable(Shape(1, {"rows": 5})), inputs)
    for window, contents in first.before.items():
        assert np.array_equal(layer.before[window], contents)
    assert layer.before[Window.PROGRAM].size < whole.before[Window.PROGRAM].size


def test_a_program_without_a_model_runs_on_random_inputs(monkeypatch):
    """Of the first shape that a region was compiled for; four deviations fill the range."""

    def lots(seed):
        assert seed == 1
        return SimpleNamespace(normal=lambda mean, deviation, size: mean + deviation * drawn)

    graph = post_norm(1, 8, 2, [12])
    regions = [Region(name, graph, TINY) for name in ("a", "b")]
    for region in regions:
        for shape in (Shape(2, {"rows": 5}), Shape(1, {"rows": 3})):
            region.executable(shape)
    drawn = np.linspace(-5, 5, 2 * 5 * 8).reshape(2, 5, 8)
    (name,) = graph.inputs
    limit = graph.values[name].limit
    wanted = np.clip(np.rint(drawn * limit / 4), -limit, limit).astype(np.int16)
    monkeypatch.setattr(np.random, "default_rng", lots)
    parts = random_parts(Program(TINY, regions))
    assert [part.region.name for part in parts] == ["a", "b"]
    for part in parts:
        assert part.result.device == "golden"
        assert part.inputs[name].dtype == np.int16
        assert np.array_equal(part.inputs[name], wanted)
