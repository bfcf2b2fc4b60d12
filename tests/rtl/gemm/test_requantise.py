"""Requantiser lanes as hardware; what they compute is shown by their cocotb bench."""

from transept.golden.config import TINY
from transept.rtl.gemm.requantise import FACTOR_BITS, requantise_layout

#: Signed ports of a DSP slice: multiplicand and multiplier.
PORTS = (25, 18)


def test_a_product_is_one_dsp_slice():
    """Multipliers have no sign, which takes a bit."""
    layout = requantise_layout(TINY)
    of_row, of_channel = layout["row_multiplier"], layout["channel"].shape.elem_shape["multiplier"]
    assert (FACTOR_BITS, of_row.width + 1) == PORTS
    assert of_channel.width + 1 < PORTS[1]
