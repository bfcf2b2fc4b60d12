"""The kernels in DSLX, run by XLS itself, against their golden functions; and their Verilog."""

import dataclasses
import re

import numpy as np
import pytest
from kernel_vectors import VECTORS, WIDTHS, exponential

from transept.golden.config import HLS_BLOCKS, PYNQ_Z2, TINY
from transept.hls import kernels
from transept.hls.kernels import CELLS
from transept.sim import tools
from transept.sim.hls import kernel_ir, kernel_verilog
from transept.sim.tools import BuildError, ToolMissing

ABSENT = tools.missing(tools.HLS)
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=tools.absence(ABSENT))


def interpret(name, arguments):
    """Results of a kernel, compiled by XLS, as integers [vector, result] in golden's order."""
    import xls

    kernel = kernels.kernels(TINY)[name]
    widths, results = WIDTHS[name]
    run = xls.Package.parse_ir(kernel_ir(kernel)).get_function(kernel.top).to_jit().run
    make = {True: xls.Value.make_sbits, False: xls.Value.make_ubits}
    makers = [(make[bits < 0], abs(bits)) for bits in widths.values()]
    found = []
    for vector in arguments.tolist():
        value = run([m(bits, x) for (m, bits), x in zip(makers, vector, strict=True)])
        text = value.to_string()
        found.append([int(x, 0) for x in re.findall(r":(0x[0-9a-f]+|\d+)", text)])
    # the first result is in the lowest bits, which is the last one of a tuple
    got = np.array(found)[:, ::-1]
    low = np.array([1 << (abs(bits) - 1) if bits < 0 else 0 for bits in results])
    size = np.array([1 << abs(bits) for bits in results])
    return (got + low) % size - low


def check(name, arguments, expected):
    got = interpret(name, arguments)
    wrong = np.flatnonzero((got != expected).any(-1))
    assert not wrong.size, (arguments[wrong[0]], got[wrong[0]], expected[wrong[0]])


@pytest.mark.parametrize("name", VECTORS)
def test_functions_have_the_bits_of_golden(name):
    check(name, *VECTORS[name](np.random.default_rng(2), 2000))


def test_every_score_has_the_level_of_golden():
    check("exponential", *exponential(np.random.default_rng(2), 1 << 16))


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_every_block_has_a_kernel_and_its_verilog_is_the_same_again(cfg):
    found = kernels.kernels(cfg)
    assert tuple(found) == HLS_BLOCKS
    for kernel in found.values():
        text = kernel_verilog(kernel)
        assert text.startswith(f"module {kernel.module}(")
        assert text == kernel_verilog(kernel)
        used = set(re.findall(r"^  (hls_\w+) #\(", text, re.MULTILINE))
        assert used <= set(re.findall(r"^module (\w+)", CELLS, re.MULTILINE))


def test_a_pipeline_has_the_registers_that_it_says():
    for kernel in kernels.kernels(TINY).values():
        stages = re.findall(r"Registers for pipe stage (\d+)", kernel_verilog(kernel))
        assert len(stages) == kernel.latency


def test_tables_are_those_of_golden():
    source = kernels.exponential().source
    assert "const EXP2 = [\n    (u17:130048, s22:-1438780, u17:114682),\n" in source
    assert "(u17:65536, s18:-130907, u13:5694)," in kernels.rsqrt().source
    assert "const VANISHED = u8:11;" in source


def test_source_that_xls_refuses_is_named():
    wrong = dataclasses.replace(kernels.exponential(), source="fn exponential(x: u8) -> u9 { x }")
    with pytest.raises(BuildError, match=r"XLS refuses exponential:\n.*u9"):
        kernel_ir(wrong)
    short = dataclasses.replace(kernels.window(TINY), latency=-1)
    with pytest.raises(BuildError, match="XLS cannot schedule window"):
        kernel_verilog(short)


def test_without_xls_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path))
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ToolMissing, match=r"xls-python missing; run: pip install 'transept\[hls\]'"
    ):
        kernel_verilog(kernels.exponential())
