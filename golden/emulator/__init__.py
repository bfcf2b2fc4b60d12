"""Bit-exact emulator of the accelerator, instruction by instruction. Needs NumPy alone."""

from transept.golden.emulator.machine import Emulator, Statistics
from transept.golden.emulator.memory import EmulatorError

__all__ = ["Emulator", "EmulatorError", "Statistics"]
