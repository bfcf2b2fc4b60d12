"""Every kernel compiles for a GPU, also where there is none."""

import os
import subprocess
import sys
from pathlib import Path

HOPPER = Path(__file__).parents[2] / "benches" / "hopper.py"
KERNELS = 15


def test_every_kernel_compiles_for_hopper(tmp_path):
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    found = subprocess.run(
        [sys.executable, HOPPER], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.count(" bytes\n") == KERNELS
