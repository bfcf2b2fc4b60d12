"""Pictures of ``bench model``: the roofline, the engines over time, and what each waited for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transept.golden.config import Config
from transept.host.files import whole_file

__all__ = ["check_plot", "draw_stalls", "engine_cycles", "plot_model"]

#: Colours of the engines, and of what they wait for.
BUSY, WAITS = "tab:blue", ("tab:red", "tab:orange", "tab:purple", "tab:brown", "tab:pink", "gold")
POINTS = 200


def check_plot(path: Path) -> None:
    """Look before a run whether its picture can be drawn; the suffix says in which format.

    Raises
    ------
    ValueError
        If the format is unknown.
    """
    known = _pyplot().figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in known:
        raise ValueError(f"{path.name} has no known format, there are {', '.join(known)}")


def plot_model(result: dict[str, Any], config: Config, rate: float, path: Path) -> None:
    """Draw one result of ``bench.model`` that has cycles; rate: bytes a cycle of the memory."""
    pyplot = _pyplot()
    figure, (roof, time, bars) = pyplot.subplots(
        3, 1, figsize=(9, 11), height_ratios=(3, 2, 2), layout="constrained"
    )
    _roofline(roof, result, config, rate)
    _timeline(time, result)
    draw_stalls(bars, result)
    bars.set_title("what each engine does, and what it waits for")
    with whole_file(path) as place:
        figure.savefig(place, format=path.suffix.removeprefix("."))
    pyplot.close("all")


def _pyplot() -> Any:
    """matplotlib without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _roofline(axes: Any, result: dict[str, Any], config: Config, rate: float) -> None:
    """Work per byte against work per cycle, as memory and array allow it."""
    moved = result["bytes_read"] + result["bytes_written"]
    intensity, reached = result["macs"] / moved, result["macs"] / result["cycles"]
    ridge = config.macs / rate
    ends = [min(intensity, ridge) / 8, max(intensity, ridge) * 8]
    steps = [ends[0] * (ends[1] / ends[0]) ** (i / POINTS) for i in range(POINTS + 1)]
    axes.loglog(steps, [min(config.macs, rate * x) for x in steps], base=2, color="black")
    axes.plot([intensity], [reached], "o", color=BUSY)
    axes.annotate(
        f"{reached / config.macs:.1%} of the array",
        (intensity, reached),
        xytext=(8, -14),
        textcoords="offset points",
    )
    axes.set_xlabel("multiply-accumulates per byte of memory traffic")
    axes.set_ylabel("multiply-accumulates per cycle")
    axes.set_title(f"roofline of {config.name}, {rate} bytes a cycle")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.5g}")
    axes.grid(which="both", alpha=0.3)


def _timeline(axes: Any, result: dict[str, Any]) -> None:
    """When each engine works, in slices of equal length, one region after the other."""
    engines = list(dict.fromkeys(name for part in result["timeline"] for name in part["engines"]))
    start = 0
    for part in result["timeline"]:
        for row, engine in enumerate(engines):
            shares = part["engines"].get(engine, [])
            width = part["cycles"] / max(1, len(shares))
            middles = [start + width * (i + 0.5) for i in range(len(shares))]
            axes.bar(
                middles, [-0.9 * share for share in shares], width, bottom=row + 0.9, color=BUSY
            )
        start += part["cycles"]
        axes.axvline(start, color="black", linewidth=0.5)
    axes.set_yticks([row + 0.45 for row in range(len(engines))], engines)
    axes.invert_yaxis()
    axes.set_xlim(0, start)
    axes.set_xlabel("cycle")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title("share of each slice in which the engine works")


def draw_stalls(axes: Any, result: Mapping[str, Any]) -> None:
    """Cycles of each engine: working, and waiting for what; result: ``cycles`` of the whole, and
    ``busy`` and ``stalls`` as a ``RunReport`` has them."""
    engines = list(result["busy"])
    left = [0.0] * len(engines)
    for index, (label, cycles) in enumerate(engine_cycles(result).items()):
        shares = [cycles[engine] / result["cycles"] for engine in engines]
        colour = WAITS[(index - 1) % len(WAITS)] if index else BUSY
        axes.barh(engines, shares, left=left, color=colour, label=label)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("share of all cycles")
    axes.legend(fontsize="small", ncols=3)


def engine_cycles(result: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Cycles of every engine by what it does: ``works``, then each reason to wait.

    An engine that waits for a token is not busy; for everything else it waits while it is.
    """
    reasons = sorted({reason for stalls in result["stalls"].values() for reason in stalls})
    waits = {
        f"waits: {reason.lower()}": {
            engine: stalls.get(reason, 0) for engine, stalls in result["stalls"].items()
        }
        for reason in reasons
    }
    works = {
        engine: busy - sum(result["stalls"][engine].values()) + result["stalls"][engine]["TOKEN"]
        for engine, busy in result["busy"].items()
    }
    return {"works": works} | waits
