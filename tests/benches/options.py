"""Options of a random program: fixed by the caller or drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Options"]


class Options:
    """Draws what the caller did not fix."""

    def __init__(self, rng: np.random.Generator, fixed: dict[str, Any]) -> None:
        self._rng, self._fixed = rng, dict(fixed)

    def pick(self, name: str, *choices: Any) -> Any:
        """One of the choices."""
        choice = choices[self._rng.integers(0, len(choices))]
        return self._fixed.pop(name, choice)

    def upto(self, name: str, last: int) -> int:
        """An integer from 1 to ``last``."""
        return self._fixed.pop(name, int(self._rng.integers(1, last + 1)))

    def done(self) -> None:
        """ValueError if the caller fixed something that does not exist."""
        if self._fixed:
            raise ValueError(f"unknown options {', '.join(self._fixed)}")

    def rest(self) -> dict[str, Any]:
        """What the caller fixed and nothing has drawn yet."""
        return dict(self._fixed)
