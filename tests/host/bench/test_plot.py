"""The picture of a run: what is drawn where, and what cannot be drawn."""

from types import SimpleNamespace

import pytest
import torch
from drawings import Drawing
from matplotlib.figure import Figure
from small_models import TwoRegions

import transept
from transept.golden.config import TINY
from transept.host.bench import plot
from transept.host.bench.model import bench_model
from transept.host.bench.plot import _roofline, check_plot, engine_cycles, plot_model
from transept.host.models import Prepared


@pytest.fixture(scope="module")
def result():
    x = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(1))
    program = transept.compile(TwoRegions(), (x,), config=TINY)
    return bench_model(Prepared("two", program, (x,)), device="rtl")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_suffix_is_the_format(result, tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    check_plot(path)
    plot_model(result, TINY, 16, path)
    start = path.read_bytes()[:8]
    assert start.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[suffix])


def test_the_timeline_is_the_share_in_which_an_engine_advances(result):
    """Slices of equal length, which add up to its busy cycles without those of stalls."""
    assert len(result["timeline"]) == result["regions"] == 2
    assert sum(part["cycles"] for part in result["timeline"]) == result["cycles"]
    for engine, busy in result["busy"].items():
        parts = [(part["cycles"], part["engines"].get(engine, [])) for part in result["timeline"]]
        assert all(0 <= share < 1 + 1e-9 for _, shares in parts for share in shares)
        drawn = sum(cycles * sum(shares) / max(1, len(shares)) for cycles, shares in parts)
        works = engine_cycles(result)["works"][engine]
        assert drawn == pytest.approx(works), engine
        assert (works > 0) == (busy > 0)


def test_an_engine_works_or_waits_but_never_both(result):
    parts = engine_cycles(result)
    assert parts["works"]["STORE"]
    assert parts["waits: token"]["STORE"]
    for engine in result["busy"]:
        assert sum(cycles[engine] for cycles in parts.values()) <= result["cycles"]


def test_every_region_has_its_own_cycles(result):
    """What runs first is not counted again in what runs next."""
    layers = {layer["name"]: layer["cycles"] for layer in result["layers"] if layer["cycles"]}
    first, second = (part["cycles"] for part in result["timeline"])
    assert 0 < layers["a"] <= first
    assert 0 < layers["b"] <= second


def test_what_is_no_picture(tmp_path):
    with pytest.raises(ValueError, match=r"x.nope has no known format, there are .*png"):
        check_plot(tmp_path / "x.nope")


def test_the_point_of_the_roofline(result):
    axes = Figure().subplots()
    _roofline(axes, result, TINY, 16)
    (((intensity,), (reached,)),) = [line.get_data() for line in axes.lines[1:]]
    assert intensity == result["macs"] / (result["bytes_read"] + result["bytes_written"])
    assert reached == result["macs"] / result["cycles"]
    (note,) = axes.texts
    assert note.get_text() == f"{reached / TINY.macs:.1%} of the array"


RUN = {
    **{"macs": 4096, "bytes_read": 200, "bytes_written": 56, "cycles": 512},
    "timeline": [
        {"cycles": 100, "engines": {"GEMM": [0.5, 1.0], "LOAD": [0.125, 0.25]}},
        {"cycles": 50, "engines": {"GEMM": [0.75]}},
    ],
    "busy": {"GEMM": 256, "LOAD": 128},
    "stalls": {"GEMM": {"TOKEN": 64, "WEIGHTS": 32}, "LOAD": {"TOKEN": 16}},
}
#: Roofline, timeline and stalls of the run.
DRAWINGS = (
    """
loglog([0.25 1.18921 5.65685 26.9087 128], [2 9.51366 16 16 16], base=2, color=black)
plot([16], [8], o, color=tab:blue)
annotate(50.0% of the array, [16 8], xytext=[8 -14], textcoords=offset points)
set_xlabel(multiply-accumulates per byte of memory traffic)
set_ylabel(multiply-accumulates per cycle)
set_title(roofline of tiny, 8 bytes a cycle)
xaxis.set_major_formatter({x:,.5g})
yaxis.set_major_formatter({x:,.5g})
grid(which=both, alpha=0.3)
""",
    """
bar([25 75], [-0.45 -0.9], 50, bottom=0.9, color=tab:blue)
bar([25 75], [-0.1125 -0.225], 50, bottom=1.9, color=tab:blue)
axvline(100, color=black, linewidth=0.5)
bar([125], [-0.675], 50, bottom=0.9, color=tab:blue)
bar([], [], 50, bottom=1.9, color=tab:blue)
axvline(150, color=black, linewidth=0.5)
set_yticks([0.45 1.45], [GEMM LOAD])
invert_yaxis()
set_xlim(0, 150)
set_xlabel(cycle)
xaxis.set_major_formatter({x:,.0f})
set_title(share of each slice in which the engine works)
""",
    """
barh([GEMM LOAD], [0.4375 0.25], left=[0 0], color=tab:blue, label=works)
barh([GEMM LOAD], [0.125 0.03125], left=[0.4375 0.25], color=tab:red, label=waits: token)
barh([GEMM LOAD], [0.0625 0], left=[0.5625 0.28125], color=tab:orange, label=waits: weights)
invert_yaxis()
set_xlabel(share of all cycles)
legend(fontsize=small, ncols=3)
set_title(what each engine does, and what it waits for)
""",
)


def test_a_whole_picture(monkeypatch, tmp_path):
    """Its three parts, its size, and that it is closed."""
    assert plot.POINTS == 200
    monkeypatch.setattr(plot, "POINTS", 4)
    parts, done = [Drawing() for _ in DRAWINGS], []

    class Picture:
        def savefig(self, path, format):
            done.append(format)
            path.touch()

    def subplots(*shape, **options):
        done.append((shape, options))
        return Picture(), parts

    pyplot = SimpleNamespace(subplots=subplots, close=done.append)
    monkeypatch.setattr(plot, "_pyplot", lambda: pyplot)
    plot_model(RUN, TINY, 8, tmp_path / "x.svg")
    assert tuple(parts) == DRAWINGS
    sizes = {"figsize": (9, 11), "height_ratios": (3, 2, 2), "layout": "constrained"}
    assert done == [((3, 1), sizes), "svg", "all"]


def test_reasons_take_the_colours_in_turn():
    names = [f"R{n}" for n in range(8)]
    stalls = {"GEMM": dict.fromkeys(names, 1) | {"TOKEN": 1}}
    drawing = Drawing()
    plot.draw_stalls(drawing, {"busy": {"GEMM": 10}, "stalls": stalls, "cycles": 10})
    found = [line.split("color=")[1].split(",")[0] for line in drawing.lines[:10]]
    assert found == [plot.BUSY, *plot.WAITS, *plot.WAITS[:3]]
