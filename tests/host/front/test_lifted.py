"""What dynamo traced, as a module again: names, arguments, sizes, and what two graphs share."""

import pytest
import torch
from torch import nn

from transept.host.front.lifted import TracedGraph, _is_float, lift

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _dynamo():
    torch._dynamo.reset()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


def traced(model, *calls, dynamic=None):
    """The graphs of some calls, each with what it was first called with."""
    graphs = []

    def backend(module, inputs):
        def run(*given):
            if not graphs or graphs[-1][0] is not graph:
                graphs.append((graph, given))
            return module(*given)

        graph = TracedGraph(module, inputs)
        return run

    run = torch.compile(model, backend=backend, dynamic=dynamic)
    for call in calls:
        run(*call)
    return graphs


def kinds(module):
    return {path: type(part).__name__ for path, part in module.named_modules()}


def test_weights_have_their_paths_and_parts_their_classes():
    inner = nn.Sequential(nn.Linear(4, 2, bias=False))
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), inner).eval()
    ((graph, given),) = traced(model, (X,))
    assert graph.weights == ["0.weight", "0.bias", "2.0.weight"]
    assert graph.kinds == {"": "Sequential", **kinds(model)}
    weights, arguments = graph.split(given)
    assert [weight.data_ptr() for weight in weights] == [p.data_ptr() for p in model.parameters()]
    assert len(arguments) == 1
    assert torch.equal(arguments[0], X)
    lifted = lift([graph], weights)
    assert kinds(lifted) == {"": "Sequential", "0": "Linear", "2": "Sequential", "2.0": "Linear"}
    assert torch.equal(lifted(0, X)[0], model(X))
    assert dict(lifted.named_buffers()).keys() == set(graph.weights)


class Sized(nn.Module):
    """A layer, a buffer, and numbers of all kinds."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.scale = nn.Linear(4, 4), 0.5
        self.register_buffer("shift", torch.arange(4.0))

    def forward(self, x, n, factor, y):
        return self.a(x)[:n] * n * factor * self.scale + self.shift * y.shape[1]


def call(rows, n, factor, columns):
    return torch.randn(rows, 4), n, factor, torch.ones(2, columns)


@pytest.mark.parametrize("dynamic", [False, True])
def test_arguments_are_numbered_as_they_are_used(dynamic):
    model, first = Sized(), call(5, 2, 0.25, 7)
    ((graph, given),) = traced(model, first, dynamic=dynamic)
    assert graph.weights == ["a.weight", "a.bias", "shift"]
    weights, arguments = graph.split(given)
    numbers = [x for x in arguments if not isinstance(x, torch.Tensor)]
    assert torch.equal(arguments[0], first[0])
    if dynamic:  # n, the factor, the scale of the model, columns of what is not computed with
        assert [type(x) for x in numbers] == [int, float, float, int]
        assert numbers == [2, 0.25, 0.5, 7]
    assert torch.equal(graph.run(weights, arguments)[0], model(*first))


def test_sizes_of_a_call_are_its_own():
    model = Sized()
    ((graph, given),) = traced(model, call(5, 2, 0.25, 7), dynamic=True)
    weights, _ = graph.split(given)
    other = call(9, 6, 0.75, 3)
    got = graph.run(weights, (other[0], 6, 0.75, 0.5, 3))
    assert torch.allclose(got[0], model(*other))


class Shaped(nn.Module):
    """Computes with a size of its argument, and may do something else."""

    def __init__(self, other=False):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.other = nn.Linear(4, 4), other

    def forward(self, x):
        y = self.a(x).reshape(x.shape[0] * 4)
        return y.relu() if self.other else y.tanh()


def test_graphs_that_differ_in_sizes_have_one_structure():
    model = Shaped()
    fixed, varied = traced(model, (X,), (torch.cat([X, X]),))
    assert fixed[0].structure == varied[0].structure
    weights, _ = fixed[0].split(fixed[1])
    lifted = lift([graph for graph, _ in (fixed, varied)], weights)
    for number, rows in ((0, 3), (1, 5), (1, 7)):
        x = torch.randn(rows, 4)
        assert torch.equal(lifted(number, x)[0], model(x))
    (other,) = traced(Shaped(other=True), (X,))
    assert other[0].structure != fixed[0].structure
    torch._dynamo.reset()
    (wider,) = traced(nn.Sequential(Shaped()), (X,))
    assert wider[0].structure != fixed[0].structure  # the paths of its weights


def test_a_function_of_weights_alone_has_names_of_its_own():
    weight = nn.Parameter(torch.randn(2, 4))
    ((graph, given),) = traced(lambda x: x @ weight.T, (X,))
    (name,) = graph.weights
    assert "weight" in name
    assert name.isidentifier()
    weights, arguments = graph.split(given)
    assert torch.equal(lift([graph], weights)(0, *arguments)[0], X @ weight.T)


def test_a_matrix_whose_module_is_not_called_counts_as_linear():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.LayerNorm(4)

        def forward(self, x):
            return x @ self.a.weight.T + self.b.weight

    ((graph, given),) = traced(Bare(), (X,))
    weights, _ = graph.split(given)
    assert kinds(lift([graph], weights)) == {"": "Graph", "a": "Linear", "b": "Module"}


def test_an_input_that_dynamo_did_not_lift_is_no_number():
    """It may be a tensor of which only the one element is used."""
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_method("item", (x,)))
    assert not _is_float(x)
