"""Build a component with Verilator once, run cocotb test modules on it, fail loudly."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from transept.sim import build, tools

if TYPE_CHECKING:
    from amaranth.lib import wiring

__all__ = ["LIMIT_S", "bench_executable", "parameters", "run_bench"]

PARAMETERS = "TRANSEPT_BENCH_PARAMETERS"
LOG_LINES = 60
#: Processor time of one simulation: it ends what hangs, however busy the machine is.
LIMIT_S = 600
#: Environment variable with a command that cocotb's runner puts in front of the simulation.
PREFIX = "SIM_CMD_PREFIX"


def parameters() -> dict[str, object]:
    """In a cocotb test module: the parameters that were given to ``run_bench``."""
    return json.loads(os.environ[PARAMETERS])


def bench_executable(
    design: wiring.Component | str,
    name: str,
    *,
    separator: str = "__",
    waves: bool = False,
    speed: str = build.QUICK,
) -> Path:
    """The simulation of a component or Verilog text; cocotb sees its ports and nothing below.

    speed: build.QUICK to build, or build.FAST to run.

    Raises
    ------
    ToolMissing, BuildError
        If it cannot be built.
    """
    tools.require(tools.COCOTB if isinstance(design, str) else (*tools.COCOTB, *tools.ELABORATION))
    import cocotb
    from cocotb_tools import config

    if isinstance(design, str):
        text = design
    else:
        text = build.to_verilog(design, name, separator=separator)
    # what is public is not optimised, so only ports are
    visible = [f'public_flat_rw -module "{name}" -var "{port}"' for port in _ports(text, name)]
    public = "\n".join(["`verilator_config", *visible, ""])
    main = Path(config.share_dir) / "lib" / "verilator" / "verilator.cpp"
    libraries = f"-Wl,-rpath,{config.libs_dir} -L{config.libs_dir} -lcocotbvpi_verilator"
    flags = (*build.VERILATOR_FLAGS, "--vpi", "public.vlt", *(("--trace",) if waves else ()))
    facts = {"flags": flags, "link": libraries, "speed": speed, "cocotb": cocotb.__version__}

    def fill(scratch: Path) -> None:
        (scratch / "public.vlt").write_text(public)
        build.verilate(
            scratch,
            text,
            name=name,
            prefix="Vtop",
            sources=(main,),
            output=name,
            flags=flags,
            cflags="",
            ldflags=libraries,
            speed=speed,
        )

    recipe = build.compiled("cocotb", name, text, public, facts, main.read_bytes())
    return recipe.make(fill) / name


def _ports(text: str, name: str) -> list[str]:
    found = re.search(rf"^module {name}\(([^)]*)\)", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"the Verilog has no module {name}")
    return found[1].replace(",", " ").split()


def run_bench(
    design: wiring.Component | str,
    name: str,
    test_module: str,
    parameters: Mapping[str, object] | None = None,
    *,
    seed: int = 1,
    separator: str = "__",
    waves: Path | None = None,
    speed: str = build.QUICK,
    limit_s: int = LIMIT_S,
) -> int:
    """Run the cocotb tests of a module on a design; returns how many passed.

    Parameters
    ----------
    design, name : a component or Verilog text, and the name of its Verilog module
    test_module : name of an importable module with cocotb tests
    parameters : JSON values that the tests get from ``parameters()``
    seed : of Python's ``random`` in the tests and of the initial contents of memories
    separator : joins the parts of a component's port names
    waves : write a VCD to this file
    speed : build.QUICK for runs shorter than the build, else build.FAST
    limit_s : seconds of processor time after which the simulation is stopped

    Raises
    ------
    AssertionError
        If a test failed, none ran, or they were stopped; the message says which and ends with the
        log.
    """
    from cocotb_tools.runner import get_runner

    executable = bench_executable(
        design, name, separator=separator, waves=waves is not None, speed=speed
    )
    arguments = ["--trace", "--trace-file", str(Path(waves).resolve())] if waves else []
    arguments += ["+verilator+rand+reset+2", f"+verilator+seed+{1 + seed % 0x7FFFFFFF}"]
    with tempfile.TemporaryDirectory(prefix=f"{name}.") as folder:
        log, results = Path(folder) / "log.txt", Path(folder) / "results.xml"
        # when it fails the reason is in the results, or there are none
        with contextlib.suppress(SystemExit, RuntimeError), _stopped_after(limit_s):
            get_runner("verilator").test(
                test_module,
                name,
                hdl_toplevel_lang="verilog",
                seed=seed,
                build_dir=executable.parent,
                test_dir=folder,
                test_args=arguments,
                extra_env={PARAMETERS: json.dumps(dict(parameters or {}))}
                | _assertions(test_module),
                results_xml=str(results),
                log_file=log,
            )
        return _judge(test_module, results, log, limit_s)


def _assertions(test_module: str) -> dict[str, str]:
    """Asserts of the test module tell their values; other modules, and plugins of pytest, which
    have no part in a simulation, would double the time until it starts."""
    file = test_module.rpartition(".")[2] + ".py"
    return {"COCOTB_REWRITE_ASSERTION_FILES": file, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


@contextlib.contextmanager
def _stopped_after(limit_s: int) -> Iterator[None]:
    """Simulations that are started meanwhile get at most so much processor time."""
    before = os.environ.get(PREFIX)
    os.environ[PREFIX] = f"prlimit --cpu={limit_s}"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PREFIX]
        else:
            os.environ[PREFIX] = before


def _judge(test_module: str, results: Path, log: Path, limit_s: int) -> int:
    """Number of tests that passed, if all did."""
    cases = list(ElementTree.parse(results).iter("testcase")) if results.exists() else []
    bad = [
        str(case.get("name"))
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    passed = sum(case.find("skipped") is None for case in cases) - len(bad)
    if bad or not passed:
        what = f"failed: {', '.join(bad)}" if bad else f"no test ran to its end in {limit_s} s"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        tail = "\n".join(lines[-LOG_LINES:])
        raise AssertionError(f"{test_module}: {what}\n{tail}")
    return passed
