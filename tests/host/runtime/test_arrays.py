"""Arrays of a program file: each once, each of a known type, each used."""

import numpy as np
import pytest
import safetensors.numpy

from transept.host.runtime.arrays import ArrayReader, ArrayWriter
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.manifest import Node


def test_what_has_the_same_contents_has_one_name():
    arrays = ArrayWriter()
    names = [
        arrays.add("a", np.array([1, 2], np.int32)),
        arrays.add("b", np.array([1, 2], np.int64)),
        arrays.add("a", np.array([1, 3])),
        arrays.add("a", np.array([[1, 2]])),
        arrays.add("c", np.array([1, 2], np.int8)),
        arrays.add("d", np.array([1, 2], np.uint8)),
        arrays.add("e", np.array([[1.0, 2.0], [3.0, 4.0]]).T),
        arrays.add("f", np.array([1, 2], np.int16)),
        arrays.add("g", np.array([1, 2], np.uint16)),
    ]
    assert names == ["a", "a", "a'", "a''", "c", "d", "e", "f", "g"]
    found = safetensors.numpy.load(arrays.encoded())
    assert {name: (array.dtype.name, array.tolist()) for name, array in found.items()} == {
        "a": ("int64", [1, 2]),
        "a'": ("int64", [1, 3]),
        "a''": ("int64", [[1, 2]]),
        "c": ("int8", [1, 2]),
        "d": ("uint8", [1, 2]),
        "e": ("float64", [[1.0, 3.0], [2.0, 4.0]]),
        "f": ("int16", [1, 2]),
        "g": ("uint16", [1, 2]),
    }
    # sha256sum of the bytes 1 and 2
    digest = "a12871fee210fb8619291eaea194581cbd2531e4b23759d225f6806923f63222"
    assert arrays.digests().keys() == found.keys()
    assert arrays.digests()["c"] == f"int8 (2,) {digest}"
    assert arrays.digests()["d"] == f"uint8 (2,) {digest}"


@pytest.fixture
def reader():
    container = safetensors.numpy.save(
        {"a": np.array([[1, 2, 3]], np.int8), "b": np.zeros(2), "c": np.zeros(1)}
    )
    return ArrayReader(container, "it")


def test_arrays_are_taken_by_name_and_type(reader):
    assert reader.take(Node("a", "x")).tolist() == [[1, 2, 3]]
    assert reader.take(Node("b", "x"), np.float64).dtype == np.float64
    with pytest.raises(ProgramError, match=r"^x: array a is int8, must be int64$"):
        reader.take(Node("a", "x"), np.int64)
    with pytest.raises(ProgramError, match=r"^x is 'd', must be the name of an array of the file$"):
        reader.take(Node("d", "x"))


def test_an_array_that_nothing_uses_is_told(reader):
    with pytest.raises(ProgramError, match=r"^it: nothing uses array a$"):
        reader.check_used()
    for name in ("b", "a"):
        reader.take(Node(name, "x"))
    with pytest.raises(ProgramError, match=r"^it: nothing uses array c$"):
        reader.check_used()
    reader.take(Node("c", "x"))
    reader.check_used()


def test_an_array_of_another_type_is_told():
    container = safetensors.numpy.save({"a": np.zeros(2, np.float32)})
    message = r"^array a is F32, must be one of U8, I8, U16, I16, I64, F64$"
    with pytest.raises(ProgramError, match=message):
        ArrayReader(container, "it")
