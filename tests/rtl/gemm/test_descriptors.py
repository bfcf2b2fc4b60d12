"""Widths of what engines of the array tell each other."""

import pytest

from transept.golden.config import TINY
from transept.rtl.gemm.descriptors import slot_bits


@pytest.mark.parametrize(("slots", "bits"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (8, 4)])
def test_a_slot_number_has_room_for_two_banks_and_no_more(slots, bits):
    assert slot_bits(TINY.replace(acc_slots=slots)) == bits
