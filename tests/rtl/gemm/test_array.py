"""The systolic array as hardware; what it computes is shown by its cocotb bench."""

import re

from transept.golden.config import TINY
from transept.rtl.gemm.array import SystolicArray
from transept.sim.build import to_verilog

#: Signed ports of a DSP slice: multiplicand and multiplier.
PORTS = (25, 18)


def test_a_column_pair_is_one_dsp_slice():
    text = to_verilog(SystolicArray(TINY), "array")
    declared = re.findall(r"^  (?:reg|wire) signed \[(\d+):0\] (\S+)", text, re.MULTILINE)
    declared += re.findall(r"^  (?:reg|wire) \[(\d+):0\] (\S+)", text, re.MULTILINE)
    width = {name.rstrip(";"): int(high) + 1 for high, name in declared}
    products = re.findall(r"\$signed\((\S+)\) \* \$signed\((\S+)\)", text)
    assert len(products) == TINY.macs // 2
    for operands in products:
        found = sorted((width[name] for name in operands), reverse=True)
        assert all(bits <= port for bits, port in zip(found, PORTS, strict=True)), operands
