"""Safetensors containers with NumPy alone, for boards on which nothing else is installed.

::

    length    8 bytes, little-endian, of the header
    header    JSON: for each array its type, shape, and first and last byte behind the header
    arrays    one after the other, little-endian, in C order
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np

from transept.host.runtime.errors import ProgramError
from transept.host.runtime.manifest import Node, parse

__all__ = ["DTYPES", "read_container", "write_container"]

#: Types by their names in the container.
DTYPES = {
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "I64": np.int64,
    "F64": np.float64,
}
_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
_LENGTH, _ALIGN = 8, 8
MOST_ARRAYS, MOST_DIMENSIONS, LARGEST = 1 << 20, 8, 1 << 40
#: Text for people, which holds no array.
_METADATA = "__metadata__"


def write_container(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays of ``DTYPES`` as one container, those of wide elements first, then by name."""
    entries: dict[str, dict] = {}
    parts = []
    end = 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):
        array = arrays[name]
        data = np.ascontiguousarray(array).tobytes()
        entries[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end + len(data)],
        }
        end += len(data)
        parts.append(data)
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % _ALIGN)
    return len(header).to_bytes(_LENGTH, "little") + header + b"".join(parts)


def read_container(data: bytes, where: str) -> dict[str, np.ndarray]:
    """The arrays of a container.

    Raises
    ------
    ProgramError
        If it is none, an array is of another type than those of ``DTYPES``, or does not lie where
        the one before it ends.
    """
    length = int.from_bytes(data[:_LENGTH], "little")
    start = _LENGTH + length
    if len(data) < _LENGTH or start > len(data):
        raise ProgramError(f"{where} has no arrays: a header of {length} bytes does not fit")
    fields = parse(data[_LENGTH:start], f"header of {where}").named(MOST_ARRAYS)
    found = [(name, *_entry(name, node)) for name, node in fields if name != _METADATA]
    arrays, own = {}, bytearray(data)  # which may be written to
    end = start
    for name, dtype, shape, first, last in sorted(found, key=lambda entry: entry[3:]):
        nbytes = math.prod(shape) * dtype.itemsize
        if (start + first, last - first) != (end, nbytes) or start + last > len(data):
            raise ProgramError(
                f"array {name} of {nbytes} bytes lies at {first} to {last}, "
                f"must begin at {end - start} and end by {len(data) - start}"
            )
        arrays[name] = np.frombuffer(own, dtype, math.prod(shape), end).reshape(shape)
        end += nbytes
    if end != len(data):
        raise ProgramError(f"{where} has {len(data) - end} bytes behind its arrays")
    return {name: arrays[name] for name, *_ in found}


def _entry(name: str, node: Node) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Type, shape, first and last byte of an array."""
    fields = node.fields("dtype", "shape", "data_offsets")
    kind = fields["dtype"].text()
    if kind not in DTYPES:
        raise ProgramError(f"array {name} is {kind}, must be one of {', '.join(DTYPES)}")
    shape = tuple(size.integer(0, LARGEST) for size in fields["shape"].items(MOST_DIMENSIONS))
    first, last = (at.integer(0, LARGEST) for at in fields["data_offsets"].items(2, 2))
    return np.dtype(DTYPES[kind]).newbyteorder("<"), shape, first, last
