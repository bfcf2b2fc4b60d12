"""The picture of a run: what is drawn where, and what cannot be drawn."""

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import transept
from transept.golden.config import TINY
from transept.host.bench.model import bench_model
from transept.host.bench.plot import _roofline, check_plot, engine_cycles, plot_model
from transept.host.models import Prepared


class TwoRegions(nn.Module):
    """Between its linear layers stands what only torch knows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(8, 24), nn.Linear(24, 8)

    def forward(self, x):
        return self.b(torch.fft.fft(self.a(x)).real)


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
