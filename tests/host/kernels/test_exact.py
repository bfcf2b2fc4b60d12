"""Every kernel gives the bits of the golden operator, in Triton's interpreter or on a GPU."""

import dataclasses

import numpy as np
import pytest
import torch
from graphs import (
    GraphBuilder,
    attention_alone,
    mlp,
    norms_in_front,
    post_norm,
    pre_norm,
    random_inputs,
)
from operators import add, inputs, norm

from transept.golden.filters import Causal, Dense, TileThreshold, Window
from transept.golden.graph import Value
from transept.golden.ops import Add, Linear, Norm
from transept.host.backends.gpu.tune import ATTENTION_BLOCKS, linear_blocks
from transept.host.bench.gpu import attention_op, linear_op
from transept.host.kernels import INTERPRETED
from transept.host.kernels.attention import AttentionBlocks, AttentionKernel
from transept.host.kernels.matmul import Blocks, LinearKernel, joinable, merged
from transept.host.kernels.norm import NormKernel
from transept.host.kernels.rows import activated, copied, lookup, quantise_rows, rows_like
from transept.host.kernels.tiles import KeptTiles

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
TYPES = {8: torch.int8, 16: torch.int16}
#: What the compiler makes of a kernel, not what is written there, depends on its tile.
on_a_card = pytest.mark.skipif(INTERPRETED, reason="tiles are a matter of a card's own code")
GRAPHS = {
    "post-norm": post_norm(1, 48, 3, [80]),
    "pre-norm": norms_in_front(2, 32, 2, [40]),
    "root mean square": pre_norm(3, 32, 4, 2, [48]),
    "from int8": mlp(4, [20, 36, 7], bits=8),
}


def evaluated(graph, batch=2, length=7):
    """Every value of a graph on random inputs, as rows of its type."""
    inputs = {
        k: torch.as_tensor(v).to(DEVICE) for k, v in random_inputs(graph, batch, length).items()
    }
    found = graph.evaluate_all(inputs)
    return {
        name: x.reshape(-1, x.shape[-1]).to(TYPES[graph.values[name].bits])
        for name, x in found.items()
    }


def operands(x):
    rows = rows_like(x)
    if x.dtype == torch.int16:
        quantise_rows(x, rows)
    else:
        rows.elements[:, : x.shape[1]] = x
    return rows


def product(op, x, bits, maxima=None, blocks=None):
    n = len(op.weight)
    y = torch.zeros(len(x), -(-n // 16) * 16, dtype=TYPES[bits], device=DEVICE)
    kernel = LinearKernel([op], bits, DEVICE)
    dynamic = x.dtype == torch.int16
    kernel(operands(x), y, dynamic=dynamic, maxima=maxima, blocks=blocks)
    return y[:, :n].contiguous()


@pytest.fixture(params=GRAPHS)
def graph(request):
    return GRAPHS[request.param]


# --- operators of random graphs: any parameters, so step by step
def test_linear_layers_and_activations(graph):
    values = evaluated(graph)
    for op in graph.ops:
        if not isinstance(op, Linear):
            continue
        y, bits = values[op.y], graph.values[op.y].bits
        found = product(op, values[op.x], 16 if op.table else bits)
        if op.table:
            table, before = lookup(op.table, DEVICE), found
            found = torch.empty_like(y)
            activated(before, table, found)
            rows, kept = rows_like(before), torch.empty_like(y)
            quantise_rows(before, rows, table, kept)
            assert torch.equal(kept, y)
            if bits == 16:
                assert torch.equal(rows.elements, operands(y).elements)
        assert torch.equal(found, y), op.name


def test_norms_and_sums(graph):
    values = evaluated(graph)
    for op in graph.ops:
        if not isinstance(op, Norm | Add):
            continue
        total = torch.empty_like(values[op.sum]) if op.sum else None
        out = torch.empty_like(values[op.out]) if isinstance(op, Norm) else None
        rows = rows_like(values[op.y]) if out is not None else None
        NormKernel(op, DEVICE)(values[op.y], values[op.x] if op.x else None, out, total, rows)
        if out is not None:
            assert torch.equal(out, values[op.out]), op.name
            wanted = operands(out)
            assert torch.equal(rows.elements, wanted.elements)
            assert torch.equal(rows.multiplier, wanted.multiplier)
        if total is not None:
            assert torch.equal(total, values[op.sum]), op.name


@pytest.mark.parametrize("kind", ["extreme", "largest", "zeros"])
@pytest.mark.parametrize(
    ("most", "epsilon", "centre"), [(0, 0, True), (8, 1, False), (15, 9, True)]
)
def test_norms_and_sums_of_extremes(kind, most, epsilon, centre):
    """Which saturate at every step, or differ in nothing."""
    rng = np.random.default_rng(most)
    for graph in (norm(17, rng, most=most, epsilon=epsilon, centre=centre), add(17, rng)):
        (op,) = graph.ops
        given = {k: torch.as_tensor(v).to(DEVICE) for k, v in inputs(graph, 1, 5, kind).items()}
        wanted = graph.evaluate(given)
        found = {name: torch.empty_like(given["y"][0]) for name in graph.outputs}
        out, total = found.get("out"), found["sum"]
        NormKernel(op, DEVICE)(given["y"][0], given["x"][0], out, total)
        for name, x in found.items():
            assert torch.equal(x.long(), wanted[name][0].long()), name


def test_sums_of_rows_of_one_element():
    """Which no norm has."""
    build = GraphBuilder(5)
    y, x = build.value(1), build.value(1)
    graph = build.graph([y, x], [build.add(y, x)])
    values, (op,) = evaluated(graph), graph.ops
    total = torch.empty_like(values[op.sum])
    NormKernel(op, DEVICE)(values[op.y], values[op.x], None, total)
    assert torch.equal(total, values[op.sum])


# --- as quantisation makes them: the merged form
def golden(op, x, bits):
    values = {"x": Value("x", "rows", op.weight.shape[1], 16 if x.dtype == torch.int16 else 8)}
    values["y"] = Value("y", "rows", len(op.weight), bits)
    return op.evaluate(values, {"x": x.long()[None]}, {})["y"][0].to(TYPES[bits])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (1, 1, 1),
        (37, 70, 50),
        pytest.param(130, 140, 300, marks=pytest.mark.slow),
        (5, 40, 1100),
    ],
)
def test_quantised_linear_layers(m, n, k, bits):
    op = linear_op(n, k, bits)
    assert merged([op], bits) is not None
    generator = torch.Generator().manual_seed(k)
    for spread in (10, 6000, 1e6):  # small rows, usual ones, and such that everything saturates
        x = (torch.randn(m, k, generator=generator) * spread).clamp(-32767, 32767)
        x = x.to(torch.int16).to(DEVICE)
        maxima = torch.zeros(m, dtype=torch.int32, device=DEVICE)
        y = product(op, x, bits, maxima)
        assert torch.equal(y, golden(op, x, bits))
        assert torch.equal(maxima, y.int().abs().amax(1))


def scaled(op, factor):
    """The same layer with steps of its result so many times as large, in powers of two."""
    channel = op.channel
    wider = dataclasses.replace(channel, bias=channel.bias >> factor)
    return dataclasses.replace(op, channel=wider, row_shift=op.row_shift + factor)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("factors", [(0, 0, 0), (0, 3, 1), (5, 0)])
def test_layers_side_by_side(factors, bits):
    ops = [scaled(linear_op(n, 80, bits), f) for n, f in zip((20, 33, 7), factors, strict=False)]
    assert joinable(ops, bits)
    x = torch.randint(-32767, 32768, (40, 80), dtype=torch.int16).to(DEVICE)
    n = sum(len(op.weight) for op in ops)
    y = torch.zeros(40, -(-n // 16) * 16, dtype=TYPES[bits], device=DEVICE)
    LinearKernel(ops, bits, DEVICE)(operands(x), y, dynamic=True)
    assert torch.equal(y[:, :n], torch.cat([golden(op, x, bits) for op in ops], 1))


def test_layers_that_cannot_be_one_product():
    op = linear_op(20, 80)
    assert not joinable([op, dataclasses.replace(op, out_shift=7)], 16)
    assert not joinable([op, scaled(op, 7)], 16)  # 7 bits more than v has room for


def test_no_result_depends_on_the_blocks():
    op = linear_op(100, 200)
    x = torch.randint(-32767, 32768, (90, 200), dtype=torch.int16).to(DEVICE)
    wanted = golden(op, x, 16)
    for blocks in (Blocks(64, 64, 64), Blocks(128, 32, 128, group=1)):
        assert torch.equal(product(op, x, 16, blocks=blocks), wanted)


@on_a_card
@pytest.mark.parametrize("rows", [7, 64, 300])
def test_products_in_every_tile_that_is_tried(rows):
    generator = torch.Generator().manual_seed(rows)
    for width, depth, bits in ((1, 1, 16), (33, 70, 8), (130, 140, 16)):
        op = linear_op(width, depth, bits)
        x = torch.randint(-32767, 32768, (rows, depth), generator=generator, dtype=torch.int16)
        x = x.to(DEVICE)
        wanted = golden(op, x, bits)
        for blocks in {*linear_blocks(rows), *linear_blocks(65), *linear_blocks(8193)}:
            maxima = torch.zeros(rows, dtype=torch.int32, device=DEVICE)
            assert torch.equal(product(op, x, bits, maxima, blocks=blocks), wanted)
            assert torch.equal(maxima, wanted.int().abs().amax(1))


def test_accumulators_beyond_25_bits_saturate():
    op = linear_op(20, 1100)
    n = np.ones(20, np.int64)
    channel = dataclasses.replace(op.channel, multiplier=32767 * n, shift=15 * n, bias=0 * n)
    weight = np.full((20, 1100), 127, np.int8)
    op = dataclasses.replace(op, weight=weight, channel=channel, row_shift=17)
    form = merged([op], 16)
    assert form is not None
    assert form.clip
    x = torch.full((40, 1100), 32767, dtype=torch.int16, device=DEVICE)
    x[20:] = -32767
    y = product(op, x, 16)
    assert y.abs().max() < 32767
    assert torch.equal(y, golden(op, x, 16))


def test_shifts_that_are_too_short_are_not_merged():
    op = linear_op(20, 30)
    for row_shift in range(12):
        short = dataclasses.replace(op, row_shift=row_shift, out_shift=0)
        x = torch.randint(-300, 301, (6, 30), dtype=torch.int16).to(DEVICE)
        assert merged([short], 16) is None or row_shift >= 11
        assert torch.equal(product(short, x, 16), golden(short, x, 16))


def test_a_step_that_may_saturate_is_not_merged():
    op = linear_op(20, 30)
    loud = dataclasses.replace(op.channel, shift=np.zeros_like(op.channel.shift))
    op = dataclasses.replace(op, channel=loud)
    assert merged([op], 16) is None
    x = torch.randint(-32767, 32768, (20, 30), dtype=torch.int16).to(DEVICE)
    assert torch.equal(product(op, x, 16), golden(op, x, 16))


# --- attention
FILTERS = [Dense(), Causal(), Window(5, 3), TileThreshold(40)]


def attend(op, q, k, v, lengths, kept=None, blocks=None, whole=False):
    heads, width = op.heads, v.shape[2] // op.kv_heads
    out = torch.zeros(*q.shape[:2], heads * width, dtype=torch.int16, device=DEVICE)
    keys = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
    AttentionKernel(op, DEVICE)(q, k, v, out, keys, kept, blocks, whole)
    return out


@pytest.mark.parametrize("rule", FILTERS, ids=lambda rule: rule.kind.name)
@pytest.mark.parametrize(("length", "lengths"), [(9, [9, 4]), (150, [150, 131])])
def test_attention_of_any_parameters(rule, length, lengths):
    for heads, width in ((2, 16), (3, 72)):
        graph = attention_alone(3, width, heads, rule)
        (op,) = graph.ops
        inputs = {
            k: torch.as_tensor(v).to(DEVICE) for k, v in random_inputs(graph, 2, length).items()
        }
        wanted = graph.evaluate(inputs, {graph.dims[0].name: lengths})[op.out]
        found = attend(op, *(inputs[name] for name in op.inputs), lengths)
        assert torch.equal(found.long(), wanted)


@pytest.mark.parametrize("rule", FILTERS, ids=lambda rule: rule.kind.name)
@pytest.mark.parametrize("spread", [3, 30, 1000])
@pytest.mark.parametrize(
    "lengths", [[77, 40], pytest.param([140, 77], marks=pytest.mark.slow)], ids=max
)
def test_quantised_attention(rule, spread, lengths):
    """spread: scores of one level, usual ones, and such that they saturate."""
    op = attention_op(4, 64, 200, rule, kv_heads=2)
    generator = torch.Generator().manual_seed(spread)
    q, k, v = (
        (torch.randn(2, lengths[0], heads * 64, generator=generator) * spread).clamp(-127, 127)
        for heads in (4, 2, 2)
    )
    q, k, v = (x.to(torch.int8).to(DEVICE) for x in (q, k, v))
    rows = zip(q.long(), k.long(), v.long(), lengths, strict=True)
    wanted = torch.stack([op._sequence(*row) for row in rows])
    for blocks in (AttentionBlocks(64, 64), AttentionBlocks(128, 128)):
        assert torch.equal(attend(op, q, k, v, lengths, blocks=blocks).long(), wanted)


@pytest.mark.parametrize(("low", "high"), [(-127, -100), (-127, -80), (-90, 20), (90, 127)])
def test_scores_that_saturate_in_whole_tiles(low, high):
    """Below, where the maximum of a row does so or nearly; above, where many are the maximum."""
    op = attention_op(1, 64, 300)
    q = torch.full((1, 40, 64), 127, dtype=torch.int8, device=DEVICE)
    k = torch.randint(low, high, (1, 256, 1), dtype=torch.int8).expand(-1, -1, 64).contiguous()
    k = k.to(DEVICE)
    v = torch.randint(-127, 128, (1, 256, 64), dtype=torch.int8).to(DEVICE)
    wanted = op._sequence(q[0].long(), k[0].long(), v[0].long(), 256)
    for blocks in (AttentionBlocks(64, 64), AttentionBlocks(128, 128)):
        for whole in (False, True):
            found = attend(op, q, k, v, [256], blocks=blocks, whole=whole)
            assert torch.equal(found[0].long(), wanted)


@pytest.mark.parametrize("rule", FILTERS, ids=lambda rule: rule.kind.name)
@pytest.mark.parametrize("length", [60, 128])
def test_sequences_of_all_their_keys(rule, length):
    """Whether their tiles are whole or not."""
    op = attention_op(2, 32, 200, rule)
    q, k, v = (
        torch.randint(-40, 41, (1, length, 64), dtype=torch.int8).to(DEVICE) for _ in range(3)
    )
    wanted = op._sequence(q[0].long(), k[0].long(), v[0].long(), length)
    found = attend(op, q, k, v, [length], blocks=AttentionBlocks(64, 64), whole=True)
    assert torch.equal(found[0].long(), wanted)


@pytest.mark.parametrize("level", [-127, 127])
@pytest.mark.parametrize(("most", "shift"), [(200, 0), (1100, 0), (1100, 2)])
def test_sums_of_many_keys(most, shift, level):
    """Which 25 bits do not hold, or not what the channel makes of them, with shifts for ``most``
    keys and some bits more."""
    op = attention_op(1, 32, most)
    op = dataclasses.replace(
        op, context=dataclasses.replace(op.context, shift=op.context.shift + shift)
    )
    q, k = (torch.ones(1, n, 32, dtype=torch.int8, device=DEVICE) for n in (10, 1100))
    v = torch.full_like(k, level)
    v[:, :540, ::2] = -level
    wanted = op._sequence(q[0].long(), k[0].long(), v[0].long(), 1100)
    found = attend(op, q, k, v, [1100], blocks=AttentionBlocks(64, 128))
    assert torch.equal(found[0].long(), wanted)


def test_tiles_that_are_told():
    op = attention_op(2, 32, 200)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        (torch.randn(1, 200, 64, generator=generator) * 30)
        .clamp(-127, 127)
        .to(torch.int8)
        .to(DEVICE)
        for _ in range(3)
    )
    kept = torch.rand(1, 2, 4, 4, generator=generator).to(DEVICE) < 0.4
    kept[0, 0, 1] = False  # rows without a key
    found = attend(op, q, k, v, [200], KeptTiles.of(kept), AttentionBlocks(64, 64))
    seen = kept.repeat_interleave(64, 2).repeat_interleave(64, 3)[0, :, :200, :200]
    scores = [op._split(x[0].long(), heads) for x, heads in ((q, 2), (k, 0), (v, 0))]
    level = masked_levels(op, scores[0], scores[1], seen)
    assert torch.equal(found[0].long(), op._context(level, scores[2]))


def masked_levels(op, q, k, seen):
    """Levels of ``Attention`` with another mask in place of the filter's."""
    from transept.golden.numerics.softmax import levels

    class Told(type(op)):
        def _kept(self, q, k, first):
            return seen

    told = Told(**{field.name: getattr(op, field.name) for field in dataclasses.fields(op)})
    return levels(*told._scores(q, k))


@pytest.mark.parametrize("out_shift", [0, 3, 9, 17, 18, 24])
def test_norms_with_any_shift(out_shift):
    graph = GRAPHS["post-norm"]
    values = evaluated(graph)
    op = next(op for op in graph.ops if isinstance(op, Norm))
    gamma = np.clip(np.asarray(op.parameters.gamma) >> max(0, 18 - out_shift), -32767, 32767)
    gamma[0] = 32767  # too long for a product's upper half, without a shift behind it
    parameters = dataclasses.replace(op.parameters, gamma=gamma)
    op = dataclasses.replace(op, parameters=parameters, out_shift=out_shift, sum=None)
    inputs = {name: values[name].long()[None] for name in op.inputs}
    wanted = op.evaluate(graph.values, inputs, {})[op.out][0].to(torch.int16)
    out, rows = torch.empty_like(values[op.out]), rows_like(values[op.out])
    NormKernel(op, DEVICE)(values[op.y], values[op.x] if op.x else None, out, None, rows)
    assert torch.equal(out, wanted)
    assert torch.equal(rows.multiplier, wanted.int().abs().amax(1).clip(256))
    assert wanted.abs().max() > 8


def test_what_is_behind_a_row_is_no_maximum_of_its_norm():
    """Of a row far from zero, whose first element is its mean and alone counts."""
    rng = np.random.default_rng(0)
    (op,) = norm(17, rng, residual=False, kept=False, out_shift=0, most=0).ops
    gamma = np.where(np.arange(17), 0, 32767)
    parameters = dataclasses.replace(op.parameters, gamma=gamma, beta=0 * gamma)
    op = dataclasses.replace(op, parameters=parameters)
    y = torch.tensor([[100, *[101, 99] * 8]], dtype=torch.int16, device=DEVICE)
    rows = rows_like(y)
    NormKernel(op, DEVICE)(y, None, None, None, rows)
    assert rows.multiplier.tolist() == [256]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16])
@pytest.mark.parametrize(("rows", "width", "padded"), [(1, 1, 16), (3, 24, 24), (70, 33, 48)])
def test_rows_that_are_moved(dtype, rows, width, padded):
    x = torch.randint(-127, 128, (rows, padded), dtype=dtype, device=DEVICE)[:, :width]
    y = torch.full((rows, padded + 3), 99, dtype=dtype, device=DEVICE)
    copied(x, y[:, :width])
    assert torch.equal(y[:, :width], x)
    assert (y[:, width:] == 99).all()


def test_a_filter_of_single_rows_and_keys():
    op = dataclasses.replace(attention_op(1, 32, 200, TileThreshold(40)), block=1)
    generator = torch.Generator().manual_seed(1)
    q, k, v = (
        (torch.randn(1, 20, 32, generator=generator) * 30).clamp(-127, 127).to(torch.int8)
        for _ in range(3)
    )
    q, k, v = (x.to(DEVICE) for x in (q, k, v))
    wanted = op._sequence(q[0].long(), k[0].long(), v[0].long(), 20)
    found = attend(op, q, k, v, [20], blocks=AttentionBlocks(64, 64))
    assert torch.equal(found[0].long(), wanted)


@on_a_card
@pytest.mark.parametrize("rule", FILTERS, ids=lambda rule: rule.kind.name)
@pytest.mark.parametrize("width", [24, 64, 128])
@pytest.mark.parametrize("blocks", ATTENTION_BLOCKS, ids=str)
def test_attention_in_every_tile_that_is_tried(blocks, width, rule):
    """Filters that look at blocks of rows: at blocks of several sizes."""
    generator = torch.Generator().manual_seed(width)
    for length, real in ((20, 17), (150, 150)):
        q, k, v = (
            (torch.randn(1, length, heads * width, generator=generator) * 30).clamp(-127, 127)
            for heads in (4, 2, 2)
        )
        q, k, v = (x.to(torch.int8).to(DEVICE) for x in (q, k, v))
        for block in (1, 2, 16) if rule.looks else (16,):
            op = attention_op(4, width, 200, rule, kv_heads=2)
            op = dataclasses.replace(op, block=block)
            wanted = op._sequence(q[0].long(), k[0].long(), v[0].long(), real)
            found = attend(op, q, k, v, [real], blocks=blocks, whole=real == length)
            assert torch.equal(found[0].long(), wanted), (length, block)
