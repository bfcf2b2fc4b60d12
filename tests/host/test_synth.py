"""Cells of a netlist to resources of the part."""

from collections import Counter

import pytest

from transept.host.synth import count


def test_cells_are_counted_by_what_they_cost():
    cells = Counter({"DSP48E1": 3, "LUT6": 5, "FDRE": 7, "FDSE_1": 1, "RAMB36E1": 2, "RAMB18E1": 1})
    assert count(cells) == {"dsp": 3, "lut": 5, "ff": 8, "bram36": 2.5}


def test_memories_of_unknown_cost_are_named():
    with pytest.raises(ValueError, match="memories of unknown cost: RAM9000"):
        count(Counter({"RAM9000": 1, "RAMB36E1": 1}))
