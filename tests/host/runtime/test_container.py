"""Containers of arrays: what safetensors writes and reads, and nothing that is wrong."""

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from transept.host.runtime.container import DTYPES, read_container, write_container
from transept.host.runtime.errors import ProgramError

ARRAYS = st.dictionaries(
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=8),
    st.sampled_from(list(DTYPES.values())).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0))
    ),
    max_size=5,
)


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@given(ARRAYS)
def test_the_library_reads_what_we_write(given):
    same(safetensors.numpy.load(write_container(given)), given)


@given(ARRAYS)
def test_we_read_what_the_library_writes(given):
    found = read_container(safetensors.numpy.save(given), "it")
    same(found, given)
    for array in found.values():
        array[...] = 0  # they may be written to


def test_text_for_people_is_no_array():
    container = safetensors.numpy.save({"a": np.zeros(2)}, metadata={"made": "by hand"})
    assert list(read_container(container, "it")) == ["a"]


def container(**entries):
    """Of a header, and 16 bytes."""
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + bytes(16)


def entry(first=0, last=16, shape=(2,), dtype="F64", **others):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last], **others}


def test_a_container_by_hand():
    found = read_container(container(b=entry(8, 16, [1]), a=entry(0, 8, [8], "U8")), "it")
    same(found, {"b": np.zeros(1), "a": np.zeros(8, np.uint8)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1234567", r"^it has no arrays: a header of \d+ bytes does not fit$"),
        (
            (9).to_bytes(8, "little") + bytes(8),
            "^it has no arrays: a header of 9 bytes does not fit$",
        ),
        ((2).to_bytes(8, "little") + b"{{", "^header of it is no JSON: "),
        (
            container(a=entry(dtype="F32")),
            "^array a is F32, must be one of U8, I8, U16, I16, I64, F64$",
        ),
        (container(a={"data_offsets": [0, 0]}), "^header of it.a has no field dtype$"),
        (container(a=entry(more=1)), "^header of it.a has an unknown field 'more'$"),
        (container(a=entry(shape=[-2])), r"shape\[0\] is -2, must be an integer from 0 to "),
        (container(a=entry(shape=[1] * 9)), "must be a list of 0 to 8 elements$"),
        (container(a=entry(last=8)), "^array a of 16 bytes lies at 0 to 8, must begin at 0 and "),
        (container(a=entry(1, 17)), "^array a of 16 bytes lies at 1 to 17, must begin at 0 and "),
        (container(a=entry(0, 24, [3])), "^array a of 24 bytes lies at 0 to 24, .* end by 16$"),
        (
            container(a=entry(), b=entry()),
            "^array b of 16 bytes lies at 0 to 16, must begin at 16 ",
        ),
        (container(a=entry(0, 8, [1])), "^it has 8 bytes behind its arrays$"),
        (container(), "^it has 16 bytes behind its arrays$"),
    ],
)
def test_what_is_wrong_is_told(data, message):
    with pytest.raises(ProgramError, match=message):
        read_container(data, "it")
