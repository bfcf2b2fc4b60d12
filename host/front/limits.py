"""What one accelerator cannot do, whatever the cut: such operators stay with torch, by name."""

from __future__ import annotations

from transept.golden.config import Config
from transept.golden.rules import longest_row
from transept.host.front.matcher import Matcher
from transept.host.front.matches import (
    AttentionMatch,
    LinearMatch,
    Match,
    MultiplyMatch,
    RotaryMatch,
)

__all__ = ["limits"]


def limits(matcher: Matcher, config: Config) -> dict[str, str]:
    """The reason for every operator that does not fit, by its name."""
    found = {}
    for op in matcher.matches:
        reason = _reason(op, config)
        if reason is not None:
            found[op.name] = reason
    return found


def _reason(op: Match, config: Config) -> str | None:
    geometry = config.geometry
    if isinstance(op, LinearMatch):
        return None
    if isinstance(op, AttentionMatch):
        return _attention(op, config)
    width = next(iter(op.defines.values())).width
    if isinstance(op, MultiplyMatch | RotaryMatch):
        return _elementwise(op, width, config)
    if not config.blocks.norm:
        return f"{config.name} has no vector unit"
    if width > geometry.max_hidden:
        return f"rows of {width} elements exceed {geometry.max_hidden} of {config.name}"
    return None


def _elementwise(op: MultiplyMatch | RotaryMatch, width: int, config: Config) -> str | None:
    if not config.blocks.elementwise:
        return f"{config.name} multiplies no elements"
    if isinstance(op, RotaryMatch):
        d = op.columns.shape[1]
        whole = d % (2 * config.tile) == 0
        return None if whole else f"half a head of {d} elements is no multiple of {config.tile}"
    most = longest_row(config)
    return f"rows of {width} elements exceed {most}" if width > most else None


def _attention(op: AttentionMatch, config: Config) -> str | None:
    if not config.blocks.attention:
        return f"{config.name} has no attention core"
    if op.filter.kind not in config.key_filters:
        built = ", ".join(config.filters.names)
        wanted = op.filter.kind.name.lower()
        return f"its mask needs the key filter {wanted}, {config.name} has {built}"
    keys, most = op.keys.shape[1], min(config.geometry.max_keys, config.geometry.max_tokens)
    if keys > most:
        return f"{keys} keys exceed {most} of {config.name}"
    return None
