"""Plans whose weights fit the memories of devices.

A price on every byte of weights that a full device holds (Lagrangian relaxation; Everett 1963)
keeps plans a matter of dynamic programming: whatever is found at some price is the least time for
the memory that it uses. Between two prices memory may stay unused, which moving the borders of
parts then fills.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from transept.host.placement.solve import PartCost, Piece

__all__ = ["first_fit", "priced"]

#: Doublings of a price until it is enough; bisections to the least that is.
DOUBLINGS, BISECTIONS = 60, 20

#: The pieces of least time where a byte of weights on devices costs so many seconds.
Solve = Callable[[Mapping[str, float]], list[Piece]]
#: Whether all memories hold the weights of some pieces.
Fits = Callable[[Sequence[Piece]], bool]


def priced(solve: Solve, fits: Fits, devices: Sequence[str], price: float) -> list[Piece] | None:
    """Pieces that fit, at the least price for all devices, and then at the least for each; None if
    no price is enough.

    price: seconds for a byte, anything above zero, where to begin.
    """

    def uniform(value: float) -> dict[str, float]:
        return dict.fromkeys(devices, value)

    for _ in range(DOUBLINGS):
        if fits(solve(uniform(price))):
            break
        price *= 2
    else:
        return None
    prices = uniform(_least(lambda value: fits(solve(uniform(value))), price))
    for device in devices:
        lowered = functools.partial(_lowered, solve, fits, prices, device)
        prices[device] = _least(lowered, prices[device])
    return solve(prices)


def _lowered(
    solve: Solve, fits: Fits, prices: Mapping[str, float], device: str, price: float
) -> bool:
    """Whether all fits at another price of one device."""
    return fits(solve({**prices, device: price}))


def _least(enough: Callable[[float], bool], high: float) -> float:
    """The least number up to ``high``, which is enough, that is enough, nearly."""
    if enough(0.0):
        return 0.0
    low = 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def first_fit(
    cuts: Sequence[int], devices: Sequence[str], cost: PartCost, fits: Fits
) -> list[Piece] | None:
    """Pieces that fit, each between two cuts where it takes least and there is room; None if one
    has no room."""
    pieces: list[Piece] = []
    for span in itertools.pairwise(cuts):
        able = [Piece(*span, device, cost(*span, device)) for device in devices]
        able = [piece for piece in able if math.isfinite(piece.seconds) and fits([*pieces, piece])]
        if not able:
            return None
        pieces.append(min(able, key=lambda piece: piece.seconds))
    return pieces
