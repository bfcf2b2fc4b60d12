"""Triton kernels with the bits of ``golden.ops``, a family an operator.

They run on a GPU; where there is none, in Triton's interpreter, which is slow and serves the tests.
"""

import os

import torch

#: Whether the user wants the interpreter.
ASKED_TO_INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"
# decided before Triton is imported, which reads it
os.environ.setdefault("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")

#: Whether kernels are interpreted: there is no GPU, or $TRITON_INTERPRET says so.
INTERPRETED = os.environ["TRITON_INTERPRET"] == "1"

__all__ = ["ASKED_TO_INTERPRET", "INTERPRETED"]
