"""Options of ``torch.compile(model, backend="transept", options=...)``, checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from transept.golden.config import Config, preset
from transept.golden.filters import KeyFilter
from transept.host.front.export import Arguments
from transept.host.runtime.program import choose_filter
from transept.host.runtime.session import Session

__all__ = ["Given", "Options"]

#: Every part where it ends soonest; what is no one device is checked when it runs.
AUTO = "auto"
KNOWN = ("device", "config", "calibration", "key_filter")


class Given(tuple):
    """Calibration inputs that are given, equal to themselves alone: tensors have no truth value."""

    __slots__ = ()
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    def arguments(self) -> Iterator[Arguments]:
        """What the model is to be called with.

        Raises
        ------
        ExportError
            If one is no tensor, tuple or dictionary of them.
        """
        return map(Arguments.of, self)


@dataclass(frozen=True)
class Options:
    """device_options: in the order of their names; calibration: a number of first calls, or inputs
    of the whole model."""

    device: str
    config: Config
    calibration: int | Given
    key_filter: KeyFilter | None
    device_options: tuple[tuple[str, Any], ...] = field(hash=False)

    @classmethod
    def of(cls, options: dict[str, Any]) -> Options:
        """What a user chose. ``options["calibration"]``, if it is a list, becomes a ``Given``:
        torch compares the options when the same model is compiled again.

        Raises
        ------
        ValueError
            If there is no such option, device, configuration or filter, or a value is wrong.
        """
        device = options.get("device", "cpu")
        config = options.get("config", "pynq_z2")
        config = preset(config) if isinstance(config, str) else config
        if not isinstance(config, Config):
            raise ValueError(f"config is a {type(config).__name__}, not a name or a Config")
        rule = options.get("key_filter")
        rule = choose_filter(rule, config) if isinstance(rule, str) else rule
        if not (rule is None or isinstance(rule, KeyFilter)):
            raise ValueError(f"key_filter is a {type(rule).__name__}, not a name or a KeyFilter")
        others = {name: value for name, value in options.items() if name not in KNOWN}
        if device != AUTO:
            _check_device(config, device, others)
        calibration = _calibration(options.get("calibration", 1))
        if isinstance(calibration, Given):
            options["calibration"] = calibration
        return cls(device, config, calibration, rule, tuple(sorted(others.items())))


def _check_device(config: Config, device: str, options: dict[str, Any]) -> None:
    try:
        Session(config, device, **options)
    except ValueError as error:
        known = f"{', '.join(KNOWN)} and those of the device"
        raise ValueError(f"{error}; options of the backend are {known}") from None


def _calibration(value: object) -> int | Given:
    if isinstance(value, Given):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"calibration {value} must be at least 1 call")
        return value
    if not isinstance(value, list | tuple):
        kind = type(value).__name__
        raise ValueError(f"calibration is a {kind}, not a number of calls or a list of inputs")
    if not value:
        raise ValueError("calibration is an empty list, it needs at least one input")
    given = Given(value)
    for _ in given.arguments():
        pass
    return given
