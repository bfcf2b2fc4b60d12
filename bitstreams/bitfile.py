"""Files with a vendor header (``.bit``) whose payload describes hardware to be simulated.

A board under simulation is programmed like any other: the file is sent to it, and what it becomes
is what the file says. Fields of the header have a letter, two bytes of length and a text that ends
with a zero byte; the payload has the letter ``e`` and four bytes of length, all big-endian.
"""

from __future__ import annotations

import json
import struct
from typing import Any

__all__ = ["payload_of", "read_design", "write_bitfile"]

#: Two bytes of length, a constant of nine bytes, two bytes that count the next field's letter.
_START = bytes.fromhex("0009 0ff0 0ff0 0ff0 0ff0 00 0001")
_MAGIC = b"transept simulated hardware\n"
#: Payloads are programmed in words of so many bytes.
_WORD = 4


def write_bitfile(name: str, part: str, design: dict[str, Any]) -> bytes:
    """A ``.bit`` file that stands for hardware to be simulated; design: what JSON holds."""
    payload = _MAGIC + json.dumps(design, sort_keys=True, separators=(",", ":")).encode()
    payload += bytes(-len(payload) % _WORD)
    header = zip("abcd", (f"{name};UserID=0XFFFFFFFF", part, "", ""), strict=True)
    fields = b"".join(_field(letter, text) for letter, text in header)
    return _START + fields + b"e" + struct.pack(">I", len(payload)) + payload


def _field(letter: str, text: str) -> bytes:
    data = text.encode() + b"\0"
    return letter.encode() + struct.pack(">H", len(data)) + data


def payload_of(programmed: bytes) -> bytes:
    """The payload of a ``.bit`` file, of what a programmer gets: its words have their bytes in the
    reverse order."""
    words = (programmed[i : i + _WORD][::-1] for i in range(0, len(programmed), _WORD))
    return b"".join(words)


def read_design(payload: bytes) -> dict[str, Any]:
    """What a payload says.

    Raises
    ------
    ValueError
        If it is real hardware's, or damaged.
    """
    if not payload.startswith(_MAGIC):
        raise ValueError("the bitstream is none for a simulated board")
    try:
        return json.loads(payload[len(_MAGIC) :].rstrip(b"\0"))
    except ValueError:
        raise ValueError("the bitstream is damaged") from None
