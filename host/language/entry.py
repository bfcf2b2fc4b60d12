"""What enters the layers of a language model: rows that depend on the token, on its position, or
are the sum of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Entry"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One value that enters: integers by token or by position, or the float32 parts of a sum.

    token: [vocabulary, width] or None; position: [context, width] or None; scale: float64[width],
    of one step of a sum, negative where it enters with the other sign; limit: largest integer.
    """

    token: np.ndarray | None
    position: np.ndarray | None
    scale: np.ndarray
    limit: int

    def rows(self, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Integers [.., width] of tokens and their positions, int64[..] both."""
        parts = [
            table[which]
            for table, which in ((self.token, ids), (self.position, positions))
            if table is not None
        ]
        if len(parts) == 1:
            return parts[0]
        steps = np.rint((parts[0] + parts[1]).astype(np.float64) / self.scale)
        dtype = np.int16 if self.limit > np.iinfo(np.int8).max else np.int8
        return steps.clip(-self.limit, self.limit).astype(dtype)
