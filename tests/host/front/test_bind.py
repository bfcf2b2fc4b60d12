"""Values on their way between torch and the accelerator."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from transept.golden.config import PYNQ_Z2, TINY
from transept.host.front.importer import import_model

pytestmark = pytest.mark.filterwarnings("ignore")
X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(2))


class Turned(nn.Module):
    """Reads its operand column by column, and returns its result so; torch is before and behind."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 2)

    def forward(self, x):
        y = x.sin().transpose(1, 2)
        return self.a(y).transpose(1, 2).cumsum(1), self.b(y)


@pytest.fixture
def bound():
    imported = import_model(Turned().eval(), X, TINY)
    found = imported.bound(imported.example)
    return found, found.bindings[0]


def steps(binding):
    """A runner that notes what it is called with, and returns the numbers of the elements."""
    calls = []

    def runner(index, arrays, lengths):
        calls.append((index, arrays, lengths))
        return {
            name: np.arange(16 * width).reshape(1, 16, width)
            for name, width in zip(binding.region.outputs, (4, 2), strict=True)
        }

    binding.runner = runner
    return calls


def test_operands_are_rounded_to_their_grids_in_the_order_of_their_rows(bound):
    module, binding = bound[0].module, bound[1]
    calls, graph = steps(binding), bound[0].regions[0].graph
    module(X)
    ((index, arrays, lengths),) = calls
    scale = graph.values["a.input"].scale
    wanted = np.rint(X.sin().transpose(1, 2).reshape(16, 3).double().numpy() / scale)
    assert (index, lengths) == (0, {"rows": [16]})
    assert arrays["a.input"].dtype == np.int16
    assert arrays["a.input"].tolist() == [wanted.tolist()]
    assert binding.beyond == {"a.input": (0, 48)}


def test_results_are_numbers_where_torch_expects_them(bound):
    module, binding = bound[0].module, bound[1]
    steps(binding)
    first, second = module(X)
    scales = [bound[0].regions[0].graph.values[name].scale for name in ("a", "b")]
    a = torch.arange(64.0).reshape(2, 8, 4) * torch.as_tensor(scales[0])
    b = torch.arange(32.0).reshape(2, 8, 2) * torch.as_tensor(scales[1])
    assert (first.dtype, second.dtype) == (torch.float32, torch.float32)
    assert torch.allclose(first, a.transpose(1, 2).float().cumsum(1))
    assert torch.allclose(second, b.float())


def test_what_lies_beyond_a_grid_is_clipped_and_counted(bound):
    binding = bound[1]
    calls, graph = steps(binding), bound[0].regions[0].graph
    far = torch.zeros(2, 3, 8)
    far[1, 2, 7], far[0, 0, 0], far[0, 1, 0] = 1e9, -1e9, 32767.4 * graph.values["a.input"].scale[1]
    binding(far.transpose(1, 2))
    rows = calls[0][1]["a.input"][0]
    assert (rows[15, 2], rows[0, 0], rows[0, 1]) == (32767, -32767, 32767)
    assert binding.beyond == {"a.input": (2, 48)}


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_what_is_not_finite_is_named_with_its_place(bound, bad):
    steps(bound[1])
    x = torch.zeros(2, 8, 3)
    x[1, 0, 2] = bad
    with pytest.raises(
        ValueError, match=rf"^a.input holds {bad} at element 26; only finite values"
    ):
        bound[1](x)


class Masked(nn.Module):
    """Attention to the keys that a mask leaves."""

    def forward(self, q, k, mask):
        return functional.scaled_dot_product_attention(q, k, k, mask)


def test_padding_is_not_counted_and_lengths_are_those_of_the_mask():
    q, k = torch.ones(2, 1, 3, 8), torch.ones(2, 1, 5, 8)
    imported = import_model(Masked(), (q, k, torch.ones(2, 1, 1, 5) > 0), PYNQ_Z2)
    (binding,) = imported.bound(imported.example).bindings
    calls = []

    def runner(index, arrays, lengths):
        calls.append((arrays, lengths))
        return {"attention": np.ones((2, 3, 8), np.int64)}

    binding.runner = runner
    mask = torch.arange(5) < torch.tensor([5, 2])[:, None, None, None]
    q[1, 0, 2, 3], k[1, 0, 4, 7], k[1, 0, 1, 7] = 50.0, 50.0, -50.0
    binding(q, k, k, mask)
    ((arrays, lengths),) = calls
    assert lengths == {"rows": [3, 3], "rows1": [5, 2]}
    assert {name: array.dtype for name, array in arrays.items()} == dict.fromkeys(
        ("attention.query", "attention.key", "attention.value"), np.int8
    )
    assert arrays["attention.key"][1, :, 7].tolist() == [127, -127, 127, 127, 127]
    assert binding.beyond == {
        "attention.query": (1, 48),
        "attention.key": (1, 80),
        "attention.value": (1, 80),
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_results_have_the_type_of_the_model(dtype):
    model = nn.Linear(8, 2).to(dtype)
    imported = import_model(model, X.to(dtype), TINY)

    def runner(index, arrays, lengths):
        return {"linear": np.full((1, 6, 2), 3)}

    result, notes = imported.run(imported.example, runner)
    assert (result.dtype, result.shape, notes) == (dtype, (2, 3, 2), [])
    scale = imported.regions[0].graph.values["linear"].scale
    assert torch.allclose(result, torch.as_tensor(3 * scale).to(dtype).expand(2, 3, 2))


@pytest.mark.parametrize(("beyond", "told"), [(1, False), (2, True)])
def test_one_in_a_thousand_may_lie_beyond_its_grid(beyond, told):
    x = torch.ones(125, 8)
    imported = import_model(nn.Linear(8, 2), x, TINY)
    x = x.clone()
    x.view(-1)[:beyond] = 1e3
    result, notes = imported.run(
        type(imported.example)((x,), {}), lambda *_: {"linear": np.zeros((1, 125, 2))}
    )
    note = "2 of 1,000 values lie beyond the grid of linear.input and were clipped"
    assert notes == [note] * told
    assert not result.any()


def test_regions_that_are_seen_for_other_shapes_are_the_same():
    """Runners get the number of the region among all."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.b(self.a(x).cumsum(1))

    imported = import_model(Two(), X, TINY)
    calls = []

    def runner(index, arrays, lengths):
        calls.append((index, *lengths.values()))
        name, width = (("a", 8), ("b", 4))[index]
        return {name: np.zeros((1, *next(iter(lengths.values())), width))}

    for x in (X, X[:, :2], X[:1]):
        imported.run(type(imported.example)((x,), {}), runner)
    assert calls == [(0, [6]), (1, [6]), (0, [4]), (1, [4]), (0, [3]), (1, [3])]
    assert [region.name for region in imported.regions] == ["a", "b"]
