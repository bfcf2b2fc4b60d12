"""Importing a model: what is accepted, what is refused by name, and what depends on calibration."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional
from zoo import Counting, Named, bert, load, sizes

import transept
from transept.golden.config import PYNQ_Z2, TINY
from transept.host.front.errors import ExportError, UnsupportedModelError
from transept.host.front.importer import measure_ranges
from transept.host.front.states import drawing

pytestmark = pytest.mark.filterwarnings("ignore")


def mlp(width=16, scale=1.0):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))
    for part in (model[0], model[2]):
        part.weight.data *= scale
    return model


X = torch.randn(6, 16, generator=torch.Generator().manual_seed(2))


def cosine(got, want):
    return functional.cosine_similarity(got.double(), want.double(), dim=-1).min().item()


# --- what a model is called with
@pytest.mark.parametrize(
    "example", [X, (X,), [X], {"input": X}], ids=["tensor", "tuple", "list", "names"]
)
def test_forms_of_an_example(example):
    program = transept.compile(mlp(), example, config=TINY)
    given = (example,) if isinstance(example, torch.Tensor | dict) else tuple(example)
    assert cosine(program.run(*given), mlp()(X)) > 0.995


@pytest.mark.parametrize(
    ("model", "example", "error", "message"),
    [
        (None, X, ExportError, "the model is a NoneType, not a torch.nn.Module"),
        (mlp(), None, ExportError, "not NoneType"),
        (mlp(), "text", ExportError, "not str"),
        (mlp(), (), ExportError, "inputs hold no tensor"),
        (mlp(), (X, X), ExportError, "torch cannot export Sequential: "),
        (nn.Flatten(), (X,), UnsupportedModelError, "no linear layer, convolution or attention"),
    ],
    ids=["no model", "no example", "text", "empty", "too many", "nothing to do"],
)
def test_what_is_no_model(model, example, error, message):
    with pytest.raises(error, match=message):
        transept.compile(model, example, config=TINY)


@pytest.mark.parametrize(
    ("config", "message"),
    [("nope", "nope"), (None, "config is a NoneType, not a name or a Config")],
)
def test_what_is_no_configuration(config, message):
    with pytest.raises((ValueError, KeyError), match=message):
        transept.compile(mlp(), X, config=config)


def test_the_callers_model_stays_in_its_mode():
    model = mlp().train()
    model[0].eval()
    transept.compile(model, X, config=TINY)
    assert [part.training for part in model.modules()] == [True, False, True, True]


def test_arguments_of_another_kind_are_named():
    program = transept.compile(mlp(), X, config=TINY)
    with pytest.raises(
        ExportError, match=r"input 0 is int64\[6, 16\], the example was float32\[6, 16\]"
    ):
        program.run(X.long())
    with pytest.raises(ExportError, match="takes float32"):
        program.run(X, X)


def test_results_may_be_nested():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(16, 8)

        def forward(self, x):
            return {"y": self.a(x), "more": (x, [self.a(x + 1)])}

    model = Nested()
    got, want = transept.compile(model, X, config=TINY).run(X), model(X)
    assert got.keys() == want.keys()
    assert torch.equal(got["more"][0], X)
    for a, b in ((got["y"], want["y"]), (got["more"][1][0], want["more"][1][0])):
        assert cosine(a, b) > 0.99


class InPlace(nn.Linear):
    """Writes to its input."""

    def forward(self, x):
        y = super().forward(x)
        x.add_(1)
        return y


@pytest.mark.parametrize(
    ("model", "name"), [(Counting(), "calls"), (InPlace(16, 16), "x")], ids=["buffer", "input"]
)
def test_what_a_model_leaves_behind_is_named(model, name):
    x = X.clone()
    with pytest.raises(ExportError, match=f"{type(model).__name__} writes to {name}$"):
        transept.compile(model, x, config=TINY)
    assert torch.equal(x, X)
    assert not any(buffer.any() for buffer in model.buffers())


# --- sizes
def test_dimensions_that_are_marked_as_dynamic_are_sizes():
    x = X.clone()
    torch._dynamo.mark_dynamic(x, 0)
    program = transept.compile(mlp(), x, config=TINY)
    want = transept.compile(mlp(), X, config=TINY).run(X, device="cpu")
    assert torch.equal(program.run(x, device="cpu"), want)


def test_one_sequence_tells_whether_a_batch_fits():
    model, inputs = load("attention")
    program = transept.compile(model, inputs, config=PYNQ_Z2)
    (region,) = program.regions
    assert not region.executables
    program.run(*inputs, device="emulator")
    assert [shape.batch for shape in region.executables] == [2]


def test_other_shapes_share_graphs_and_weights():
    model, (ids, ones) = load("bert")
    program = transept.compile(model, (ids, ones), config=PYNQ_Z2)
    for batch, tokens in ((1, 7), (3, 20), (2, 1)):
        x = torch.randint(3, 100, (batch, tokens)), torch.ones(batch, tokens, dtype=torch.int64)
        got = program.run(*x, device="emulator")
        assert torch.equal(got, program.run(*x, device="cpu"))
        assert cosine(got, model(*x)) > 0.99
    assert len(program.regions) == 1


def test_a_row_too_long_for_the_vector_unit_stays_with_torch():
    model, inputs = bert(hidden_size=132, num_attention_heads=4)
    program = transept.compile(model.eval(), inputs, config=TINY)
    found = program.explain()
    assert (found["linears_on"], found["attention_on"]) == (found["linears_total"], 1)
    reasons = [entry["reason"] for entry in found["fallback"]]
    assert "rows of 132 elements exceed 128 of tiny" in reasons
    assert cosine(program.run(*inputs), model(*inputs)) > 0.995


def test_a_sequence_too_long_for_the_attention_core_stays_with_torch():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 16, batch_first=True).eval()
    x = torch.randn(1, TINY.geometry.max_tokens + 1, 16)
    found = transept.compile(layer, x, config=TINY).explain()
    assert (found["linears_on"], found["attention_on"]) == (3, 0)
    assert f"exceed {TINY.geometry.max_tokens} of tiny" in found["fallback"][0]["reason"]


def test_a_sequence_that_is_too_long_changes_nothing_for_others():
    model, _ = load("encoder, post-norm")
    short, long = (torch.randn(1, n, 32) for n in (6, TINY.geometry.max_tokens + 1))
    program = transept.compile(model, torch.randn(1, 4, 32), config=TINY)
    wanted = program.run(short)
    other = transept.compile(model, program.imported.example.args[0], config=TINY)
    assert cosine(other.run(long), model(long)) > 0.9999
    assert other.notes == [
        f"ran in float with torch: {long.shape[1]} keys exceed {TINY.geometry.max_tokens} of tiny"
    ]
    assert torch.equal(other.run(short), wanted)
    assert "float" not in str(other.notes)


def test_what_overflows_an_accumulator_stays_with_torch():
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 20000), nn.Linear(20000, 8))
    model[3].weight.data.fill_(1.0)
    program = transept.compile(model, X, config=PYNQ_Z2)
    found = program.explain()
    assert found["linears_on"] == 2
    assert "accumulators have 27 bits" in str(found["fallback"])


# --- values
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_must_be_finite(bad):
    model = mlp()
    model[2].weight.data[3, 4] = bad
    with pytest.raises(ValueError, match=f"weights of 2 hold {bad}; only finite weights"):
        transept.compile(model, X, config=TINY)


def test_values_must_be_finite():
    program = transept.compile(mlp(), X, config=TINY)
    x = X.clone()
    x[2, 3] = float("nan")
    with pytest.raises(ValueError, match=r"0\.input holds nan at element 35; only finite values"):
        program.run(x)
    with pytest.raises(ValueError, match=r"calibration saw (nan|inf) in"):
        transept.compile(mlp(), X, config=TINY, calibration=[(x,)])


def test_calibration_is_of_the_examples_kind():
    with pytest.raises(
        ExportError,
        match=r"^calibration input 1: input 0 is int64\[6, 16\], the example was float32\[6, 16\]$",
    ):
        transept.compile(mlp(), X, config=TINY, calibration=[X, X.long()])


@pytest.mark.parametrize(("wrong", "kind"), [(X, "Tensor"), (8, "int"), ({"input": X}, "dict")])
def test_calibration_is_a_list(wrong, kind):
    with pytest.raises(ValueError, match=f"list of inputs like the example, not a {kind}"):
        transept.compile(mlp(), X, config=TINY, calibration=wrong)


# --- what is the same for every run
class Chosen(nn.Module):
    """Layers of which an argument, or the size of the input, decides what they are."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(3)
        self.kind = kind
        self.weights, self.bias = nn.Parameter(torch.randn(9, 8, 16)), nn.Parameter(torch.randn(8))

    def forward(self, x, number=1):
        weight, rows = self.weights[0], x.shape[0]
        if self.kind == "input":
            return functional.linear(x * number, weight)
        if self.kind == "weight":
            return functional.linear(x, self.weights[number])
        if self.kind == "bias":
            return functional.linear(x, weight, self.bias * rows)
        if self.kind == "norm":
            return functional.linear(functional.layer_norm(x, (16,), self.weights[rows, 0]), weight)
        return functional.linear(x, weight[:rows])  # rows


@pytest.mark.parametrize(
    ("kind", "example", "others"),
    [
        *((kind, (X, 1), [(X, 2), (X, 3), (X[:3], 2)]) for kind in ("input", "weight")),
        *((kind, (X,), [(X[:4],), (X[1:],)]) for kind in ("bias", "norm", "rows")),
    ],
)
def test_another_layer_than_in_the_example_runs_in_float(kind, example, others):
    model = Chosen(kind).eval()
    program = transept.compile(model, example, config=TINY)
    for args in (example, *others, example):
        got, want = program.run(*args, device="cpu"), model(*args)
        if args is example:
            assert program.notes == []
            assert cosine(got, want) > 0.99
        else:
            assert torch.equal(got, want)
            assert "is another function than in the example" in program.notes[0]


def test_weights_that_were_written_to_are_named():
    model = nn.Sequential(nn.Embedding(9, 16), mlp())
    ids = torch.arange(9)
    program = transept.compile(model, ids, config=TINY)
    program.run(ids, device="cpu")
    with torch.no_grad():
        model[1][2].weight.mul_(-1)
    with pytest.raises(ValueError, match=r"^1\.2\.weight has changed since the program was comp"):
        program.run(ids, device="cpu")
    model[1][2].weight = nn.Parameter(torch.zeros(16, 32))
    with pytest.raises(ValueError, match=r"^1\.2\.weight has changed since the program was comp"):
        program.run(ids, device="cpu")


@pytest.mark.parametrize("way", ["data", "replaced data", "array"])
def test_writes_that_torch_does_not_count_are_named(way):
    model = mlp().eval()
    program = transept.compile(model, X, config=TINY)
    weight = model[2].weight
    if way == "data":
        weight.data.mul_(2)
    elif way == "replaced data":
        weight.data = weight.data.clone()
    else:
        weight.detach().numpy()[:] += 1
    with pytest.raises(ValueError, match=r"^2\.weight has changed since the program was compiled"):
        program.run(X, device="cpu")


def test_modules_that_were_replaced_are_named():
    model = mlp().eval()
    program = transept.compile(model, X, config=TINY)
    model[1] = nn.Tanh()
    with pytest.raises(ValueError, match=r"^1 has changed since the program was compiled"):
        program.run(X, device="cpu")


def test_numbers_that_are_none_are_no_change():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 8)
            self.register_buffer("unused", torch.full((3,), torch.nan))
            self.register_buffer("empty", torch.zeros(0, 4))

        def forward(self, x):
            return self.layer(x)

    program = transept.compile(Masked().eval(), X, config=TINY)
    program.run(X, device="cpu")


@pytest.mark.parametrize(
    ("layer", "differs"),
    [
        (nn.Dropout(0.5), True),
        (nn.Dropout(0.0), False),
        (nn.BatchNorm1d(16), True),
        (nn.BatchNorm1d(16, track_running_stats=False), False),
        (nn.RReLU(), True),
        (nn.TransformerEncoderLayer(16, 2, 8, dropout=0.1), True),
        (nn.MultiheadAttention(16, 2, dropout=0.1), True),
        (nn.TransformerEncoderLayer(16, 2, 8, dropout=0.0), False),
        (nn.Tanh(), False),
    ],
)
def test_what_training_changes_is_told(layer, differs):
    model = nn.Sequential(nn.Linear(16, 8), layer)
    assert bool(list(drawing(model.train()))) == differs
    assert not list(drawing(model.eval()))


def test_a_model_in_training_mode_is_computed_as_in_evaluation():
    model = nn.Sequential(nn.Linear(16, 8), nn.Dropout(0.5)).train()
    program = transept.compile(model, X, config=TINY)
    got = program.run(X, device="cpu")
    assert program.notes == ["computed as in eval(): 1 is in training mode"]
    assert model.training
    assert cosine(got, model.eval()(X)) > 0.99
    program.run(X, device="cpu")
    assert program.notes == []


@pytest.mark.parametrize("scale", [1e-12, 1e-9])
def test_what_is_too_small_for_its_grid_stays_with_torch(scale):
    model = nn.Sequential(*mlp(), nn.Linear(16, 8)).eval()
    for tensor in model[2].parameters():
        tensor.data.mul_(scale)
    program = transept.compile(model, X, config=TINY)
    reasons = [entry["reason"] for entry in program.explain()["fallback"] if entry["macs"]]
    assert reasons == ["2 is so small that hardly a step is left of it"]
    assert cosine(program.run(X, device="cpu"), model(X)) > 0.999


def test_a_small_operand_counts_where_its_product_does():
    class Scaled(nn.Module):
        def __init__(self, bias):
            super().__init__()
            self.layer = nn.Linear(16, 8, bias=bias)
            self.layer.weight.data.mul_(1e3)

        def forward(self, x):
            return self.layer(x * 1e-9 + 0)

    with pytest.raises(UnsupportedModelError, match=r"layer\.input is so small that hardly a step"):
        transept.compile(Scaled(bias=False).eval(), X, config=TINY)
    transept.compile(Scaled(bias=True).eval(), X, config=TINY)


def test_a_program_tells_what_it_is_in_a_line():
    program = transept.compile(mlp().eval(), X, config=TINY)
    assert repr(program) == "<Program for tiny: 2 operators in model>"


def test_a_calibration_input_that_does_not_fit_is_named():
    with pytest.raises(ExportError, match=r"^calibration input 1: torch cannot export Sequential"):
        transept.compile(mlp().eval(), X, config=TINY, calibration=[X, torch.randn(6, 9)])
    with pytest.raises(ExportError, match=r"^calibration input 0: input 0 is float32\[16\]"):
        transept.compile(mlp().eval(), X, config=TINY, calibration=[X[0]])


def test_named_inputs_of_the_float_model_go_into_a_dictionary():
    program = transept.compile(mlp().eval(), X, config=TINY)
    with pytest.raises(ValueError, match="input: inputs with names go into one dictionary"):
        program.reference(input=X)


def test_a_linear_layer_of_more_tiles_than_an_instruction_takes():
    """Of its weights not all fit an instruction, so they do not stay on chip."""
    torch.manual_seed(3)
    model, x = nn.Linear(4096, 4, bias=False).eval(), torch.randn(3, 4096)
    program = transept.compile(model, x, config=PYNQ_Z2)
    got = program.run(x, device="emulator")
    assert torch.equal(got, program.run(x, device="golden"))
    assert cosine(got, model(x)) > 0.999


def test_many_small_columns_run_within_the_tokens():
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(8, 5000), nn.ReLU(), nn.Linear(5000, 4)).eval()
    x = torch.randn(64, 8)
    program = transept.compile(model, x, config=PYNQ_Z2)
    assert torch.equal(program.run(x, device="emulator"), program.run(x, device="golden"))


def test_the_array_waits_no_more_often_than_it_counts():
    """Two layers whose blocks of weights all fit their ring at once, and take turns."""

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(5)
            self.a, self.b = nn.Linear(16, 4080), nn.Linear(16, 4080)
            self.last = nn.Linear(4080, 16)

        def forward(self, x):
            return self.last(nn.functional.silu(self.a(x)) * self.b(x))

    x = torch.randn(1, 2, 16)
    program = transept.compile(Gate().eval(), x, config=PYNQ_Z2)
    assert torch.equal(program.run(x, device="emulator"), program.run(x, device="golden"))


def test_buffers_that_were_written_to_are_named():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("w", torch.randn(16, 8))

        def forward(self, x):
            return x @ self.w

    model = Product()
    program = transept.compile(model, X, config=TINY)
    model.w.neg_()
    with pytest.raises(ValueError, match=r"^w has changed since the program was compiled"):
        program.run(X, device="cpu")


@pytest.mark.parametrize(
    "function",
    [
        lambda x, a: functional.linear(x, functional.dropout(a.weight, 0.5, True), a.bias),
        lambda x, a: functional.linear(x, a.weight + torch.randn_like(a.weight), a.bias),
        lambda x, a: functional.relu(a(x) * torch.rand(1)),
    ],
    ids=["dropout of weights", "noise", "a factor"],
)
def test_chance_is_not_fixed(function):
    class Drawn(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.last = nn.Linear(16, 16), nn.Linear(16, 8)

        def forward(self, x):
            return function(self.last(x).repeat(1, 2), self.a)

    program = transept.compile(Drawn().eval(), X, config=TINY)
    assert not torch.equal(program.run(X, device="cpu"), program.run(X, device="cpu"))


@pytest.mark.parametrize("rows", [1, 6])
def test_packed_projections_of_one_row(rows):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 8)

        def forward(self, x):
            b, t = x.shape[:2]
            q, k, v = (z.view(b, t, 4, 4).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
            y = functional.scaled_dot_product_attention(q, k, v)
            return self.out(y.transpose(1, 2).reshape(b, t, 16))

    model, x = Packed().eval(), X[None]
    program = transept.compile(model, x[:, :rows], config=TINY, calibration=[x, x[:, :1]])
    assert program.explain()["attention_on"] == 1
    for part in (x, x[:, :1]):
        assert cosine(program.run(part, device="cpu"), model(part)) > 0.98


class Odd(nn.Module):
    """Shapes that nobody writes on purpose."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.a, self.b = kind, nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, x):
        if self.kind == "unread attention":
            h = x[None, None]
            functional.scaled_dot_product_attention(h, h, h)
        if self.kind == "heads of a vector":
            h = x.mean(0).view(1, 1, 4, 4).transpose(1, 2)
            x = x + functional.scaled_dot_product_attention(h, h, h).flatten()
        return self.a(x) + self.b(x)


@pytest.mark.parametrize("kind", ["sums of one element", "unread attention", "heads of a vector"])
def test_odd_shapes(kind):
    model = Odd(kind).eval()
    program = transept.compile(model, X, config=TINY)
    assert (program.run(X, device="cpu") - model(X)).abs().max() < 0.03


def test_names_may_come_in_any_order():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(16, 8), nn.Linear(16, 8)

        def forward(self, x, y):
            return self.a(x) - self.b(y)

    model = Two().eval()
    program = transept.compile(model, {"x": X, "y": X + 1}, config=TINY)
    want = program.run({"x": X, "y": X + 1}, device="cpu")
    assert torch.equal(program.run({"y": X + 1, "x": X}, device="cpu"), want)
    assert torch.equal(program.reference({"y": X + 1, "x": X}), model(X, X + 1))
    with pytest.raises(
        ExportError, match=r"takes x = float32\[6, 16\], y = float32\[6, 16\] as in"
    ):
        program.run(X, X, device="cpu")


@pytest.mark.parametrize("shape", [(8, 1), (8, 8), (6, 8)])
def test_a_bias_that_differs_from_row_to_row_is_no_bias(shape):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.w = nn.Parameter(torch.randn(16, 8))
            self.b = nn.Parameter(torch.randn(shape))

        def forward(self, x):
            return torch.addmm(self.b, x, self.w)

    x = torch.randn(shape[0], 16)
    model = nn.Sequential(Sum(), nn.Linear(8, 4)).eval()
    program = transept.compile(model, x, config=TINY)
    assert program.explain()["linears_on"] == 1
    assert cosine(program.run(x, device="cpu"), model(x)) > 0.99


def test_an_example_of_zeros():
    model, _ = load("encoder, post-norm")
    program = transept.compile(model, torch.zeros(1, 4, 32), config=PYNQ_Z2)
    assert cosine(program.run(torch.zeros(1, 4, 32)), model(torch.zeros(1, 4, 32))) > 0.99


def test_calibration_of_any_size():
    more = [(torch.randn(n, 16) * 4,) for n in (1, 9, 3)]
    program = transept.compile(mlp(), X, config=TINY, calibration=more)
    assert cosine(program.run(X), mlp()(X)) > 0.99
    assert not program.notes


def test_calibration_that_does_not_fit_the_accelerator():
    """Attention over too many keys is measured like any other."""
    model, _ = load("encoder, post-norm")
    short, long = (torch.randn(1, n, 32) for n in (6, TINY.geometry.max_tokens + 1))
    program = transept.compile(model, short, config=TINY, calibration=[long, short])
    shared = measure_ranges(model, [long, short], TINY)
    other = transept.compile(model, short, config=TINY, calibration=shared)
    for found in (program, other):
        assert found.explain()["attention_on"] == found.explain()["attention_total"] > 0
        assert torch.equal(found.run(short), program.run(short))
        assert "float" not in str(found.notes)


class Summed(nn.Module):
    """A residual and its norm, all of it linear before the norm."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Linear(16, 16, bias=False), nn.LayerNorm(16)

    def forward(self, x):
        return self.norm(x + self.a(x))


@pytest.mark.parametrize("factor", [-1.9, 1.9])
def test_twice_the_calibrated_range_does_not_saturate(factor):
    """Headroom of every int16 grid: inputs, products, sums."""
    torch.manual_seed(0)
    model = Summed()
    program = transept.compile(model, X, config=TINY)
    got = program.run(X * factor, device="emulator")
    assert program.last.clipped == {}
    assert not program.notes
    assert cosine(got, model(X * factor)) > 0.995


@pytest.mark.parametrize("factor", [4, 10, 100])
def test_saturation_is_told(factor):
    program = transept.compile(mlp(), X, config=TINY)
    program.run(X * factor, device="emulator")
    assert any("lie beyond the grid of 0.input and were clipped" in note for note in program.notes)


def test_saturation_inside_is_told():
    """The input is on its grid, what comes of it is not."""
    model = mlp()
    program = transept.compile(model, X, config=TINY, calibration=[(X * 0.01,), (torch.eye(16),)])
    worst = 1.9 * model[0].weight.sign()[:1]
    program.run(worst.expand(6, 16).contiguous(), device="emulator")
    assert any("of 0 were clipped" in note for note in program.notes)
    assert program.last.clipped["0"] > 0


# --- parameters that are shared
def test_shared_parameters_share_their_integers():
    model, inputs = load("albert, three layers")
    program = transept.compile(model, inputs, config=PYNQ_Z2)
    linears = [
        op for op in program.regions[0].graph.ops if op.name.endswith(("ffn", "ffn#2", "ffn#3"))
    ]
    assert len(linears) == 3
    assert len({id(op.weight) for op in linears}) == 1


# --- what operators do to tensors of others
class Between(nn.Module):
    """Something between two linear layers."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(4)
        self.a, self.b, self.between = nn.Linear(16, 16), nn.Linear(16, 16), between

    def forward(self, x):
        return self.b(self.between(self.a(x), x))


def added_in_place(h, x):
    h.add_(x)
    return h


def chained_in_place(h, x):
    h += x * 2
    h.relu_()
    return h


def written_through_a_view(h, x):
    left = h[:, :8]
    left.mul_(0.0)
    return h


def written_into_a_slice(h, x):
    y = torch.zeros(x.shape)
    y[:, :16] = h
    return y


@pytest.mark.parametrize(
    "between", [added_in_place, chained_in_place, written_through_a_view, written_into_a_slice]
)
def test_writes_in_place(between):
    """What is written into a tensor is seen by everybody who reads it or a view of it later."""
    model = Between(between)
    program = transept.compile(model, X, config=PYNQ_Z2)
    got = program.run(X, device="emulator")
    assert torch.equal(got, program.run(X, device="cpu"))
    assert cosine(got, model(X)) > 0.995
    assert program.explain()["linears_on"] == 2


def test_what_is_not_finite_stays_with_torch():
    model = Between(lambda h, x: torch.reciprocal(h.abs()).clamp(max=4.0))
    program = transept.compile(model, X, config=PYNQ_Z2)
    assert program.explain()["linears_on"] == 2
    assert cosine(program.run(X, device="emulator"), model(X)) > 0.99


# --- key filters
def test_a_filter_by_name():
    model, inputs = load("bert")
    program = transept.compile(model, inputs, config=PYNQ_Z2, key_filter="tile_threshold:-100")
    rules = [op.filter for op in program.regions[0].graph.ops if hasattr(op, "filter")]
    assert [(rule.kind.name, rule.threshold) for rule in rules] == [("TILE_THRESHOLD", -100)]
    got = program.run(*inputs, device="emulator")
    assert torch.equal(got, program.run(*inputs, device="cpu"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope", "no key filter 'nope', there are dense"),
        ("window:1", "key filter 'window:1' has 1 parameters"),
        ("tile_threshold:x", "'tile_threshold:x': its parameters must be whole numbers"),
        (3, "key_filter is a int, not a name"),
    ],
)
def test_what_is_no_filter(text, message):
    with pytest.raises(ValueError, match=message):
        transept.compile(mlp(), X, config=PYNQ_Z2, key_filter=text)


def test_a_filter_must_have_a_place():
    with pytest.raises(ValueError, match=r"window is in place of dense attention, of which the mo"):
        transept.compile(mlp(), X, config=PYNQ_Z2, key_filter="window:4,4")


def test_a_filter_must_be_built():
    filters = dataclasses.replace(PYNQ_Z2.filters, names=("dense",))
    config = dataclasses.replace(PYNQ_Z2, name="plain", filters=filters)
    with pytest.raises(ValueError, match="plain has not built the key filter causal, it has dense"):
        transept.compile(mlp(), X, config=config, key_filter="causal")


def test_the_zoo_has_what_it_names():
    assert sizes(hidden_size=8)["hidden_size"] == 8
    assert isinstance(load("gpt2")[0], Named)


class ViewedGelu(nn.Module):
    """Between a linear layer and the end of its activation lie views."""

    def __init__(self, view):
        super().__init__()
        torch.manual_seed(0)
        self.view, self.a, self.b = view, nn.Linear(16, 32), nn.Linear(32, 8)

    def forward(self, x):
        y = self.a(x)
        gelu = nn.functional.gelu(self.view(y) * 1.5)
        return self.b(gelu.reshape(y.shape))


VIEWS = {
    "reshape": lambda y: y.reshape(2, -1),
    "flatten": lambda y: y.flatten(),
    "clone": lambda y: y.clone(),
    "dropout": lambda y: nn.functional.dropout(y, 0.5, training=False),
}


@pytest.mark.parametrize("view", VIEWS)
def test_an_activation_may_be_looked_at_through_views(view):
    x = torch.randn(10, 16)
    program = transept.compile(ViewedGelu(VIEWS[view]), (x,), config="tiny")
    (region,) = program.regions
    tables = [op.table is not None for op in region.graph.ops]
    assert tables == [True, False]
    assert not program.explain()["fallback"]
    assert (program.run(x) == program.run(x, device="cpu")).all()
