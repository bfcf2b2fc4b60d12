"""The serial link of a board without a processor: frames that read and write registers and memory.

A request is a sync byte, a header, words if it writes, and a check; every request that arrives
whole is answered by a response of the same form. What arrives damaged is not answered, and whoever
asked repeats the request under the same sequence number: a write is carried out once, however
often it arrives. All numbers are little-endian; words have 32 bits.

============  ====================================================================================
request       0xA5, kind, sequence, words, address (4 bytes), words to write, check (2 bytes)
response      0x5A, status, sequence, words, words read, check (2 bytes)
============  ====================================================================================

The check is CRC-16/CCITT-FALSE (polynomial 0x1021, from 0xFFFF, most significant bit first) of all
bytes between sync and check. A read makes the device forget the last write, and so does a request
whose sequence is 0.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = [
    "CRC_POLYNOMIAL",
    "CRC_START",
    "MAX_WORDS",
    "REQUEST_SYNC",
    "RESPONSE_SYNC",
    "FrameReader",
    "Kind",
    "LinkModel",
    "Request",
    "Response",
    "Status",
    "Target",
    "crc16",
    "encode_request",
    "encode_response",
]

REQUEST_SYNC, RESPONSE_SYNC = 0xA5, 0x5A
#: Words of one frame.
MAX_WORDS = 64
CRC_POLYNOMIAL, CRC_START = 0x1021, 0xFFFF
_CRC_BYTES = 2
_REQUEST_HEADER, _RESPONSE_HEADER = 7, 3


class Kind(enum.IntEnum):
    """What a request asks for."""

    READ_REGISTERS = 0
    WRITE_REGISTERS = 1
    READ_MEMORY = 2
    WRITE_MEMORY = 3

    @property
    def writes(self) -> bool:
        """Whether the request carries words."""
        return bool(self & 1)


class Status(enum.IntEnum):
    """What a response says of its request."""

    OKAY = 0
    BUS_ERROR = 1  # a register or address that is not there, or not to be written now
    BAD_REQUEST = 2  # an unknown kind, or no or too many words


@dataclass(frozen=True)
class Request:
    """address: in bytes, a multiple of 4; count: words to read; words: to write."""

    kind: Kind
    sequence: int
    address: int
    count: int
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Response:
    """words: those read, none after an error."""

    status: Status
    sequence: int
    words: tuple[int, ...] = ()


def crc16(data: Iterable[int]) -> int:
    """CRC-16/CCITT-FALSE of bytes."""
    crc = CRC_START
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (CRC_POLYNOMIAL if crc & 0x8000 else 0)
        crc &= 0xFFFF
    return crc


def _frame(sync: int, body: bytes) -> bytes:
    return bytes([sync]) + body + crc16(body).to_bytes(_CRC_BYTES, "little")


def _word_bytes(words: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def encode_request(request: Request) -> bytes:
    """The frame of a request.

    Raises
    ------
    ValueError
        If there are no words or more than MAX_WORDS, or the address is not that of a word.
    """
    if not 1 <= request.count <= MAX_WORDS:
        raise ValueError(f"a frame has 1 to {MAX_WORDS} words, not {request.count}")
    if request.address % 4 or not 0 <= request.address < 1 << 32:
        raise ValueError(f"address {request.address:#x} is not a multiple of 4 below 2**32")
    header = bytes([request.kind, request.sequence, request.count])
    header += request.address.to_bytes(4, "little")
    return _frame(REQUEST_SYNC, header + _word_bytes(request.words))


def encode_response(response: Response) -> bytes:
    """The frame of a response."""
    header = bytes([response.status, response.sequence, len(response.words)])
    return _frame(RESPONSE_SYNC, header + _word_bytes(response.words))


class FrameReader:
    """Finds responses in a stream of bytes, whatever lies between them."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Response]:
        """The responses that are whole with these bytes; damaged ones are passed over."""
        self._bytes += data
        found = []
        while (start := self._bytes.find(RESPONSE_SYNC)) >= 0:
            del self._bytes[:start]
            end = self._end()
            if end > len(self._bytes):
                break
            body, check = self._bytes[1 : end - _CRC_BYTES], self._bytes[end - _CRC_BYTES : end]
            if crc16(body) == int.from_bytes(check, "little") and body[0] in list(Status):
                found.append(_response(bytes(body)))
                del self._bytes[:end]
            else:
                del self._bytes[:1]
        else:
            self._bytes.clear()
        return found

    def _end(self) -> int:
        """Bytes of the frame at the beginning, as far as that is known."""
        if len(self._bytes) <= _RESPONSE_HEADER:
            return _RESPONSE_HEADER + 1 + _CRC_BYTES
        return 1 + _RESPONSE_HEADER + 4 * self._bytes[_RESPONSE_HEADER] + _CRC_BYTES


def _response(body: bytes) -> Response:
    words = body[_RESPONSE_HEADER:]
    values = tuple(int.from_bytes(words[i : i + 4], "little") for i in range(0, len(words), 4))
    return Response(Status(body[0]), body[1], values)


class Target(Protocol):
    """What the link reads and writes; None and False are bus errors."""

    def read(self, kind: Kind, address: int) -> int | None:
        """A word of a register or of memory."""

    def write(self, kind: Kind, address: int, word: int) -> bool:
        """Write a word."""


@dataclass
class LinkModel:
    """The device's end: bytes in, bytes out.

    ``silence`` ends a frame that is not whole, as a long pause does on the line.
    """

    target: Target
    _last_write: int | None = None
    _frame: bytearray = field(default_factory=bytearray)

    def silence(self) -> None:
        """A pause between bytes that is longer than any within a frame."""
        self._frame.clear()

    def feed(self, data: bytes) -> bytes:
        """The responses to the requests that are whole with these bytes."""
        out = b""
        for byte in data:
            if not self._frame and byte != REQUEST_SYNC:
                continue
            self._frame.append(byte)
            if len(self._frame) == self._length():
                out += self._answer(bytes(self._frame[1:]))
                self._frame.clear()
        return out

    def _length(self) -> int:
        """Bytes of the frame, as far as that is known; too many words are not waited for."""
        header = 1 + _REQUEST_HEADER
        if len(self._frame) < header:
            return header + _CRC_BYTES
        kind, count = self._frame[1], self._frame[3]
        words = count if kind & 1 and count <= MAX_WORDS else 0
        return header + 4 * words + _CRC_BYTES

    def _answer(self, body: bytes) -> bytes:
        body, check = body[:-_CRC_BYTES], body[-_CRC_BYTES:]
        if crc16(body) != int.from_bytes(check, "little"):
            return b""
        kind, sequence, count = body[0], body[1], body[2]
        if sequence == 0:
            self._last_write = None
        if kind not in list(Kind) or not 1 <= count <= MAX_WORDS:
            return encode_response(Response(Status.BAD_REQUEST, sequence))
        address = int.from_bytes(body[3:7], "little")
        return encode_response(self._carry_out(Kind(kind), sequence, address, count, body[7:]))

    def _carry_out(
        self, kind: Kind, sequence: int, address: int, count: int, data: bytes
    ) -> Response:
        if not kind.writes:
            self._last_write = None
            found = [self.target.read(kind, address + 4 * i) for i in range(count)]
            words = tuple(word for word in found if word is not None)
            if len(words) < count:
                return Response(Status.BUS_ERROR, sequence)
            return Response(Status.OKAY, sequence, words)
        if sequence == self._last_write:
            return Response(self._last_status, sequence)
        good = [
            self.target.write(kind, address + 4 * i, int.from_bytes(data[4 * i :][:4], "little"))
            for i in range(count)
        ]
        self._last_write = sequence
        self._last_status = Status.OKAY if all(good) else Status.BUS_ERROR
        return Response(self._last_status, sequence)

    _last_status: Status = Status.OKAY
