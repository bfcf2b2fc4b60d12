"""What the halves of LOAD and STORE are told holds every value of the instruction."""

import pytest

from transept.golden.isa import FORMATS, Opcode
from transept.rtl.memory.packer import source_layout
from transept.rtl.memory.unpacker import placement_layout


@pytest.mark.parametrize(
    ("layout", "opcode"), [(placement_layout(), Opcode.LOAD), (source_layout(), Opcode.STORE)]
)
def test_operands_are_not_cut(layout, opcode):
    operands = {field.name: field.width for field in FORMATS[opcode].fields}
    operands["blocks"] = operands["words"] - 5  # of 32 words each
    assert {name: layout[name].width for name in layout.members} == {
        name: operands[name] for name in layout.members
    }
