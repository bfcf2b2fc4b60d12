"""The core for an FPGA, through its ports alone."""

import dataclasses
import re

import settings

from transept.golden.config import TINY
from transept.sim.build import FABRIC, FAST, fabric_verilog
from transept.sim.cocotb_runner import run_bench


def test_fabric():
    facts = {"config": dataclasses.asdict(TINY), "seed": settings.seed()}
    where = settings.waves("fabric")
    found = run_bench(
        fabric_verilog(TINY), FABRIC, "fabric_bench", facts, seed=settings.seed(), waves=where,
        speed=FAST,
    )  # fmt: skip
    assert found == 12


def test_its_reset_is_known_to_the_tools():
    """Constraints find the flip-flops of the synchroniser by this attribute."""
    text = fabric_verilog(TINY)
    assert text.count('(* ASYNC_REG = "TRUE" *)\n  reg ') == 1
    assert text.count('(* ASYNC_REG = "TRUE" *)\n  output reset;\n  reg reset = 1\'h1;') == 1
    assert text.count("posedge pin_rst") == 2


def test_it_adds_no_logic_to_the_accelerator():
    """The outer module renames, has constants, and inverts one pin."""
    text = fabric_verilog(TINY)
    outer = text[text.index(f"module {FABRIC}(") :].partition("endmodule")[0]
    sources = set(re.findall(r"^  assign \S+ = (.*);$", outer, re.MULTILINE))
    computed = {s for s in sources if not re.fullmatch(r"\w+|\\\S+ ?|\d+'h[0-9a-f]+", s)}
    assert computed == {"~ aresetn"}
    assert "always" not in outer
    assert re.findall(r"^  \\?([\w.]+) +\w+ \($", outer, re.MULTILINE) == [
        f"{FABRIC}.accelerator",
        f"{FABRIC}.synchroniser",
    ]
