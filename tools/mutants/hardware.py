"""Whether a fault of the RTL changes the hardware: the Verilog of the whole accelerator says so."""

from __future__ import annotations

import json
import subprocess
import tempfile
from typing import Any

from mutants.project import STARTUP, Scratch
from mutants.testmap import digests
from mutants.watch import BUILD_LIMIT

__all__ = ["CONFIGURATIONS", "record_elaboration", "same_verilog"]

#: The configurations that are built, the quickest to elaborate first.
CONFIGURATIONS = ("tiny", "pynq_z2")


def elaborate(scratch: Scratch, *names: str, cache: str | None = None) -> dict[str, Any]:
    """``{"texts": {name: digest of the Verilog}, "calls": [what made it]}``.

    cache: a folder without the Verilog, so that it is made, by default the cache of the copy.

    Raises
    ------
    RuntimeError
        If the accelerator cannot be elaborated.
    """
    environment = scratch.environment()
    if cache is not None:
        environment["TRANSEPT_CACHE"] = cache
    script = str(STARTUP / "mutants_elaborate.py")
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with scratch.started(script, *names, env=environment, **options) as process:
        try:
            output = process.communicate(timeout=BUILD_LIMIT)[0]
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{', '.join(names)} takes over {BUILD_LIMIT} s") from error
    if process.returncode:
        raise RuntimeError(f"{', '.join(names)} cannot be elaborated:\n{output}")
    return json.loads(output.splitlines()[-1])


def record_elaboration(scratch: Scratch) -> dict[str, Any]:
    """``elaborate`` of all configurations, from nothing, and the files that it depends on."""
    with tempfile.TemporaryDirectory() as folder:
        record = elaborate(scratch, *CONFIGURATIONS, cache=folder)
    return record | {
        "files": digests(scratch.root, {call.split("::")[0] for call in record["calls"]})
    }


def same_verilog(scratch: Scratch, texts: dict[str, str]) -> bool:
    """Whether a copy with a fault has the Verilog ``texts`` (digests) in every configuration."""
    try:
        return all(
            elaborate(scratch, name)["texts"][name] == texts[name] for name in CONFIGURATIONS
        )
    except RuntimeError:
        return False
