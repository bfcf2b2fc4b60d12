"""Names of operators: what is used again keeps its name, with a number."""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["Names", "base_name", "layer_name"]


class Names:
    """Gives every operator a name of its own.

    What has the same name and equal facts is one layer that is used again: ``x``, ``x#2``. What has
    the same name and other facts is another layer: ``x~2``.
    """

    def __init__(self) -> None:
        self._layers: dict[str, list[tuple]] = {}
        self._uses: Counter[str] = Counter()

    def give(self, wanted: str, facts: tuple) -> str:
        """A name that no operator has yet. facts: tensors, and what can be compared."""
        layers = self._layers.setdefault(wanted, [])
        index = next((i for i, known in enumerate(layers) if _alike(known, facts)), len(layers))
        if index == len(layers):
            layers.append(facts)
        name = wanted if index == 0 else f"{wanted}~{index + 1}"
        self._uses[name] += 1
        return name if self._uses[name] == 1 else f"{name}#{self._uses[name]}"


def _alike(one: tuple, other: tuple) -> bool:
    return len(one) == len(other) and all(map(_same, one, other))


def _same(one: object, other: object) -> bool:
    shapes = getattr(one, "shape", None), getattr(other, "shape", None)
    if shapes == (None, None):
        return one == other
    return shapes[0] == shapes[1] and bool((one == other).all())  # type: ignore[attr-defined]


def base_name(name: str) -> str:
    """The name without the numbers that tell apart the uses of a layer, which share its weights and
    its scales."""
    return re.sub(r"#\d+", "", name)


def layer_name(name: str) -> str:
    """The name of the layer in the model, whatever it is used for."""
    return re.sub(r"[#~]\d+", "", name)
