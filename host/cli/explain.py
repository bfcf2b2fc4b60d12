"""``transept explain``."""

from __future__ import annotations

from typing import Any

from transept.host import report
from transept.host.cli.options import (
    BatchOption,
    ConfigOption,
    FilterOption,
    JsonOption,
    MemoryName,
    MemoryOption,
    ModelArgument,
    TokensOption,
    choose_config,
    prepare,
)
from transept.host.files import check_writable
from transept.host.report import console

__all__ = ["explain"]


def explain(
    model: ModelArgument,
    config: ConfigOption = "pynq_z2",
    memory: MemoryOption = MemoryName.default,
    tokens: TokensOption = None,
    batch: BatchOption = None,
    key_filter: FilterOption = None,
    json: JsonOption = None,
) -> None:
    """Say what of a model would run where, and why, without running it."""
    chosen = choose_config(config, memory)
    check_writable(json)
    ready = prepare(model, chosen, tokens=tokens, batch=batch, key_filter=key_filter)
    found = ready.program.explain()
    _show(found)
    report.write_json(json, found)


def _show(found: dict[str, Any]) -> None:
    console.print(
        f"{found['linears_on']} of {found['linears_total']} linears, "
        f"{found['attention_on']} of {found['attention_total']} attentions, "
        f"{found['macs_share']:.1%} of the multiply-accumulates on the accelerator; "
        f"{found['predicted_cycles']:,} cycles predicted"
    )
    regions = [
        {
            "region": region["name"],
            "operators": len(region["operators"]),
            "macs": region["macs"],
            "predicted_cycles": region["predicted_cycles"],
        }
        for region in found["regions"]
    ]
    report.show_rows("on the accelerator", regions)
    if found["fallback"]:
        report.show_rows("with torch", found["fallback"])
