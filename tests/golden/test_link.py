"""The protocol of the serial link by value, and what its ends make of damage."""

import random

import pytest

from transept.golden.link import (
    FrameReader,
    Kind,
    LinkModel,
    Request,
    Response,
    Status,
    crc16,
    encode_request,
    encode_response,
)


class Memory:
    """Words by kind of access and address; addresses above 0xFF are not there."""

    def __init__(self):
        self.words, self.writes = {}, []

    def read(self, kind, address):
        return self.words.get((kind >> 1, address), 0) if address < 0x100 else None

    def write(self, kind, address, word):
        self.writes.append((address, word))
        self.words[kind >> 1, address] = word
        return address < 0x100


@pytest.fixture
def model():
    return LinkModel(Memory())


def test_the_check_by_value():
    assert crc16(b"123456789") == 0x29B1
    assert crc16(b"") == 0xFFFF


def test_frames_by_value():
    write = Request(Kind.WRITE_MEMORY, 9, 0x1234, 1, (0xDDCCBBAA,))
    frame = bytes.fromhex("a5 03 09 01 34120000 aabbccdd")
    assert encode_request(write) == frame + crc16(frame[1:]).to_bytes(2, "little")
    read = encode_request(Request(Kind.READ_REGISTERS, 1, 0, 64))
    assert read[:8].hex(" ") == "a5 00 01 40 00 00 00 00"
    answer = encode_response(Response(Status.BUS_ERROR, 7))
    assert answer[:4].hex(" ") == "5a 01 07 00"
    assert len(answer) == 6
    last = encode_request(Request(Kind.READ_MEMORY, 255, 0xFFFFFFFC, 1))
    assert last[:8].hex(" ") == "a5 02 ff 01 fc ff ff ff"


def test_kinds_and_statuses_by_value():
    assert {kind.name: (kind.value, kind.writes) for kind in Kind} == {
        "READ_REGISTERS": (0, False),
        "WRITE_REGISTERS": (1, True),
        "READ_MEMORY": (2, False),
        "WRITE_MEMORY": (3, True),
    }
    assert [(status.name, status.value) for status in Status] == [
        ("OKAY", 0),
        ("BUS_ERROR", 1),
        ("BAD_REQUEST", 2),
    ]


@pytest.mark.parametrize(
    ("address", "count", "message"),
    [
        (0, 0, "1 to 64 words, not 0"),
        (0, 65, "1 to 64 words, not 65"),
        (2, 1, "address 0x2 is not a multiple of 4"),
        (1 << 32, 1, "address 0x100000000 is not"),
        (-4, 1, "address -0x4 is not"),
    ],
)
def test_requests_that_no_frame_holds(address, count, message):
    with pytest.raises(ValueError, match=message):
        encode_request(Request(Kind.READ_MEMORY, 1, address, count))


def test_what_is_written_is_read(model):
    model.feed(encode_request(Request(Kind.WRITE_MEMORY, 1, 8, 2, (5, 6))))
    answer = model.feed(encode_request(Request(Kind.READ_MEMORY, 2, 4, 3)))
    assert FrameReader().feed(answer) == [Response(Status.OKAY, 2, (0, 5, 6))]
    registers = model.feed(encode_request(Request(Kind.READ_REGISTERS, 3, 8, 1)))
    assert FrameReader().feed(registers) == [Response(Status.OKAY, 3, (0,))]


def test_a_write_that_arrives_twice_is_carried_out_once(model):
    frame = encode_request(Request(Kind.WRITE_MEMORY, 1, 0x100, 1, (5,)))
    answers = [model.feed(frame) for _ in range(2)]
    assert answers[0] == answers[1] == encode_response(Response(Status.BUS_ERROR, 1))
    assert model.target.writes == [(0x100, 5)]
    model.feed(encode_request(Request(Kind.READ_REGISTERS, 0, 0, 1)))  # another host
    model.feed(frame)
    assert len(model.target.writes) == 2


def nonsense(kind, sequence, count):
    body = bytes([kind, sequence, count, 0, 0, 0, 0])
    return b"\xa5" + body + crc16(body).to_bytes(2, "little")


@pytest.mark.parametrize(
    ("between", "writes"),
    [
        (b"", 1),
        (encode_request(Request(Kind.READ_MEMORY, 2, 0, 1)), 2),
        (nonsense(4, 2, 1), 1),
        (nonsense(4, 0, 1), 2),
        (nonsense(1, 0, 65), 2),
    ],
    ids=["nothing", "a read", "nonsense", "nonsense of a new host", "too much of a new host"],
)
def test_what_makes_a_device_forget_the_last_write(model, between, writes):
    frame = encode_request(Request(Kind.WRITE_REGISTERS, 1, 8, 1, (5,)))
    for part in (frame, between, frame):
        model.feed(part)
    assert model.target.writes == [(8, 5)] * writes


def test_the_longest_frames(model):
    words = tuple(0x01020304 * n for n in range(64))
    written = model.feed(encode_request(Request(Kind.WRITE_REGISTERS, 1, 0, 64, words)))
    assert FrameReader().feed(written) == [Response(Status.OKAY, 1)]
    read = model.feed(encode_request(Request(Kind.READ_REGISTERS, 2, 0, 64)))
    assert FrameReader().feed(read) == [Response(Status.OKAY, 2, words)]


@pytest.mark.parametrize("address", [0xFC, 0x100, 0x10000, 0x1000000, 0xFFFFFFF8])
def test_addresses_that_are_not_there(model, address):
    """One of two is enough."""
    for sequence, kind in enumerate((Kind.READ_MEMORY, Kind.WRITE_MEMORY), 1):
        words = (5, 6) if kind.writes else ()
        answer = model.feed(encode_request(Request(kind, sequence, address, 2, words)))
        assert FrameReader().feed(answer) == [Response(Status.BUS_ERROR, sequence)]


@pytest.mark.parametrize(("kind", "count"), [(4, 1), (254, 1), (0, 0), (2, 65), (3, 200)])
def test_requests_that_make_no_sense(model, kind, count):
    answer = model.feed(nonsense(kind, 3, count))
    assert FrameReader().feed(answer) == [Response(Status.BAD_REQUEST, 3)]


def test_every_single_flipped_bit_is_noticed(model):
    frame = encode_request(Request(Kind.WRITE_MEMORY, 1, 8, 1, (5,)))
    for bit in range(8, 8 * len(frame)):  # of the sync byte none is looked at further
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert model.feed(damaged) == b""
        model.silence()
    assert not model.target.writes


def test_garbage_and_silence_are_passed_over(model):
    frame = encode_request(Request(Kind.READ_MEMORY, 1, 8, 1))
    assert model.feed(b"\x00\x5a\xff" + frame)
    assert not model.feed(frame[:-1])
    model.silence()
    assert model.feed(frame)


def test_a_check_that_ends_like_a_beginning_is_no_beginning():
    """What follows is not taken for its length."""
    responses = (Response(Status.OKAY, 1, (word,)) for word in range(10000))
    first = next(one for one in responses if encode_response(one)[-1] == 0x5A)
    second = Response(Status.OKAY, 200, (7,))
    stream = encode_response(first) + encode_response(second)
    assert FrameReader().feed(stream) == [first, second]


def test_a_reader_finds_responses_between_garbage():
    rng = random.Random(1)
    expected, stream = [], b""
    for sequence in range(50):
        words = tuple(rng.getrandbits(32) for _ in range(rng.randrange(4)))
        expected.append(Response(Status.OKAY, sequence, words))
        garbage = rng.choice([b"", b"\x5a", b"\x5a\x00\x00\x01", rng.randbytes(5)])
        stream += garbage + encode_response(expected[-1])
    stream += bytes(300)  # what a false beginning waits for
    reader, found = FrameReader(), []
    while stream:
        size = rng.randrange(1, 9)
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert found == expected
