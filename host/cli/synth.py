"""``transept synth``."""

from __future__ import annotations

from transept.host import report
from transept.host.cli.options import (
    BlocksOption,
    ConfigOption,
    FiltersOption,
    HlsOption,
    JsonOption,
    MemoryName,
    MemoryOption,
    choose_config,
    working,
)
from transept.host.files import check_writable
from transept.host.synth import synthesise

__all__ = ["synth"]


def synth(
    config: ConfigOption = "pynq_z2",
    memory: MemoryOption = MemoryName.default,
    hls: HlsOption = None,
    filters: FiltersOption = None,
    blocks: BlocksOption = None,
    json: JsonOption = None,
) -> None:
    """Count the resources of the whole accelerator with Yosys."""
    chosen = choose_config(config, memory, hls, filters, blocks)
    check_writable(json)
    with working("synthesising (minutes)"):
        result = synthesise(chosen)
    rows = [
        {"resource": name, "used": result[name], "limit": limit, "share": result[name] / limit}
        for name, limit in result["limits"].items()
    ]
    report.show_rows(f"{chosen.name} on {result['part']}", rows)
    report.show_rows("blocks", [{"block": n} | found for n, found in result["blocks"].items()])
    report.write_json(json, result)
