"""Quantised graphs of random constants, built operator by operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from transept.golden.filters import Causal, Dense, KeyFilter, TileThreshold, Window
from transept.golden.graph import Dim, Graph, Operator, Value
from transept.golden.numerics.four_bit import GROUP, FourBitWeights
from transept.golden.numerics.norm import NormParameters
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, ChannelParameters
from transept.golden.ops import Add, Attention, Linear, Multiply, Norm, Rotary

__all__ = [
    "SMALL",
    "GraphBuilder",
    "attention_alone",
    "attentive",
    "cross",
    "evaluated",
    "gated",
    "iterated",
    "language_model",
    "mlp",
    "norms_in_front",
    "post_norm",
    "pre_norm",
    "random_inputs",
    "read_again",
    "read_behind",
    "read_sums",
    "sharing",
    "twice_the_same",
    "uneven",
]

#: Standard deviation of random inputs, by bits.
SPREAD = {16: 8000, 8: 50}
#: Bits by which scores are smaller and contexts larger where every key is to count.
SMALLER, LARGER = 6, 10


class GraphBuilder:
    """Adds operators with random constants; values are named in the order in which they appear."""

    def __init__(
        self, seed: int, *, limit: int = 64, block: int = 4, dims: Sequence[str] = ("rows",)
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.dims, self.block = tuple(Dim(name, limit) for name in dims), block
        self.values: dict[str, Value] = {}
        self.ops: list[Operator] = []

    def value(self, width: int, bits: int = 16, dim: str | None = None) -> str:
        """A new value with a scale, of the first dimension if none is named; an input if nothing
        defines it."""
        name = f"v{len(self.values)}"
        scale = 2.0 ** self.rng.integers(-12, -8, width)
        self.values[name] = Value(name, dim or self.dims[0].name, width, bits, scale)
        return name

    def beside(self, x: str, width: int, bits: int = 16) -> str:
        """A new value of the same rows as ``x``."""
        return self.value(width, bits, self.values[x].dim)

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.ops)}"

    def channel(self, width: int) -> ChannelParameters:
        """Random channel parameters."""
        draw = self.rng.integers
        return ChannelParameters(
            draw(1 << 13, 1 << 16, width), draw(10, 13, width), draw(-1 << 14, 1 << 14, width)
        )

    def table(self) -> ActivationTable:
        """Half of its argument, in 64 segments."""
        zeros, slopes = np.zeros(SEGMENTS, np.int64), np.full(SEGMENTS, 128)
        values = (np.arange(SEGMENTS) - SEGMENTS // 2) * 1024 // 2
        return ActivationTable(-32768, 10, 0, 8, values, slopes, zeros)

    def linear(self, x: str, width: int, bits: int = 16, *, table: bool = False) -> str:
        """A linear layer of ``width`` outputs."""
        y = self.beside(x, width, bits)
        weight = self.rng.integers(-127, 128, (width, self.values[x].width)).astype(np.int8)
        found = self.table() if table else None
        channel = self.channel(width)
        self.ops.append(Linear(self._name("linear"), x, y, weight, channel, 14, 8, found))
        return y

    def _norm_parameters(self, width: int) -> NormParameters:
        draw = self.rng.integers
        return NormParameters(
            draw(1 << 14, 1 << 16, width),
            draw(-1 << 16, 1 << 16, width),
            *(draw(0, 4, width) for _ in range(3)),
        )

    def norm(self, y: str, x: str | None = None, *, centre: bool = True) -> str:
        """A norm of y, or of y + x."""
        out = self.beside(y, self.values[y].width)
        parameters = self._norm_parameters(self.values[y].width)
        self.ops.append(Norm(self._name("norm"), y, x, out, parameters, 1000, 18, centre))
        return out

    def norm_and_sum(self, y: str, x: str, *, centre: bool = True) -> tuple[str, str]:
        """A norm of y + x, and the sum."""
        out, total = (self.beside(y, self.values[y].width) for _ in range(2))
        parameters = self._norm_parameters(self.values[y].width)
        self.ops.append(Norm(self._name("norm"), y, x, out, parameters, 1000, 18, centre, total))
        return out, total

    def add(self, y: str, x: str) -> str:
        """A sum."""
        total = self.beside(y, self.values[y].width)
        self.ops.append(
            Add(self._name("add"), y, x, total, self._norm_parameters(self.values[y].width))
        )
        return total

    def multiply(self, y: str, x: str, bits: int = 16) -> str:
        """A product."""
        out = self.beside(y, self.values[y].width, bits)
        self.ops.append(Multiply(self._name("multiply"), y, x, out, int(self.rng.integers(10, 16))))
        return out

    def rotary(self, x: str, cos: str, sin: str, heads: int) -> str:
        """A rotary embedding of int16 heads."""
        out = self.beside(x, self.values[x].width, 8)
        shift = int(self.rng.integers(0, 2))
        self.ops.append(Rotary(self._name("rotary"), x, cos, sin, out, heads, shift))
        return out

    def attention(
        self,
        q: str,
        k: str,
        v: str,
        heads: int,
        kv_heads: int | None = None,
        key_filter: KeyFilter | None = None,
    ) -> str:
        """An attention on int8 values."""
        kv_heads = kv_heads or heads
        width = self.values[v].width // kv_heads * heads
        out = self.beside(q, width)
        self.ops.append(
            Attention(
                self._name("attention"),
                *(q, k, v, out, heads, kv_heads),
                score_multiplier=self.rng.integers(1 << 10, 1 << 15, heads),
                score_shift=self.rng.integers(12, 15, heads),
                score_row_shift=16,
                context=self.channel(width),
                context_row_shift=18,
                context_out_shift=8,
                block=self.block,
                filter=key_filter or Dense(),
            )
        )
        return out

    def layer(self, x: str, heads: int, inner: int, key_filter: KeyFilter | None = None) -> str:
        """A post-norm encoder layer."""
        hidden = self.values[x].width
        q, k, v = (self.linear(x, hidden, 8) for _ in range(3))
        context = self.attention(q, k, v, heads, key_filter=key_filter)
        x = self.norm(self.linear(context, hidden), x)
        return self.norm(self.linear(self.linear(x, inner, table=True), hidden), x)

    def again(self, x: str, operators: Sequence[Operator], y: str) -> str:
        """Operators once more with the same constants, of ``x`` in place of ``y``; what the last
        one defines."""
        renamed = {y: x}
        for op in operators:
            for name in op.outputs:
                value = self.values[name]
                renamed[name] = self.beside(x, value.width, value.bits)
            named = {
                field.name: renamed.get(getattr(op, field.name), getattr(op, field.name))
                for field in dataclasses.fields(op)
                if isinstance(getattr(op, field.name), str) and field.name != "name"
            }
            name = f"{op.name}.{len(self.ops)}"
            self.ops.append(dataclasses.replace(op, name=name, **named))
        return self.ops[-1].outputs[0]

    def graph(self, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
        """All of it."""
        return Graph(self.dims, self.values, tuple(inputs), tuple(outputs), tuple(self.ops))


def post_norm(
    seed: int,
    hidden: int,
    heads: int,
    inner: Sequence[int],
    key_filter: KeyFilter | None = None,
    **sizes: int,
) -> Graph:
    """Encoder layers, norms behind the sums, each with its own inner width; sizes: as the builder
    takes them."""
    build = GraphBuilder(seed, **sizes)
    first = build.value(hidden)
    x = build.norm(first)
    for width in inner:
        x = build.layer(x, heads, width, key_filter)
    return build.graph([first], [x])


def iterated(seed: int, hidden: int, heads: int, inner: int, times: int) -> Graph:
    """One encoder layer with the same weights so many times."""
    build = GraphBuilder(seed)
    first = build.value(hidden)
    x = build.layer(first, heads, inner)
    block = len(build.ops)
    for _ in range(times - 1):
        operators = build.ops[:block]
        x = build.again(x, operators, first)
    return build.graph([first], [x])


def uneven(seed: int, sizes: Sequence[tuple[int, int, int]]) -> Graph:
    """Layers that differ in width, heads and inner width, with a linear layer between them; the
    result of each is an output."""
    build = GraphBuilder(seed)
    first = x = build.value(sizes[0][0])
    results = []
    for hidden, heads, inner in sizes:
        x = build.layer(build.norm(build.linear(x, hidden)), heads, inner)
        results.append(x)
    return build.graph([first], results)


def cross(seed: int, hidden: int, heads: int, inner: int) -> Graph:
    """A decoder layer whose queries are other rows than its keys and values."""
    build = GraphBuilder(seed, dims=("rows", "memory"))
    first, memory = build.value(hidden), build.value(hidden + 4, dim="memory")
    x, keys = build.norm(first), build.norm(memory)
    q = build.linear(x, hidden, 8)
    k, v = (build.linear(keys, hidden, 8) for _ in range(2))
    x = build.norm(build.linear(build.attention(q, k, v, heads), hidden), x)
    x = build.norm(build.linear(build.linear(x, inner, table=True), hidden), x)
    return build.graph([first, memory], [x])


def read_sums(seed: int) -> Graph:
    """Sums that norms keep, read by linear layers, whose row maxima the vector unit must find, and
    by what adds to them."""
    build = GraphBuilder(seed)
    first = x = build.value(16)
    outputs = []
    for _ in range(2):
        h, x = build.norm_and_sum(build.linear(x, 16), x)
        outputs.append(build.linear(x, 7))
        x = build.add(h, x)
    return build.graph([first], [*outputs, x])


def twice_the_same(seed: int) -> Graph:
    """A norm and a sum of a value and itself."""
    build = GraphBuilder(seed)
    first = build.value(16)
    x = build.linear(first, 16)
    h, total = build.norm_and_sum(x, x)
    return build.graph([first], [build.add(h, total), build.linear(h, 5)])


def attention_alone(
    seed: int,
    width: int,
    heads: int,
    key_filter: KeyFilter | None = None,
    kv_heads: int | None = None,
) -> Graph:
    """An attention on int8 inputs."""
    build, shared = GraphBuilder(seed), kv_heads or heads
    q, k, v = (build.value(w, 8) for w in (width, *2 * [width // heads * shared]))
    return build.graph([q, k, v], [build.attention(q, k, v, heads, shared, key_filter)])


def pre_norm(seed: int, hidden: int, heads: int, kv_heads: int, inner: Sequence[int]) -> Graph:
    """Layers with the norms in front, without means; two outputs."""
    build = GraphBuilder(seed)
    first = x = build.value(hidden)
    h = build.norm(first, centre=False)
    for width in inner:
        q = build.linear(h, hidden, 8)
        k, v = (build.linear(h, hidden // heads * kv_heads, 8) for _ in range(2))
        context = build.attention(q, k, v, heads, kv_heads)
        h, x = build.norm_and_sum(build.linear(context, hidden), x, centre=False)
        h, x = build.norm_and_sum(build.linear(build.linear(h, width), hidden), x, centre=False)
    return build.graph([first], [h, x])


def norms_in_front(
    seed: int,
    hidden: int,
    heads: int,
    inner: Sequence[int],
    key_filter: KeyFilter | None = None,
    **sizes: int,
) -> Graph:
    """Layers as those of GPT-2 and ViT: norms in front, the sum goes on."""
    build = GraphBuilder(seed, **sizes)
    first = x = build.value(hidden)
    h = build.norm(first)
    for width in inner:
        q, k, v = (build.linear(h, hidden, 8) for _ in range(3))
        context = build.attention(q, k, v, heads, key_filter=key_filter)
        h, x = build.norm_and_sum(build.linear(context, hidden), x)
        h, x = build.norm_and_sum(build.linear(build.linear(h, width, table=True), hidden), x)
    return build.graph([first], [h])


def gated(
    seed: int, hidden: int, heads: int, kv_heads: int, inner: Sequence[int], **sizes: int
) -> Graph:
    """Layers as those of Llama: RMSNorms in front, rotary embeddings, gated feed-forward layers."""
    build = GraphBuilder(seed, **sizes)
    first = x = build.value(hidden)
    cos, sin = (build.value(hidden // heads) for _ in range(2))
    h = build.norm(first, centre=False)
    for width in inner:
        q = build.rotary(build.linear(h, hidden), cos, sin, heads)
        k = build.rotary(build.linear(h, hidden // heads * kv_heads), cos, sin, kv_heads)
        v = build.linear(h, hidden // heads * kv_heads, 8)
        context = build.attention(q, k, v, heads, kv_heads, Causal())
        h, x = build.norm_and_sum(build.linear(context, hidden), x, centre=False)
        gate = build.linear(h, width, table=True)
        product = build.multiply(gate, build.linear(h, width))
        h, x = build.norm_and_sum(build.linear(product, hidden), x, centre=False)
    return build.graph([first, cos, sin], [h])


def language_model(layers: int) -> Graph:
    """Layers of the shape of SmolLM2-135M, whose query heads share what they have."""
    return attentive(sharing(gated(1, 576, 9, 3, [1536] * layers, limit=4096)))


def four_bits(graph: Graph, seed: int = 0) -> Graph:
    """Rows in halves in every linear layer of int16 rows, and random weights of four bits where
    they fit."""
    rng = np.random.default_rng(seed)
    ops = []
    for op in graph.ops:
        if isinstance(op, Linear) and graph.values[op.x].bits == 16:
            op = dataclasses.replace(op, halves=True)
            if op.weight.shape[1] % GROUP == 0:
                packed = random_four_bits(rng, *op.weight.shape)
                op = dataclasses.replace(op, weight=packed.unpack(), packed=packed)
        ops.append(op)
    return dataclasses.replace(graph, ops=tuple(ops))


def random_four_bits(rng: np.random.Generator, n: int, k: int) -> FourBitWeights:
    """Codes of all kinds; scales and minima that leave few weights at the limit."""
    groups = (n, k // GROUP)
    scale = rng.integers(200, 1800, groups)
    return FourBitWeights(
        rng.integers(0, 16, (n, k), np.uint8),
        scale.astype(np.uint16),
        (-scale * rng.integers(6, 10, groups) // 8).astype(np.int16),
    )


def sharing(graph: Graph) -> Graph:
    """The query heads of a key-value head have the parameters of its first one."""
    ops = [_sharing(op) if isinstance(op, Attention) else op for op in graph.ops]
    return dataclasses.replace(graph, ops=tuple(ops))


def _sharing(op: Attention) -> Attention:
    share = op.heads // op.kv_heads

    def first(part: np.ndarray) -> np.ndarray:
        by_head = np.broadcast_to(part, op.context.multiplier.shape).reshape(op.kv_heads, share, -1)
        return np.repeat(by_head[:, :1], share, 1).reshape(-1)

    context = ChannelParameters(
        *(first(part) for part in (op.context.multiplier, op.context.shift, op.context.bias))
    )
    scores = {
        name: np.repeat(getattr(op, name)[::share], share)
        for name in ("score_multiplier", "score_shift")
    }
    return dataclasses.replace(op, context=context, **scores)


def attentive(graph: Graph) -> Graph:
    """Scores are small, so that every key counts, and contexts large beside their biases."""
    ops = [
        dataclasses.replace(
            op,
            score_row_shift=op.score_row_shift + SMALLER,
            context_row_shift=op.context_row_shift - LARGER,
        )
        if isinstance(op, Attention)
        else op
        for op in graph.ops
    ]
    return dataclasses.replace(graph, ops=tuple(ops))


def read_again(seed: int, hidden: int, heads: int) -> Graph:
    """Attentions whose operands are added once more to what comes behind later ones."""
    build = GraphBuilder(seed)
    first = build.value(hidden)
    x = start = build.linear(build.norm(first), hidden)
    for _ in range(2):
        q, k, v = (build.linear(x, hidden, 8) for _ in range(3))
        x = build.norm(build.linear(build.attention(q, k, v, heads), hidden), start)
    return build.graph([first], [build.add(x, first)])


def read_behind(seed: int, hidden: int, heads: int) -> Graph:
    """A value whose place on chip is taken in its own segment, and that is added to what comes
    behind the attention."""
    build = GraphBuilder(seed)
    first = build.value(hidden)
    kept = build.norm(build.linear(first, hidden))
    x = build.norm(build.linear(kept, hidden), kept)
    q, k, v = (build.linear(x, hidden, 8) for _ in range(3))
    context = build.attention(q, k, v, heads)
    return build.graph([first], [build.add(build.linear(context, hidden), kept)])


def linear_alone(seed: int, width: int, outputs: int) -> Graph:
    """One linear layer of int16 rows."""
    build = GraphBuilder(seed, limit=4096)
    first = build.value(width)
    return build.graph([first], [build.linear(first, outputs, 16)])


def mlp(seed: int, widths: Sequence[int], bits: int = 16) -> Graph:
    """Linear layers, one after the other, from and to ``bits`` bits, and a residual sum."""
    build = GraphBuilder(seed, limit=4096)
    first = x = build.value(widths[0], bits)
    for width in widths[1:-1]:
        x = build.linear(x, width, table=True)
    y = build.linear(x, widths[-1], bits)
    other = build.value(widths[-1])
    total = build.add(build.linear(x, widths[-1]), other)
    return build.graph([first, other], [y, total])


def random_inputs(
    graph: Graph, batch: int, length: int | Mapping[str, int], seed: int = 0
) -> dict[str, np.ndarray]:
    """Normally distributed inputs [batch, length, width] of their types; length: of all dimensions,
    or of each by its name."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for name in graph.inputs:
        value = graph.values[name]
        rows = length if isinstance(length, int) else length[value.dim]
        drawn = rng.normal(0, SPREAD[value.bits], (batch, rows, value.width))
        steps = np.clip(np.rint(drawn), -value.limit, value.limit)
        inputs[name] = steps.astype(np.int8 if value.bits == 8 else np.int16)
    return inputs


#: A small graph of every kind.
SMALL = {
    "post-norm": lambda: post_norm(1, 16, 2, [32]),
    "layers that differ": lambda: post_norm(2, 16, 4, [8, 40]),
    "padded heads": lambda: post_norm(3, 14, 2, [30]),
    "pre-norm": lambda: pre_norm(4, 16, 4, 2, [32, 24]),
    "causal": lambda: post_norm(5, 16, 2, [16], Causal()),
    "window": lambda: post_norm(6, 16, 2, [16], Window(3, 2)),
    "threshold": lambda: post_norm(7, 16, 2, [16], TileThreshold(1000)),
    "gated": lambda: gated(10, 32, 4, 2, [24, 40]),
    "mlp": lambda: mlp(8, [10, 24, 7]),
    "mlp from int8": lambda: mlp(9, [10, 24, 7], bits=8),
}


def evaluated(
    graph: Graph,
    batch: int = 2,
    length: int = 9,
    lengths: Mapping[str, Sequence[int]] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random inputs, and all values of them."""
    inputs = random_inputs(graph, batch, length)
    return inputs, graph.evaluate_all(inputs, lengths)
