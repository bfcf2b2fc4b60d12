"""JSON from strangers: every field is named and typed, every number has limits.

Nothing is allocated that a number of the text asks for; a text of n bytes makes O(n) objects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from transept.host.runtime.errors import ProgramError

__all__ = ["Node", "parse"]

#: Containers inside each other.
DEEPEST = 16
#: Characters of a text, if nothing else is said, and of what a message shows of a value.
LONGEST, SHOWN = 256, 60

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
#: What each character adds to the depth.
_STEPS = np.zeros(256, np.int64)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


def parse(text: bytes, where: str) -> Node:
    """The value of a JSON text.

    Raises
    ------
    ProgramError
        If it is no JSON, names a field twice, or has more containers inside each other than any
        manifest.
    """
    characters = np.frombuffer(_STRING.sub(b"", text), np.uint8)
    steps = _STEPS[characters]
    deepest = int(steps.cumsum().max(initial=0))
    if deepest > DEEPEST:
        raise ProgramError(f"{where} has {deepest} levels, at most {DEEPEST} are allowed")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"{where} is no JSON: {error}") from None
    return Node(value, where)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice[:SHOWN]!r} is there twice")
    return found


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


class Node:
    """One value of a manifest. Its methods say what it must be, and return what it is.

    Raises
    ------
    ProgramError
        By every method, if it is something else; the message has its place, value and limit.
    """

    def __init__(self, value: Any, where: str) -> None:
        self._value, self.where = value, where

    def refuse(self, must: str) -> ProgramError:
        """The error to raise."""
        shown = repr(self._value)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
        return ProgramError(f"{self.where} is {shown}, must be {must}")

    def fields(self, *names: str) -> dict[str, Node]:
        """Exactly these fields of an object."""
        if not isinstance(self._value, dict):
            raise self.refuse("an object")
        for name in names:
            if name not in self._value:
                raise ProgramError(f"{self.where} has no field {name}")
        for name in self._value:
            if name not in names:
                raise ProgramError(f"{self.where} has an unknown field {name[:SHOWN]!r}")
        return {name: Node(self._value[name], f"{self.where}.{name}") for name in names}

    def __getitem__(self, name: str) -> Node:
        """One field of an object that may have others."""
        if not isinstance(self._value, dict) or name not in self._value:
            raise self.refuse(f"an object with a field {name}")
        return Node(self._value[name], f"{self.where}.{name}")

    def named(self, most: int) -> Iterator[tuple[str, Node]]:
        """Fields of an object of any names."""
        if not isinstance(self._value, dict) or len(self._value) > most:
            raise self.refuse(f"an object of at most {most} fields")
        for name, value in self._value.items():
            yield (
                Node(name, f"a name in {self.where}").text(),
                Node(value, f"{self.where}.{name[:SHOWN]}"),
            )

    def items(self, most: int, least: int = 0) -> list[Node]:
        """Elements of a list."""
        if not isinstance(self._value, list) or not least <= len(self._value) <= most:
            raise self.refuse(f"a list of {least} to {most} elements")
        return [Node(value, f"{self.where}[{i}]") for i, value in enumerate(self._value)]

    def optional(self) -> Node | None:
        """Itself; None if it is null."""
        return None if self._value is None else self

    def integer(self, least: int, most: int) -> int:
        """A whole number."""
        if type(self._value) is not int or not least <= self._value <= most:
            raise self.refuse(f"an integer from {least} to {most}")
        return self._value

    def number(self, least: float, most: float) -> float:
        """A real number."""
        if type(self._value) not in (int, float) or not least <= self._value <= most:
            raise self.refuse(f"a number from {least} to {most}")
        return float(self._value)

    def flag(self) -> bool:
        """True or false."""
        if type(self._value) is not bool:
            raise self.refuse("true or false")
        return self._value

    def text(self, most: int = LONGEST, least: int = 1) -> str:
        """Printable text without line breaks."""
        value = self._value
        if not isinstance(value, str) or not least <= len(value) <= most or not value.isprintable():
            raise self.refuse(f"a text of {least} to {most} printable characters")
        return value

    def matching(self, pattern: str) -> str:
        """Text of a form."""
        value = self._value
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise self.refuse(f"a text like {pattern}")
        return value

    def choice(self, known: Collection[str]) -> str:
        """One of some names."""
        if not isinstance(self._value, str) or self._value not in known:
            raise self.refuse(f"one of {', '.join(known)}")
        return self._value
