"""Weights on 16 levels: found, and kept through quantisation."""

import numpy as np
import pytest
import torch
from matches import linear

from transept.golden.numerics.four_bit import GROUP
from transept.host.front.quantise.four_bit import levels
from transept.host.front.quantise.linear import quantise_linear


def on_levels(n=5, groups=3, codes=16, seed=0):
    """Weights as a file has them: float16 steps and minima."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, codes, (n, groups, GROUP))
    step = rng.uniform(0.001, 0.02, (n, groups, 1)).astype(np.float16)
    least = rng.uniform(-0.1, 0.05, (n, groups, 1)).astype(np.float16)
    weight = step.astype(np.float32) * found.astype(np.float32) + least.astype(np.float32)
    return torch.from_numpy(weight.reshape(n, -1).astype(np.float32))


@pytest.mark.parametrize("codes", [1, 2, 3, 8, 9, 16])
def test_levels_are_found(codes):
    weight = on_levels(codes=codes)
    found = levels(weight)
    step, least = (np.repeat(part, GROUP, 1) for part in (found.step, found.least))
    assert np.allclose(found.codes * step + least, weight.numpy(), atol=1e-6)
    assert found.codes.max() <= 15
    if codes > 1:  # as many levels between as there can be
        assert found.codes.reshape(5, 3, -1).max(2).min() >= 8


def test_what_has_more_levels_has_none():
    weight = on_levels()
    weight[2, 40] += 0.0004
    assert levels(weight) is None
    assert levels(torch.randn(4, 64)) is None
    assert levels(on_levels(groups=1)[:, :31]) is None
    assert levels(on_levels(codes=17)) is None


@pytest.mark.parametrize(("off", "found"), [(0.0009, True), (-0.0009, True), (0.0015, False)])
def test_a_weight_may_be_a_thousandth_of_the_largest_off(off, found):
    weight = torch.arange(GROUP)[None] % 16 / 15
    weight[0, 7] += off
    assert (levels(weight) is not None) is found


def test_levels_are_as_far_apart_as_they_can_be():
    """Of 2, 3 and 5 of them; 15 is what codes reach at most."""
    counts = torch.tensor([2, 3, 5])
    found = levels((torch.arange(GROUP) % counts[:, None]).float())
    assert found.codes.max(1).tolist() == [15, 14, 12]
    assert found.step[:, 0] == pytest.approx([1 / 15, 1 / 7, 1 / 3])
    assert found.least.tolist() == [[0]] * 3


def test_a_layer_keeps_its_levels():
    weight = on_levels(n=7)
    op = linear(weight.tolist(), [0.0] * 7, outputs=("y",))
    in_scale = np.repeat([0.5, 2.0, 1.0], GROUP)
    found = quantise_linear(op, None, in_scale, np.ones(7), levels=levels(weight))
    found.packed.check(found.weight.shape)
    assert np.array_equal(found.packed.unpack(), found.weight)
    assert (np.abs(found.weight).max(1) >= 126).all()  # all of a channel's range is used
    real = weight.double().numpy() * in_scale
    step = np.abs(real).max(1, keepdims=True) / 127
    assert np.abs(found.weight * step - real).max() < 0.6 * step.max()


@pytest.mark.parametrize("constant", [0.0, 0.03, -0.2])
def test_groups_of_one_weight_keep_it(constant):
    weight = on_levels(n=4)
    weight[1, :GROUP] = constant
    weight[2] = constant
    assert (levels(weight).step[1:3] == 0).any(1).all()
    op = linear(weight.tolist(), [0.0] * 4, outputs=("y",))
    ones = np.ones(3 * GROUP), np.ones(4)
    found = quantise_linear(op, None, *ones, levels=levels(weight))
    nearest = quantise_linear(op, None, *ones)
    assert found.packed is not None
    assert np.abs(found.weight.astype(int) - nearest.weight).max() <= 1
    assert np.array_equal(found.weight[2], nearest.weight[2])


def test_levels_keep_with_one_scale_in_a_group():
    found = levels(on_levels(groups=2))
    scale = np.repeat([0.5, 3.0], GROUP)
    assert found.keep(scale)
    scale[40] *= 2
    for factor in (1, 1e-10):
        assert not found.keep(scale * factor)
