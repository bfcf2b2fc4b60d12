"""Resets and enables of many flip-flops on the global network of an ECP5."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

__all__ = ["MOST", "promote"]

#: Global nets that may drive anything but clocks are 8, and the clock takes one.
MOST = 7
#: A net with fewer ends is routed like any other.
FEWEST = 500
#: Pins of a flip-flop that globals reach.
_PINS = ("LSR", "CE")


def promote(design: dict[str, Any], top: str, most: int = MOST) -> dict[str, Any]:
    """The netlist with buffers of the global network between the busiest nets and those of their
    ends that are resets or clock enables of flip-flops; what else they drive stays.

    nextpnr does so for clocks alone. As ordinary nets they take a tenth of all that is routed.
    """
    design = copy.deepcopy(design)
    module = design["modules"][top]
    ends: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for cell in module["cells"].values():
        if cell["type"] != "TRELLIS_FF":
            continue
        for pin in _PINS:
            for net in cell["connections"].get(pin, ()):
                if isinstance(net, int):  # no constant
                    ends.setdefault((net, pin), []).append(cell)
    count = Counter({key: len(cells) for key, cells in ends.items()})
    free = 1 + max(bit for name in module["netnames"].values() for bit in _numbers(name["bits"]))
    for new, ((net, pin), number) in enumerate(count.most_common(most), free):
        if number < FEWEST:
            break
        for cell in ends[net, pin]:
            cell["connections"][pin] = [new]
        module["cells"][f"global${new}"] = _buffer(net, new)
        module["netnames"][f"global_net${new}"] = {"hide_name": 0, "bits": [new], "attributes": {}}
    return design


def _numbers(bits: list[Any]) -> list[int]:
    return [bit for bit in bits if isinstance(bit, int)]


def _buffer(source: int, target: int) -> dict[str, Any]:
    return {
        "hide_name": 0,
        "type": "DCCA",
        "parameters": {},
        "attributes": {},
        "port_directions": {"CLKI": "input", "CLKO": "output", "CE": "input"},
        "connections": {"CLKI": [source], "CLKO": [target], "CE": ["1"]},
    }
