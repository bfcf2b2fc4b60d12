"""Every kernel compiles for a GPU, also where there is none."""

import os
import subprocess
import sys
from pathlib import Path

HOPPER = Path(__file__).parents[2] / "benches" / "hopper.py"
KERNELS = 17
#: What kernels do in the machine's own instructions, beside waiting for those before.
DONE = {
    "quantise": ["multiplies"],
    "activate": [],
    "copy": [],
    "multiply": [],
    "rotate": [],
    "norm": ["multiplies"],
    "linear": ["multiplies"],
    "linear, step by step": [],
    "transpose": [],
    "attention": ["multiplies", "rounds", "sums"],
    "attention of whole tiles": ["multiplies", "rounds", "sums"],
    "attention, step by step": ["rounds", "sums"],
    "attention, causal": ["multiplies", "rounds", "sums"],
    "attention, window": ["multiplies", "rounds", "sums"],
    "attention, tiles": ["multiplies", "rounds", "sums"],
    "attention of few keys": ["multiplies", "rounds", "sums", "stores"],
    "attention of few keys in whole tiles": ["multiplies", "rounds", "sums", "stores"],
}


def test_every_kernel_compiles_for_hopper(tmp_path):
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    found = subprocess.run(
        [sys.executable, HOPPER], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.count(" bytes\n") == KERNELS
    told = (line.split(": ") for line in found.stdout.splitlines())
    assert {name: done.split(", ") for name, done, _ in told} == {
        name: ["waits", "lets wait", *done] for name, done in DONE.items()
    }
