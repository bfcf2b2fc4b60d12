"""The core for an FPGA, through its ports alone."""

import dataclasses

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
