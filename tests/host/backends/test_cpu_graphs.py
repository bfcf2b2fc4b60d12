"""The CPU backend has the bits of the golden model: whole graphs, models, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import torch
from graphs import cross, mlp, norms_in_front, post_norm, pre_norm, random_inputs, uneven
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import INPUTS, attention, inputs, same_bits
from zoo import ZOO, load

import transept
from transept.golden.config import PYNQ_Z2
from transept.golden.filters import Causal, Dense, TileThreshold, Window
from transept.golden.graph import Graph, GraphError, Value
from transept.golden.ops import Add
from transept.host.backends.cpu import CpuGraph
from transept.host.backends.cpu.graph import KERNELS, kernel_of
from transept.host.backends.cpu.kernel import GoldenKernel
from transept.host.bench.gpu import attention_op

FILTERS = [Dense(), Causal(), Window(5, 3), TileThreshold(40)]
#: What no value may be.
LOWEST = np.int16(-32768)
GRAPHS = {
    "post-norm": post_norm(1, 48, 3, [80]),
    "causal": post_norm(4, 16, 2, [8], Causal()),
    "threshold": post_norm(6, 16, 2, [8], TileThreshold(500)),
    "norms in front": norms_in_front(2, 32, 2, [40]),
    "root mean square": pre_norm(3, 32, 4, 2, [48]),
    "from int8": mlp(4, [20, 36, 7], bits=8),
    "uneven": uneven(3, [(16, 2, 8), (24, 3, 9)]),
    "cross": cross(5, 32, 2, 40),
}


@pytest.fixture(params=GRAPHS)
def graph(request):
    return GRAPHS[request.param]


def test_graphs_of_any_shape(graph):
    backend = CpuGraph(graph)
    rng = np.random.default_rng(0)
    for batch, length in ((2, 19), (1, 1), (5, 8)):
        given = random_inputs(graph, batch, length)
        copies = {name: x.copy() for name, x in given.items()}
        for lengths in ({}, {dim.name: rng.integers(1, length + 1, batch) for dim in graph.dims}):
            found, wanted = backend.run(given, lengths), same_bits(graph, given, lengths)
            assert all(np.array_equal(found[name], y) for name, y in wanted.items())
        assert all(np.array_equal(x, copies[name]) for name, x in given.items())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1 << 20),
    st.sampled_from([(1, 1, 1), (2, 1, 3), (4, 2, 5), (3, 3, 8)]),
    st.integers(1, 3),
    st.integers(1, 24),
    st.sampled_from(FILTERS),
    st.sampled_from(INPUTS),
)
def test_layers_of_any_sizes(seed, heads, batch, length, rule, kind):
    query_heads, _, width = heads
    graph = post_norm(seed, 2 * query_heads * width, query_heads, [width], rule)
    lengths = np.random.default_rng(seed).integers(1, length + 1, batch)
    same_bits(graph, inputs(graph, batch, length, kind, seed), {"rows": lengths})


def test_what_others_have_set_changes_no_bit(graph):
    given = random_inputs(graph, 2, 19)
    wanted = same_bits(graph, given)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        torch.set_default_dtype(torch.float64)
        for count in (1, 2):
            torch.set_num_threads(count)
            with torch.autocast("cpu", torch.bfloat16):
                found = CpuGraph(graph).run(given)
            assert torch.get_num_threads() == count
            assert all(np.array_equal(found[name], y) for name, y in wanted.items())
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.set_default_dtype(torch.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Doubled(Add):
    """An operator that the backend has not seen."""

    def evaluate(self, values, arrays, lengths):
        """Twice the first value, transposed and back."""
        y = (arrays[self.y] * 2).clip(-32767, 32767)
        return {self.sum: y.swapaxes(0, 1).contiguous().swapaxes(0, 1)}


def test_an_operator_without_a_kernel_is_evaluated():
    """Between two that have one."""
    plain = mlp(3, [12, 20, 9])
    last = plain.ops[-1]
    fields = {field.name: getattr(last, field.name) for field in dataclasses.fields(last)}
    values = {**plain.values, "twice": Value("twice", "rows", 9), "end": Value("end", "rows", 9)}
    doubled = Doubled(**fields | {"name": "doubled", "y": last.sum, "sum": "twice"})
    after = dataclasses.replace(last, name="after", y="twice", sum="end")
    graph = Graph(plain.dims, values, plain.inputs, ("end",), (*plain.ops, doubled, after))
    assert isinstance(kernel_of(doubled, values), GoldenKernel)
    same_bits(graph, random_inputs(graph, 3, 7))


@dataclasses.dataclass(frozen=True)
class Choosy(TileThreshold):
    """A filter that the backend has not seen."""

    def keeps(self, block, tile):
        """Every second tile that is large enough."""
        return tile % 2 == 0 and super().keeps(block, tile)


def test_a_filter_that_looks_and_is_unknown_is_evaluated():
    graph = attention(attention_op(2, 8, 40, Choosy(-500)), 8, 8)
    same_bits(graph, inputs(graph, 2, 37, "real"))


def test_values_are_dropped_behind_their_last_reader(monkeypatch):
    held = []

    class Watched(KERNELS[Add]):
        def __call__(self, arrays, lengths):
            held.append((len(arrays), len(arrays.operands)))
            return super().__call__(arrays, lengths)

    monkeypatch.setitem(KERNELS, Add, Watched)
    graph = mlp(3, [12, 20, 20, 9])
    same_bits(graph, random_inputs(graph, 1, 3))
    assert held == [(3, 0)]  # both terms of the sum, and an output


def test_results_are_nobody_elses():
    plain = mlp(3, [12, 20, 9])
    graph = dataclasses.replace(plain, outputs=(*plain.outputs, plain.inputs[1]))
    given = random_inputs(graph, 1, 3)
    found = same_bits(graph, given)
    assert not any(np.shares_memory(y, x) for y in found.values() for x in given.values())


@pytest.mark.parametrize(
    ("change", "lengths", "message"),
    [
        (lambda x: {}, None, "input v0 is missing"),
        (lambda x: x | {"v0": x["v0"].astype(int)}, None, "v0 is int64, must be int16"),
        (
            lambda x: x | {"v0": x["v0"][..., :5]},
            None,
            r"v0 has shape \[2, 3, 5\], must",
        ),
        (lambda x: x | {"v0": x["v0"][:, :0]}, None, r"v0 has shape \[2, 0, 6\]"),
        (lambda x: x | {"v0": x["v0"][0]}, None, r"v0 has shape \[3, 6\], must be \[batch, le"),
        (lambda x: x | {"v0": x["v0"][..., None]}, None, r"v0 has shape \[2, 3, 6, 1\], must"),
        (
            lambda x: x | {"v0": np.where(x["v0"] < 0, LOWEST, x["v0"])},
            None,
            "v0 holds -32768, its limit is 32767",
        ),
        (lambda x: x, {"rows": [3]}, "1 lengths of rows for 2 sequences of v0"),
        (lambda x: x, {"rows": [3, 4]}, "length 4 of rows is outside 1 to 3"),
        (lambda x: x, {"rows": [0, 3]}, "length 0 of rows is outside 1 to 3"),
    ],
)
def test_what_does_not_fit_is_refused(change, lengths, message):
    graph = mlp(1, [6, 10, 4])
    with pytest.raises(GraphError, match=message):
        CpuGraph(graph).run(change(random_inputs(graph, 2, 3)), lengths)


def test_what_just_fits_is_taken():
    graph = mlp(1, [6, 10, 4])
    given = random_inputs(graph, 2, 3)
    given["v0"][0] = -32767
    same_bits(graph, given, {"rows": [1, 3]})


def test_inputs_of_any_layout():
    graph = mlp(1, [6, 10, 4])
    given = random_inputs(graph, 2, 6)
    wanted = same_bits(graph, given)
    turned = {name: x[::-1].copy()[::-1] for name, x in given.items()}
    for x in turned.values():
        x.setflags(write=False)
    found = CpuGraph(graph).run(turned)
    assert all(np.array_equal(found[name], y) for name, y in wanted.items())


# --- models
def check_model(model, given, **options):
    """Every region of a model on what enters it."""
    program, parts = transept.compile(model, given, config=PYNQ_Z2, **options), []
    program.run(*given, device="cpu", watch=lambda part, session: parts.append(part))
    assert len(parts) == len(program.regions)
    for part in parts:
        same_bits(part.region.graph, part.inputs, part.lengths)


SOME = {
    "bert, odd sizes",
    "convolution",
    "encoder, pre-norm",
    "gpt2",
    "llama",
    "modernbert",
    "mpnet",
    "residual mlp",
    "vit",
    "whisper, encoder",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SOME else pytest.mark.slow) for name in ZOO]
)
def test_models(name):
    check_model(*load(name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rule", [None, "causal", "window:20,5", "tile_threshold:100"])
def test_minilm(rule):
    from transept.host.bench.model import long_texts
    from transept.host.models import load_text_model

    model = load_text_model("minilm")
    texts = [*long_texts(model, 128, 2), "A cat sat.", ""]
    prepared = model.prepare(texts, PYNQ_Z2, tokens=128, key_filter=rule)
    parts = []
    prepared.program.run(*prepared.inputs, device="cpu", watch=lambda part, _: parts.append(part))
    for part in parts:
        same_bits(part.region.graph, part.inputs, part.lengths)
