"""What a device must compute to be believed."""

import numpy as np
import pytest
from graphs import post_norm, random_inputs

from transept.golden import isa
from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.isa import Opcode, Window
from transept.host.compiler.cut import Shape
from transept.host.deploy.cases import copy_case, load_cases, patterns, region_case, save_cases
from transept.host.deploy.prepare import test_cases as cases_of
from transept.host.runtime.program import Program
from transept.host.runtime.region import Region


def test_patterns_move_every_bit_alone():
    words = patterns(8 * 200).view(np.uint64)
    assert words[:64].tolist() == [1 << bit for bit in range(64)]
    assert words[64:128].tolist() == [(1 << 64) - 1 - (1 << bit) for bit in range(64)]
    assert len(set(words.tolist())) == 200
    assert words[128:131].tolist() == [0, 0x9E37_79B9_7F4A_7C15, 0x3C6E_F372_FE94_F82A]
    assert np.array_equal(patterns(21), patterns(24)[:21])


@pytest.mark.parametrize(("config", "words"), [(TINY, 512), (PYNQ_Z2, 512)])
def test_a_copy_goes_through_the_stationary_scratchpad(config, words):
    case = copy_case(config)
    program = isa.decode_program(case.before[Window.PROGRAM].tobytes())
    assert [i.opcode for i in program] == [Opcode.LOAD, Opcode.STORE, Opcode.END]
    assert [i.words for i in program[:2]] == [words] * 2
    nbytes = words * config.tile
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


@pytest.mark.parametrize(
    ("regions", "names"), [(["it"], ["a model"]), (["a", "b"], ["a model, a", "a model, b"])]
)
def test_regions_are_told_apart(regions, names):
    graph = post_norm(1, 8, 2, [12])
    inputs = random_inputs(graph, 1, 5)
    program = Program(TINY, [Region(name, graph, TINY) for name in regions])
    parts = [program.run_region(name, inputs, device="cpu") for name in regions]
    found = [case.name for case in cases_of(TINY, parts, "a model")]
    assert found[3:] == names
