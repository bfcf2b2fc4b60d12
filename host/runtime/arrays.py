"""Named arrays of a program file: each once, each used."""

from __future__ import annotations

import hashlib

import numpy as np

from transept.host.runtime.container import read_container, write_container
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.manifest import Node

__all__ = ["ArrayReader", "ArrayWriter"]


class ArrayWriter:
    """Collects arrays; what has the same contents is there once."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._names: dict[tuple, str] = {}

    def add(self, name: str, values: object) -> str:
        """The name under which the array is found, ``name`` unless it was there already."""
        array = np.ascontiguousarray(values)
        if array.dtype.kind == "i" and array.dtype not in (np.int8, np.int16):
            array = array.astype(np.int64)
        key = (array.dtype, array.shape, hashlib.sha256(array.tobytes()).hexdigest())
        if key not in self._names:
            while name in self._arrays:
                name += "'"
            self._names[key] = name
            self._arrays[name] = array
        return self._names[key]

    def digests(self) -> dict[str, str]:
        """SHA-256 of the contents of each, with its type and shape."""
        return {name: f"{dtype} {shape} {sha}" for (dtype, shape, sha), name in self._names.items()}

    def encoded(self) -> bytes:
        """All of them in a safetensors container."""
        return write_container(self._arrays)


class ArrayReader:
    """Arrays of a container.

    Raises
    ------
    ProgramError
        If it is no safetensors container, or has other types than those of ``container.DTYPES``.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self._where = where
        self._arrays = read_container(data, where)
        self._unused = set(self._arrays)

    def take(self, node: Node, dtype: type | None = None) -> np.ndarray:
        """The array that a field names; of this type, if one is given.

        Raises
        ------
        ProgramError
            If there is no such array, or it has another type.
        """
        name = node.text()
        if name not in self._arrays:
            raise node.refuse("the name of an array of the file")
        array = self._arrays[name]
        if dtype is not None and array.dtype != dtype:
            raise ProgramError(
                f"{node.where}: array {name} is {array.dtype}, must be {np.dtype(dtype)}"
            )
        self._unused.discard(name)
        return array

    def check_used(self) -> None:
        """Look whether every array was taken.

        Raises
        ------
        ProgramError
            If one was not.
        """
        for name in sorted(self._unused):
            raise ProgramError(f"{self._where}: nothing uses array {name}")
