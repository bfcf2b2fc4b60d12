"""From a kernel in DSLX to Verilog, by XLS; built once and found by its content."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from transept.hls.headers import sources, write
from transept.hls.kernels import Kernel
from transept.sim import tools
from transept.sim.cache import Recipe, content_hash
from transept.sim.tools import HLS, VITIS_HEADERS, BuildError

__all__ = ["SETTINGS", "kernel_ir", "kernel_verilog", "simulate_vitis", "vitis_simulator"]

_COMPILER = next(tool for tool in tools.COMPILATION if tool.name == "g++")

#: What XLS is told of every kernel. No delay model of XLS knows an FPGA; by the proportions of this
#: one it puts registers where the blocks in Amaranth have them. A product is left to a DSP slice,
#: whose own registers take a cycle on either side of it.
SETTINGS: dict[str, Any] = {
    "generator": "pipeline",
    "delay_model": "asap7",
    "with_delay_model": True,
    "ffi_fallback_delay_ps": 200,
    "flop_inputs": False,
    "flop_outputs": False,
    "use_system_verilog": False,
    "streaming_channel_data_suffix": "_data",
    "streaming_channel_valid_suffix": "_valid",
    "streaming_channel_ready_suffix": "_ready",
}


def kernel_ir(kernel: Kernel) -> str:
    """The optimised intermediate form of a kernel, which XLS interprets, compiles and schedules.

    Raises
    ------
    ToolMissing, BuildError
        If XLS is not installed, or refuses the source.
    """
    tools.require(HLS)
    import xls

    try:
        ir = xls.convert_dslx_to_ir(kernel.source, f"{kernel.name}.x", kernel.name)
        return str(xls.optimize_ir(ir, kernel.top))
    except RuntimeError as error:
        raise BuildError(f"XLS refuses {kernel.name}:\n{error}") from None


def kernel_verilog(kernel: Kernel) -> str:
    """The Verilog module of a kernel, without the modules of ``CELLS``.

    Ports of a function are its parameters, ``clk`` and ``out``; those of a process ``clk``, ``rst``
    and for each channel ``_data``, ``_valid`` and ``_ready``.

    Raises
    ------
    ToolMissing, BuildError
        If it is not in the cache and XLS is not installed, or refuses it.
    """
    settings = SETTINGS | {
        "top": kernel.top,
        "module_name": kernel.module,
        "pipeline_stages": kernel.latency + 1,
        "scheduling_strategy": kernel.strategy,
    }
    if kernel.process:
        settings |= {"reset": "rst", "reset_data_path": False}

    def compile_it(scratch: Path) -> None:
        (scratch / "kernel.v").write_text(_compile(kernel, settings))

    content = content_hash(kernel.source, settings)
    recipe = Recipe("hls", kernel.name, content, HLS, lambda: tools.package_versions(HLS))
    return (recipe.make(compile_it) / "kernel.v").read_text()


def _compile(kernel: Kernel, settings: dict[str, Any]) -> str:
    import xls

    package = xls.Package.parse_ir(kernel_ir(kernel))
    try:
        text = str(package.schedule_and_codegen(**settings).get_verilog_text())
    except RuntimeError as error:
        raise BuildError(f"XLS cannot schedule {kernel.name}:\n{error}") from None
    # channels are called by their names alone
    return re.sub(rf"\b{kernel.name}__(?=\w+_(?:data|valid|ready)\b)", "", text)


def vitis_simulator() -> Path:
    """The program ``simulate KERNEL`` of ``hls/vitis``, compiled with the open headers of Vitis.

    Raises
    ------
    ToolMissing, BuildError
        If it is not in the cache and the headers or a compiler are missing, or it refuses them.
    """
    needed = (_COMPILER, *VITIS_HEADERS)
    texts = sources()

    def compile_it(scratch: Path) -> None:
        write(scratch)
        spec = importlib.util.find_spec("hls4ml")
        assert spec is not None
        assert spec.origin is not None
        headers = Path(spec.origin).parent / "templates" / "vivado" / "ap_types"
        command = ["g++", "-std=c++17", "-O2", "-w", "-isystem", str(headers), "simulate.cpp"]
        tools.run([*command, "-o", "simulate"], env=tools.environment(), cwd=scratch)

    def versions() -> str:
        compiler = tools.run(["g++", "--version"], env=tools.environment())
        return compiler + tools.package_versions(VITIS_HEADERS)

    recipe = Recipe("vitis", "simulate", content_hash(texts), needed, versions)
    return recipe.make(compile_it) / "simulate"


def simulate_vitis(kernel: str, *numbers: np.ndarray) -> np.ndarray:
    """What ``simulate KERNEL`` prints for integers, one after the other.

    Raises
    ------
    ToolMissing, BuildError
        If it cannot be built, or refuses them.
    """
    text = "\n".join(map(str, np.concatenate([np.ravel(part) for part in numbers]).tolist()))
    command = [str(vitis_simulator()), kernel]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(
            f"simulate {kernel} failed with exit status {done.returncode}: {done.stderr}"
        )
    return np.array(done.stdout.split(), np.int64)
