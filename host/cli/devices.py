"""``transept devices``."""

from __future__ import annotations

from transept.golden.config import PRESETS
from transept.host import report
from transept.host.doctor import device_states

__all__ = ["devices"]

_WHAT = {
    "rtl": "the full-size RTL under Verilator",
    "emulator": "NumPy, instruction by instruction",
    "gpu": "Triton kernels on a CUDA GPU",
    "cpu": "torch, in integers and exact floating point",
    "golden": "the specification, operator by operator",
}


def devices() -> None:
    """List the devices that programs run on, and the configurations of the accelerator."""
    states = device_states()
    rows = [{"device": name, "what": what, "state": states[name]} for name, what in _WHAT.items()]
    report.show_rows("devices", rows)
    configurations = [
        {
            "config": c.name,
            "array": f"{c.tile}x{c.tile}",
            "act_KiB": c.act_words * c.tile * 2 / 1024,
            "stat_KiB": c.memories.stat_words * c.tile / 1024,
            "bus_bits": c.memories.axi_data_bits,
            "digest": f"{c.digest:08x}",
        }
        for c in PRESETS.values()
    ]
    report.show_rows("configurations", configurations)
