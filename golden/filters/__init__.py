"""Key filters: which keys a block of query rows computes. Dense is the trivial one.

A filter is a frozen dataclass of its parameters and one rule (``rule.KeyFilter``). Maximum and sum
of the softmax run over kept keys only. To add a filter: a value of ``isa.Filter``, a file here, a
row in ``FILTERS``, and its twin in ``rtl.attention.filters``.
"""

from __future__ import annotations

import dataclasses

from transept.golden.filters.causal import Causal
from transept.golden.filters.dense import Dense
from transept.golden.filters.rule import KeyFilter, QueryBlock, kept_tiles
from transept.golden.filters.tile_threshold import (
    ESTIMATE_SHIFT,
    TileThreshold,
    key_sums,
    summary_bits,
)
from transept.golden.filters.window import Window
from transept.golden.isa import Filter

__all__ = [
    "ESTIMATE_SHIFT",
    "FILTERS",
    "Causal",
    "Dense",
    "KeyFilter",
    "QueryBlock",
    "TileThreshold",
    "Window",
    "decode",
    "kept_tiles",
    "key_sums",
    "parameters",
    "summary_bits",
]

#: Every filter by the name that configurations and users give it.
FILTERS: dict[str, type[KeyFilter]] = {
    rule.kind.name.lower(): rule for rule in (Dense, Causal, TileThreshold, Window)
}


def decode(kind: Filter, parameter: int) -> KeyFilter:
    """The filter that SCORES names by its operands ``filter`` and ``parameter``.

    Raises
    ------
    ValueError
        If the parameter has bits that the filter has no use for.
    """
    return FILTERS[kind.name.lower()].decode(parameter)


def parameters(rule: type[KeyFilter]) -> tuple[str, ...]:
    """Names of a filter's parameters."""
    assert dataclasses.is_dataclass(rule)
    return tuple(field.name for field in dataclasses.fields(rule))
