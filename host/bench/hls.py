"""Blocks in Amaranth beside the same blocks by high-level synthesis."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from transept.golden.config import PYNQ_Z2, Config
from transept.hls.headers import VITIS
from transept.hls.kernels import FOLDER
from transept.host.bench.avoiding import bench_avoiding
from transept.host.synth import synthesise_block
from transept.sim import tools
from transept.sim.build import to_verilog
from transept.sim.tools import ELABORATION, HLS, SYNTHESIS, VITIS_HEADERS

__all__ = ["RESOURCES", "TOOLS", "bench_hls"]

RESOURCES = ("dsp", "lut", "ff")
#: Cycles from one result to the next, and from a request to a filter's first answer, of either
#: block: ``tests/cocotb`` feeds and counts them so.
INTERVAL, WALK = 1, 1
#: What makes the figures.
TOOLS = (*ELABORATION, *HLS, *SYNTHESIS, *VITIS_HEADERS)


def bench_hls(
    cfg: Config = PYNQ_Z2, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Cycles, resources of an XC7 part and lines of every block of ``HLS_BLOCKS``, both ways.

    Returns
    -------
    ``{config, tools, rows: [{block, latency, interval, dsp, lut, ff, dsp_hls, lut_hls, ff_hls,
    ratio, lines, lines_dslx, lines_cpp}], product}``; interval: cycles from one result to the next;
    ratio: the largest of those of dsp, lut and ff; lines: of code, without blank ones and comments,
    and without what blocks share; product: ``bench_avoiding``.

    Raises
    ------
    ToolMissing, BuildError
        If something is missing (all of it is named, before any work) or a tool fails.
    """
    tools.require(TOOLS)
    rows = []
    for name, component in _blocks(cfg).items():
        progress(name)
        rows.append(_row(name, component, cfg))
    progress("gemm")
    return {
        "config": cfg.name,
        "tools": tools.package_versions(TOOLS),
        "rows": rows,
        "product": bench_avoiding(),
    }


def _blocks(cfg: Config) -> dict[str, Any]:
    """The component class of every block, in Amaranth, and how it is made."""
    from transept.rtl.arith.reciprocal import Rsqrt
    from transept.rtl.attention.filters.window import WindowFilter
    from transept.rtl.gemm.interpolation import Interpolation
    from transept.rtl.gemm.requantise import Requantiser
    from transept.rtl.softmax.exponential import Exponential

    return {
        "exponential": (Exponential, ()),
        "interpolation": (Interpolation, ()),
        "rsqrt": (Rsqrt, ()),
        "requantiser": (Requantiser, (cfg,)),
        "window": (WindowFilter, (cfg,)),
    }


def _row(name: str, component: tuple[type, tuple[Config, ...]], cfg: Config) -> dict[str, Any]:
    from transept.rtl.hls.blocks import chosen

    block, arguments = component
    twin = chosen(cfg.replace(hls=(name,)), block)
    mine = synthesise_block(to_verilog(block(*arguments), name), name)
    theirs = synthesise_block(to_verilog(twin(*arguments), name), name)
    return {
        "block": name,
        "latency": getattr(block, "LATENCY", WALK),
        "interval": INTERVAL,
        **{resource: mine[resource] for resource in RESOURCES},
        **{f"{resource}_hls": theirs[resource] for resource in RESOURCES},
        "ratio": round(max(_ratio(theirs[r], mine[r]) for r in RESOURCES), 3),
        "lines": _python_lines(block),
        "lines_dslx": _lines((FOLDER / f"{name}.x").read_text()),
        "lines_cpp": _lines((VITIS / f"{name}.h").read_text()),
    }


def _ratio(new: float, old: float) -> float:
    return new / old if old else 1.0 + new


def _python_lines(block: type) -> int:
    """Lines of a class without docstrings, comments and blank lines."""
    text = textwrap.dedent(inspect.getsource(block))
    said: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            said.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = (line.strip() for n, line in enumerate(text.splitlines(), 1) if n not in said)
    return sum(bool(line) and not line.startswith("#") for line in lines)


def _lines(text: str) -> int:
    """Lines of DSLX or C++ without comments and blank lines."""
    found = (line.strip() for line in text.splitlines())
    return sum(bool(line) and not line.startswith("//") for line in found)
