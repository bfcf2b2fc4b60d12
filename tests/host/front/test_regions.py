"""Regions: which operators run together, on what, for whom."""

import pytest
import torch
from matches import matched
from torch import nn
from torch.nn import functional

from transept.host.front.matches import Boundary, Source
from transept.host.front.regions import find_regions

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    """An encoder's, its norms in front or behind."""

    def __init__(self, norm_first):
        super().__init__()
        self.norm_first = norm_first
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.n1, self.n2 = nn.LayerNorm(8), nn.LayerNorm(8)

    def attend(self, x):
        q, k, v = heads(*self.qkv(x).chunk(3, -1))
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x):
        if self.norm_first:
            x = x + self.attend(self.n1(x))
            return x + self.down(functional.gelu(self.up(self.n2(x))))
        x = self.n1(x + self.attend(x))
        return self.n2(x + self.down(functional.gelu(self.up(x))))


def heads(*parts):
    return (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in parts)


class Model(nn.Module):
    """A function of three layers, two norms, and what it is called with."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.a, self.b, self.c = (nn.Linear(8, 8) for _ in "abc")
        self.n, self.m = nn.LayerNorm(8), nn.LayerNorm(8)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def told(model, *inputs, cuts=frozenset()):
    """Every region as text: its edge, and its operators."""
    model = model if isinstance(model, nn.Module) else Model(model)
    return [
        [
            f"{region.name}: {', '.join(region.inputs)} -> {', '.join(region.outputs)}",
            *(f"{', '.join(op.inputs)} -> {', '.join(op.outputs)}" for op in region.ops),
        ]
        for region in find_regions(matched(model, *(inputs or (X,))), cuts)
    ]


def test_a_layer_with_its_norms_behind():
    """Projections are taken apart, and every sum belongs to its norm."""
    assert told(nn.Sequential(Layer(False))) == [
        [
            "0: 0.qkv.input -> 0.n2",
            "0.qkv.input -> 0.attention.query",
            "0.qkv.input -> 0.attention.key",
            "0.qkv.input -> 0.attention.value",
            "0.attention.query, 0.attention.key, 0.attention.value -> 0.attention",
            "0.attention -> 0.out",
            "0.out, 0.qkv.input -> 0.n1",
            "0.n1 -> 0.up",
            "0.up -> 0.down",
            "0.down, 0.n1 -> 0.n2",
        ]
    ]


def test_a_layer_with_its_norms_in_front():
    """A sum that the next one reads, too, is kept; the last one has no norm."""
    assert told(nn.Sequential(Layer(True))) == [
        [
            "0: 0.n1.input -> 0.sum~2",
            "0.n1.input -> 0.n1",
            "0.n1 -> 0.attention.query",
            "0.n1 -> 0.attention.key",
            "0.n1 -> 0.attention.value",
            "0.attention.query, 0.attention.key, 0.attention.value -> 0.attention",
            "0.attention -> 0.out",
            "0.out, 0.n1.input -> 0.n2, 0.sum",
            "0.n2 -> 0.up",
            "0.up -> 0.down",
            "0.down, 0.sum -> 0.sum~2",
        ]
    ]


def shown(m, x):
    """A packed projection that torch reads, too, before the attention does."""
    y = m.a(x)
    read = y.sin()
    return read, functional.scaled_dot_product_attention(*heads(y, y, y))


def late(m, x):
    """A sum of what is behind the accelerator and torch in one way, and in another one."""
    y = m.a(x).relu()
    context = functional.scaled_dot_product_attention(*heads(y, y, y)).transpose(1, 2).flatten(2)
    return context + m.b(m.c(x).cumsum(1))


def late_mask(m, x):
    mask = torch.where(m.a(x)[:, None, :, :3] > 100, 0.0, -torch.inf).triu(1)
    context = functional.scaled_dot_product_attention(*heads(m.c(x), m.c(x), m.c(x)), mask)
    return context.transpose(1, 2).flatten(2) + m.b(m.a(x).cumsum(1))


SECOND = [
    "model#2: attention.query, attention.key, attention.value, b.input -> model.sum",
    "attention.query, attention.key, attention.value -> attention",
    *("b.input -> b", "b, attention -> model.sum"),
]

#: What a model computes, and its regions.
MODELS = {
    "torch between": (
        lambda m, x: m.b(m.a(x).cumsum(1)),
        [["a: a.input -> a", "a.input -> a"], ["b: b.input -> b", "b.input -> b"]],
    ),
    "torch between uses": (
        lambda m, x: m.a(m.a(x).cumsum(1)),
        [["a: a.input -> a", "a.input -> a"], ["a#2: a#2.input -> a#2", "a#2.input -> a#2"]],
    ),
    "a value in common": (
        lambda m, x: (m.a(x), m.b(x)),
        [["model: a.input -> a, b", "a.input -> a", "a.input -> b"]],
    ),
    "nothing in common": (
        lambda m, x: (m.a(x), m.b(x + 1)),
        [["a: a.input -> a", "a.input -> a"], ["b: b.input -> b", "b.input -> b"]],
    ),
    "a value that is shown": (
        lambda m, x: (m.b(y := m.a(x)), y.view(3, 2, 8).sin()),
        [["model: a.input -> a, b", "a.input -> a", "a -> b"]],
    ),
    "views inside": (
        lambda m, x: m.b(m.a(x).view(6, 8)[:, None].transpose(0, 1)),
        [["model: a.input -> b", "a.input -> a", "a -> b"]],
    ),
    "casts inside": (
        lambda m, x: m.b(m.a(x).double().float()),
        [["model: a.input -> b", "a.input -> a", "a -> b"]],
    ),
    "no product": (lambda m, x: m.n(x), [["n: n.input -> n", "n.input -> n"]]),
    "norms alone": (
        lambda m, x: (m.n(x), m.b(x.cumsum(1))),
        [["b: b.input -> b", "b.input -> b"]],
    ),
    "a sum for two norms": (
        lambda m, x: (m.n(y := x + m.a(x)), m.m(y)),
        [
            [
                "model: a.input -> n, m",
                *("a.input -> a", "a, a.input -> n, model.sum", "model.sum -> m"),
            ]
        ],
    ),
    "a sum that is a result": (
        lambda m, x: (m.n(y := x + m.a(x)), y),
        [["model: a.input -> model.sum, n", "a.input -> a", "a, a.input -> n, model.sum"]],
    ),
    "a sum with torch": (
        lambda m, x: m.a(x) + x.sin(),
        [
            [
                "model: a.input, model.sum.residual -> model.sum",
                *("a.input -> a", "a, model.sum.residual -> model.sum"),
            ]
        ],
    ),
    "attention to activations": (
        lambda m, x: functional.scaled_dot_product_attention(*heads(m.a(x).relu(), m.b(x), m.c(x))),
        [
            ["model: a.input -> a, b, c", "a.input -> a", "a.input -> b", "a.input -> c"],
            [
                "attention: attention.query, attention.key, attention.value -> attention",
                "attention.query, attention.key, attention.value -> attention",
            ],
        ],
    ),
    "a projection that is shown": (
        shown,
        [
            [
                "model: a.input -> a, attention",
                "a.input -> a",
                *(f"a.input -> attention.{role}" for role in ("query", "key", "value")),
                "attention.query, attention.key, attention.value -> attention",
            ]
        ],
    ),
    "behind torch in two ways": (
        late,
        [["model: a.input -> a, c", "a.input -> a", "a.input -> c"], SECOND],
    ),
    "behind a mask and torch": (
        late_mask,
        [
            [
                "model: a.input -> a, c, c#2, c#3, a#2",
                *(f"a.input -> {name}" for name in ("a", "c", "c#2", "c#3", "a#2")),
            ],
            SECOND,
        ],
    ),
    "regions of one name": (
        lambda m, x: m.c(m.b(m.b(m.a(x)).cumsum(1))),
        [
            ["model: a.input -> b", "a.input -> a", "a -> b"],
            ["model#2: b#2.input -> c", "b#2.input -> b#2", "b#2 -> c"],
        ],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_runs_together(name):
    function, expected = MODELS[name]
    assert told(function) == expected


def turned(x):
    """Rotary embedding of three places."""
    angle = torch.arange(3.0)[:, None] * torch.tensor([1.0, 0.1]).repeat(2)
    low, high = x.chunk(2, -1)
    return x * angle.cos() + torch.cat([-high, low], -1) * angle.sin()


def test_heads_of_a_rotary_embedding_lie_in_order():
    """Those of the values may be in any; an attention to others is a region of its own."""

    def ordered(m, x):
        q, k = map(turned, heads(m.a(x), m.b(x)))
        v = m.c(x).unflatten(-1, (4, 2)).permute(0, 3, 1, 2)
        return functional.scaled_dot_product_attention(q, k, v)

    def mixed(m, x):
        q, k = (turned(part).permute(0, 3, 2, 1) for part in heads(m.a(x), m.b(x)))
        v = m.c(x).unflatten(-1, (4, 2)).transpose(1, 2)
        return functional.scaled_dot_product_attention(q, k, v)

    (whole,) = told(ordered)
    assert whole[-1] == "model.rotary, model.rotary~2, attention.value -> attention"
    front, behind = told(mixed)
    assert front[0].endswith(" -> model.rotary, model.rotary~2, c")
    assert behind[1] == "attention.query, attention.key, attention.value -> attention"


def test_a_mask_that_is_computed_comes_first():
    """Its own region ends before that of the attention that it masks."""

    def function(m, x):
        mask = torch.where(m.a(x)[:, None, :, :3] > 100, 0.0, -torch.inf).triu(1)
        return functional.scaled_dot_product_attention(*heads(m.b(x), m.b(x), m.c(x)), mask)

    assert [region[0] for region in told(function)] == [
        "model: a.input -> a, b, b#2, c",
        "attention: attention.query, attention.key, attention.value -> attention",
    ]


def test_a_region_is_named_by_the_beginning_that_its_operators_have_in_common():
    def layers():
        return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))

    assert told(nn.Sequential(layers()))[0][0] == "0: 0.0.input -> 0.1"
    first = nn.Sequential(nn.Linear(8, 8))
    assert told(nn.Sequential(first, nn.Sequential(nn.Linear(8, 8))))[0][0] == (
        "model: 0.0.input -> 1.0"
    )


def test_a_region_ends_before_a_cut():
    def function(m, x):
        return m.c(m.b(m.a(x)))

    assert told(function, cuts=frozenset({"b"})) == [
        ["a: a.input -> a", "a.input -> a"],
        ["model: b.input -> c", "b.input -> b", "b -> c"],
    ]
    assert len(told(function, cuts=frozenset({"b", "c"}))) == 3


def test_where_every_value_lies():
    (region,) = find_regions(matched(nn.Sequential(Layer(False)), X))
    nodes = {name: source.node.name for name, source in region.sources.items()}
    assert nodes["0.attention.key"] == nodes["0.qkv"] == "linear"
    assert nodes["0.up"] == "gelu"
    assert region.before["0.up"].node.name == "linear_2"
    key, qkv = (region.sources[name].index for name in ("0.attention.key", "0.qkv"))
    assert qkv.tolist() == torch.arange(6 * 24).reshape(6, 24).tolist()
    assert key.tolist() == qkv[:, 8:16].tolist()
    assert {node.name for node in region.nodes} == {
        *("linear", "linear_1", "linear_2", "linear_3", "gelu", "add", "add_1"),
        *("layer_norm", "layer_norm_1", "scaled_dot_product_attention"),
    }
    assert [op.name for op in region.attentions] == ["0.attention"]
    assert region.signature == (
        tuple((op.name, op.inputs, op.outputs) for op in region.ops),
        ("0.n2",),
    )


def test_a_source_inverts_a_boundary():
    """Element i of the tensor is element codes[i] of the rows."""
    source = Boundary(None, torch.tensor([[5, 1, 3], [0, 2, 4]]), 2, 3).source
    assert source.index.tolist() == [[3, 1, 4], [2, 5, 0]]
    tensor = torch.arange(10, 16).reshape(2, 3)
    assert source.rows(tensor).tolist() == [[13, 11, 14], [12, 15, 10]]
    assert source.columns(torch.tensor([2, 0])).index.tolist() == [[4, 3], [0, 2]]
    plain = Boundary(None, torch.arange(6), 3, 2).source
    assert plain.rows(tensor).tolist() == [[10, 11], [12, 13], [14, 15]]


def test_a_source_may_have_signs():
    tensor, index = torch.arange(10.0, 16), torch.tensor([[0, 1], [0, 5]])
    source = Source(None, index, torch.tensor([-1.0, 1.0]))
    assert source.rows(tensor).tolist() == [[-10, 11], [-10, 15]]
    assert source.columns(torch.tensor([1, 0])).rows(tensor).tolist() == [[11, -10], [15, -10]]
    assert source.same(Source(None, index.clone(), torch.tensor([-1.0, 1.0])))
    others = (None, torch.tensor([-1.0, -1.0]), torch.tensor([-1.0]))
    assert not any(source.same(Source(None, index, sign)) for sign in others)
    assert not source.same(Source(None, index + 1, source.sign))
