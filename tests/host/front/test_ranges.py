"""What calibration sees: ranges, second moments, and which rows count."""

import numpy as np
import pytest
import torch
from matches import matched
from torch import nn
from torch.nn import functional

from transept.host.front import ranges as module
from transept.host.front.export import Arguments, run
from transept.host.front.ranges import Ranges, observe
from transept.host.front.regions import find_regions


def test_the_largest_magnitude_of_every_channel():
    found = Ranges(())
    found.add("x", torch.empty(0, 3))
    with pytest.raises(
        ValueError, match=r"^calibration saw nothing of x; calibrate with inputs th"
    ):
        found["x#3"]
    found.add("x", torch.tensor([[1.0, -3, 0], [-2, 1, 1e-9]]))
    found.add("x#2", torch.tensor([[0.5, -4, 0]]))
    assert found["x"].tolist() == found["x#7"].tolist() == [2, 4, 1e-6]
    assert found["x"].dtype == np.float64


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_what_is_not_finite_is_no_range(bad):
    found = Ranges(())
    found.add("x", torch.tensor([[1.0, bad, 2.0]]))
    with pytest.raises(ValueError, match=f"^calibration saw {bad} in x; calibrate with finite in"):
        found["x"]


def test_moments_of_all_uses_of_a_layer_add_up():
    found = Ranges((), plain=["a"])
    assert found.moments("x") is None
    found.add_moments(["x", "y"], torch.eye(2))
    assert found.moments("x") is found.moments("y")
    found.add_moments(["x#2", "y"], torch.ones(3, 2))
    assert found.moments("x") is found.moments("y")
    assert found.moments("x#9").tolist() == [[4, 3], [3, 4]]
    found.add_moments(["y"], 2 * torch.eye(2))
    assert found.moments("x").tolist() == [[4, 3], [3, 4]]
    assert found.moments("y").tolist() == [[8, 3], [3, 8]]
    assert (found.inputs, found.plain) == ((), frozenset({"a"}))


class Masked(nn.Module):
    """Attention behind its layers, with one before that has an activation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.q, self.k, self.v = (nn.Linear(8, 8) for _ in "fqkv")

    def forward(self, x, mask):
        y = self.first(x).relu()
        q, k, v = (
            part(y).unflatten(-1, (2, 4)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        return functional.scaled_dot_product_attention(q, k, v, mask)


X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(3))


def observed(mask, model=None):
    """Ranges of X with a mask, of regions that were found with another one."""
    model, found = model or Masked(), Ranges(())
    matcher = matched(model, X, torch.zeros(2, 1, 3, 3))
    regions = find_regions(matcher)
    assert not found.covers(regions)
    observe(regions, run(matcher.module, Arguments((X, mask), {})), found)
    assert found.covers(regions)
    return model, found


def additive(*lengths):
    real = torch.arange(3) < torch.tensor(lengths)[:, None]
    return torch.where(real, 0.0, -torch.inf)[:, None, None].expand(2, 1, 3, 3)


@pytest.mark.parametrize(
    ("mask", "rows"),
    [
        (additive(3, 3), [0, 1, 2, 3, 4, 5]),
        (additive(2, 1), [0, 1, 3]),
        (torch.ones(2, 1, 3, 3), [0, 1, 2, 3, 4, 5]),  # no mask: all rows count
    ],
    ids=["whole", "padded", "a bias"],
)
def test_rows_of_padding_are_left_out(mask, rows):
    model, found = observed(mask)
    x = X.reshape(6, 8)[rows]
    before = model.first(x).detach()
    y = before.relu()
    assert np.allclose(found["first.input"], x.abs().amax(0))
    assert np.allclose(found["first.before"], before.abs().amax(0))
    assert np.allclose(found["first"], y.abs().amax(0).clamp(min=1e-6))
    assert np.allclose(found["attention.key"], model.k(y).detach().abs().amax(0))
    assert np.allclose(found.moments("first"), x.T @ x, atol=1e-5)
    for name in ("query", "key", "value"):
        assert np.allclose(found.moments(f"attention.{name}"), y.T @ y, atol=1e-5)
    assert found.moments("first").dtype == torch.float32


class Crossed(nn.Module):
    """Two attentions to the same keys, each with a mask of its own."""

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x, memory, *masks):
        q, k = self.q(x)[:, None], self.k(memory)[:, None]
        first, second = (functional.scaled_dot_product_attention(q, k, k, m) for m in masks)
        return first + second


@pytest.mark.parametrize("biased", [(0,), (1,), (0, 1)])
def test_one_mask_of_keys_tells_which_of_them_are_padding(biased):
    """Of the attentions to them, whichever has it; queries that nothing masks count all."""
    memory = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(4))
    real = torch.arange(5) < torch.tensor([4, 2])[:, None]
    masks = [torch.where(real, 0.0, -torch.inf)[:, None, None].expand(2, 1, 3, 5)] * 2
    for number in biased:
        masks[number] = torch.ones(2, 1, 3, 5)
    model, found = Crossed(), Ranges(())
    matcher = matched(model, X, memory, *[torch.zeros(2, 1, 3, 5)] * 2)
    observe(find_regions(matcher), run(matcher.module, Arguments((X, memory, *masks), {})), found)
    rows = memory.flatten(0, 1) if len(biased) == 2 else memory[real]
    assert np.allclose(found["k.input"], rows.abs().amax(0))
    assert np.allclose(found["q.input"], X.abs().amax((0, 1)))
    assert np.allclose(found.moments("attention.key"), rows.T @ rows, atol=1e-5)


def test_sums_beyond_float32_are_no_moments():
    found = Ranges([])
    found.add_moments(["x"], torch.tensor([[1e19, 1.0]]))
    assert found.moments("x") is not None
    found.add_moments(["x"], torch.tensor([[1.8e19, 1.0]]))
    assert found.moments("x") is None


def test_moments_of_too_many_channels_are_not_kept(monkeypatch):
    monkeypatch.setattr(module, "MOST_CHANNELS", 7)
    _, found = observed(additive(3, 3))
    assert found.moments("first") is None
    assert found["first"].shape == (8,)
    monkeypatch.setattr(module, "MOST_CHANNELS", 8)
    _, found = observed(additive(3, 3))
    assert found.moments("first") is not None
