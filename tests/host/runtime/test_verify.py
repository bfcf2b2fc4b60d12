"""Executables that would run, but not do all that they should."""

import dataclasses
import types

import numpy as np
import pytest
from bench import instruction
from graphs import GraphBuilder

from transept.golden import isa
from transept.golden.config import TINY
from transept.golden.isa import Opcode, Window
from transept.host.compiler.cut import Shape
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.region import Region
from transept.host.runtime.verify import _probes, _written, check_executable


@pytest.fixture
def region():
    """A linear layer with five words of output, in several stores."""
    build = GraphBuilder(1)
    x = build.value(8)
    return Region("region", build.graph([x], [build.linear(x, 20)]), TINY)


@pytest.fixture
def executable(region):
    found = region.executable(region.shape(1, {"rows": 6}))
    assert sum(i.opcode == Opcode.STORE for i in found.decoded()) > 1
    return found


def with_stores(executable, change):
    """The executable with the operands of its stores changed."""
    program = []
    for i in executable.decoded():
        changes = change(i.operands) if i.opcode == Opcode.STORE else {}
        program.append(dataclasses.replace(i, operands={**i.operands, **changes}))
    return dataclasses.replace(executable, instructions=isa.encode_program(program))


def refused(region, executable, message):
    with pytest.raises(ProgramError, match=f"region of 1 x 6 rows: {message}"):
        check_executable(region, executable)


def test_what_the_compiler_makes_is_right(region, executable):
    check_executable(region, executable)


def test_columns_that_are_never_written(region, executable):
    first = executable.tensors["v1"].offset
    broken = with_stores(executable, lambda store: {"offset": first})
    refused(region, broken, "no instruction writes all of row 0 of v1")


def test_rows_that_are_never_written(region, executable):
    broken = with_stores(executable, lambda store: {"rows": store["rows"] - 1})
    refused(region, broken, r"no instruction writes all of row \d of v1")


def test_stores_to_another_window_do_not_count(region, executable):
    output = executable.tensors["v1"]
    scratch = dataclasses.replace(output, value="other", window=Window.SCRATCH)
    broken = with_stores(executable, lambda store: {"window": Window.SCRATCH})
    broken = dataclasses.replace(broken, tensors={**executable.tensors, "other": scratch})
    refused(region, broken, "no instruction writes all of row 0 of v1")


def test_a_store_beyond_its_window(region, executable):
    broken = with_stores(executable, lambda store: {"offset": 1 << 20})
    refused(region, broken, r"instruction \d+ \(STORE\): window IO: .* exceeds its limit")


def test_words_that_are_written():
    """Rows of words, with others between them or none; wide elements are two words."""
    stores = [
        {"rows": 2, "words": 2, "pitch": 4, "offset": 4},
        {"rows": 1, "words": 1, "pitch": 1, "offset": 68, "window": Window.SCRATCH},
        {"rows": 2, "words": 1, "pitch": 2, "offset": 40, "wide": 1},
        {"rows": 1, "words": 1, "pitch": 1, "offset": 64},
    ]
    program = [instruction(Opcode.STORE, **{"window": Window.IO, **store}) for store in stores]
    program.insert(2, instruction(Opcode.LOAD, window=Window.IO, rows=1, words=1))
    program = isa.encode_program(program)
    made = types.SimpleNamespace(io_bytes=69, instructions=program)
    found = _written(made, 4)
    assert np.flatnonzero(found).tolist() == [1, 2, 5, 6, 10, 11, 12, 13, 16]
    assert len(found) == 18


def test_lengths_that_are_tried():
    """All rows, one, and other ones for neighbours."""
    shape = Shape(4, {"rows": 3, "keys": 2})
    assert list(_probes(shape)) == [
        {"rows": [3, 3, 3, 3], "keys": [2, 2, 2, 2]},
        {"rows": [1, 1, 1, 1], "keys": [1, 1, 1, 1]},
        {"rows": [3, 2, 1, 3], "keys": [2, 1, 2, 1]},
    ]
