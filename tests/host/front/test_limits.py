"""What one accelerator cannot do stays with torch, with a reason."""

import dataclasses

import pytest
import torch
from matches import matched
from torch import nn

from transept.golden.config import TINY
from transept.host.front.limits import limits


def limited(tokens=3, hidden=8, blocks=(), geometry=(), filters=TINY.filters):
    """Reasons for an encoder layer on ``TINY`` with changes."""
    layer = nn.TransformerEncoderLayer(hidden, 2, 8, batch_first=True)
    config = dataclasses.replace(
        TINY,
        name="small",
        filters=filters,
        blocks=dataclasses.replace(TINY.blocks, **dict(blocks)),
        geometry=dataclasses.replace(TINY.geometry, **dict(geometry)),
    )
    return limits(matched(layer, torch.randn(1, tokens, hidden)), config)


def test_everything_else_fits():
    geometry = TINY.geometry
    assert limited() == limited(hidden=geometry.max_hidden) == {}
    assert limited(tokens=min(geometry.max_tokens, geometry.max_keys)) == {}


def test_a_block_that_is_not_built():
    vector = ("norm1", "norm2", "model.sum", "model.sum~2")
    bare = {"norm": False, "elementwise": False}
    assert limited(blocks=bare) == dict.fromkeys(vector, "small has no vector unit")
    none = dataclasses.replace(TINY.filters, names=())
    assert limited(blocks={"attention": False}, filters=none) == {
        "self_attn.attention": "small has no attention core"
    }


def test_rows_that_are_too_long():
    most = TINY.geometry.max_hidden
    found = limited(hidden=most + 2)
    assert set(found.values()) == {f"rows of {most + 2} elements exceed {most} of small"}
    assert len(found) == 4


@pytest.mark.parametrize("limit", ["max_keys", "max_tokens"])
def test_keys_that_are_too_many(limit):
    most = min(TINY.geometry.max_keys, TINY.geometry.max_tokens) // 2
    assert limited(tokens=most, geometry={limit: most}) == {}
    assert limited(tokens=most + 1, geometry={limit: most}) == {
        "self_attn.attention": f"{most + 1} keys exceed {most} of small"
    }
