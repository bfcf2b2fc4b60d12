"""What holds for every test."""

import os
import shutil

# processes side by side: threads of one would wait for the cores of the others
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Triton reads this when it is imported, and torch may do that before a kernel does
os.environ.setdefault("TRITON_INTERPRET", "0" if shutil.which("nvidia-smi") else "1")
