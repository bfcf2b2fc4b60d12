"""Files that stand for hardware to be simulated."""

import numpy as np
import pytest

from transept.bitstreams.bitfile import payload_of, read_design, write_bitfile

DESIGN = {"config": {"tile": 4}, "register_base": 1 << 30}


def fields(data):
    """Letter and contents of every field of a header, and the payload."""
    at, found = 13, {}
    while data[at : at + 1] != b"e":
        size = int.from_bytes(data[at + 1 : at + 3], "big")
        found[chr(data[at])] = data[at + 3 : at + 3 + size]
        at += 3 + size
    size = int.from_bytes(data[at + 1 : at + 5], "big")
    assert len(data) == at + 5 + size
    return found, data[at + 5 :]


def programmed(payload):
    """What a programmer gets: every word with its bytes reversed."""
    return np.frombuffer(payload, "<u4").byteswap().tobytes()


def test_the_header_is_the_vendors():
    data = write_bitfile("design", "xc7z020clg400-1", DESIGN)
    assert data[:13] == bytes.fromhex("00090ff00ff00ff00ff0000001")
    found, payload = fields(data)
    assert found == {
        "a": b"design;UserID=0XFFFFFFFF\0", "b": b"xc7z020clg400-1\0", "c": b"\0", "d": b"\0",
    }  # fmt: skip
    assert len(payload) % 4 == 0


@pytest.mark.parametrize("text", ["", "a", "ab", "abc"])
def test_a_programmer_gets_the_design(text):
    _, payload = fields(write_bitfile("d", "p", DESIGN | {"text": text}))
    assert read_design(payload_of(programmed(payload))) == DESIGN | {"text": text}


def test_the_same_design_is_the_same_file():
    turned = dict(reversed(DESIGN.items()))
    assert write_bitfile("d", "p", DESIGN) == write_bitfile("d", "p", turned)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\xff\xff\xff\xff\xaa\x99\x55\x66", "the bitstream is none for a simulated board"),
        (b"transept simulated hardware\n{", "the bitstream is damaged"),
    ],
)
def test_real_and_damaged_bitstreams_are_told(payload, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_design(payload)
