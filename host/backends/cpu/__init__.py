"""The quantised graph on a CPU, by torch's own products and float64: the bits of the golden model.

A family of operators a file; an operator without a kernel is evaluated by the golden model.
"""

from transept.host.backends.cpu.graph import CpuGraph

__all__ = ["CpuGraph"]
