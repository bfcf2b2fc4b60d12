"""Key filters: which key tiles, and which keys of them, a block of query rows computes.

A filter is a component with the members of ``filter_members``, the twin of a rule in
``golden.filters``. To add one: its rule there, a file here, and a row in ``FILTERS``. Nothing else
in the accelerator changes.
"""

from __future__ import annotations

from transept.golden.isa import Filter
from transept.rtl.attention.filters.causal import CausalFilter
from transept.rtl.attention.filters.dense import DenseFilter
from transept.rtl.attention.filters.tile_threshold import TileThresholdFilter
from transept.rtl.attention.filters.window import WindowFilter

__all__ = ["FILTERS"]

#: The component of every filter.
FILTERS = {
    Filter.DENSE: DenseFilter,
    Filter.CAUSAL: CausalFilter,
    Filter.TILE_THRESHOLD: TileThresholdFilter,
    Filter.WINDOW: WindowFilter,
}
