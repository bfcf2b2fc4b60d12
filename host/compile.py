"""Quantised layers to programs: on-chip placement, row blocks, and the order that hides everything.

The array is the only engine that must never wait. So the rows are cut into two blocks wherever a
LayerNorm stands between two products: while one block is normalised, the array works on the other.
Inside attention, the softmax of a head runs while the array projects V of the same head and Q and K
of the next (the order of Lu et al. 2020, one head further ahead).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from transept.golden import isa, quantized
from transept.golden.config import CONTRACT_VERSION, Config
from transept.golden.isa import Memory, Window
from transept.golden.numerics.requantise import ChannelParameters
from transept.host.emitter import ActRows, Emitter, Ring
from transept.host.launch import Launch, Tensor
from transept.host.weights import Block, ColumnTile, WeightImage

__all__ = ["CompileError", "compile_chain", "compile_encoder"]


class CompileError(ValueError):
    """A model or shape does not fit the accelerator; the message names the value and the limit."""


def _tiles(elements: int, config: Config) -> int:
    return -(-elements // config.tile)


def _chunk_tiles(config: Config, ring_words: int) -> int:
    """Stationary tiles of one weight block: a block is one LOAD, and at least four fit the ring."""
    return max(1, min(24, (ring_words // 4 - 8) // config.tile))


def _pad_heads(values: np.ndarray, heads: int, padded: int, axis: int) -> np.ndarray:
    """Channels of each head padded with zeros to ``padded``."""
    values = np.moveaxis(values, axis, 0)
    split = values.reshape(heads, -1, *values.shape[1:])
    wide = np.zeros((heads, padded, *values.shape[1:]), values.dtype)
    wide[:, : split.shape[1]] = split
    return np.moveaxis(wide.reshape(heads * padded, *values.shape[1:]), 0, axis)


def _pad_channel(channel: ChannelParameters, heads: int, padded: int) -> ChannelParameters:
    parts = (channel.multiplier, channel.shift, channel.bias)
    return ChannelParameters(*(_pad_heads(part, heads, padded, 0) for part in parts))


def _program(
    emitter: Emitter,
    weights: WeightImage,
    *,
    macs: dict[str, int],
    inputs: tuple[Tensor, ...],
    output: Tensor,
    tokens: int = 0,
    batch: int = 1,
    sequences: Sequence[tuple[int, int]] = (),
) -> Launch:
    config = emitter.config
    return Launch(
        config=config,
        contract=CONTRACT_VERSION,
        instructions=isa.encode_program(emitter.schedule.program()),
        weights=weights.image(),
        labels=tuple(emitter.schedule.labels),
        macs=macs,
        inputs=inputs,
        output=output,
        io_bytes=output.offset + output.nbytes,
        scratch_bytes=0,
        tokens=tokens,
        batch=batch,
        sequences=tuple(sequences),
    )


def _tensor(
    offset: int, rows: int, width: int, config: Config, bits: int, scale: Sequence[float] = ()
) -> Tensor:
    pitch = _tiles(width, config) * config.tile * bits // 8
    return Tensor(offset, rows, width, pitch, bits, tuple(float(value) for value in scale))


# --- encoder ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """Sizes of one encoder launch, in words and rows."""

    config: Config
    tokens: int
    batch: int
    hidden: int
    heads: int
    ffn: int

    @property
    def rows(self) -> int:
        return self.tokens * self.batch

    @property
    def hidden_tiles(self) -> int:
        return _tiles(self.hidden, self.config)

    @property
    def ffn_tiles(self) -> int:
        return _tiles(self.ffn, self.config)

    @property
    def d_tiles(self) -> int:
        return _tiles(self.hidden // self.heads, self.config)

    @property
    def key_tiles(self) -> int:
        return _tiles(self.tokens, self.config)

    @property
    def context_tiles(self) -> int:
        return self.heads * self.d_tiles

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Row blocks as (first row, rows): two, so that norms hide behind products."""
        tile = self.config.tile
        if self.rows <= 2 * tile:
            return [(0, self.rows)]
        half = -(-self.rows // (2 * tile)) * tile
        return [(0, half), (half, self.rows - half)]


@dataclass(frozen=True)
class _Plan:
    """Where everything of one encoder launch lives on chip."""

    x: ActRows
    y: tuple[ActRows, ...]  # one for each row block
    q: tuple[ActRows, ActRows]
    context: ActRows
    hidden: ActRows
    scores: ActRows
    k: tuple[int, int]
    v: tuple[int, int]
    context_param: int
    ring: Ring


def _plan(shape: _Shape) -> _Plan:
    """Place tensors so that the array's operand and the vector unit's rows are in different banks.

    x lies in the first banks, the last y in the next, then one area that holds Q, context and the
    first y during attention and the hidden rows after it; scores have the last bank.
    """
    config = shape.config
    bank_ends = np.cumsum(config.act_banks).tolist()
    scores_addr = bank_ends[-2]
    block = shape.blocks[0][1]
    y_words = block * shape.hidden_tiles

    def next_bank(addr: int) -> int:
        return min([0, *bank_ends], key=lambda end: (end < addr, end))

    y_addr = next_bank(shape.rows * shape.hidden_tiles)
    area = y_addr + y_words
    q_addr = area + shape.rows * shape.context_tiles
    q_words = shape.rows * shape.d_tiles
    y0_addr = scores_addr - y_words
    needs = {
        "attention": q_addr + 2 * q_words + (y_words if len(shape.blocks) > 1 else 0),
        "feed-forward": area + block * shape.ffn_tiles,
    }
    for name, words in needs.items():
        if words > scores_addr:
            raise CompileError(
                f"{name} of {shape.rows} rows needs {words} activation words, "
                f"{config.name} has {scores_addr}"
            )
    score_words = shape.rows * shape.key_tiles
    if score_words > config.act_banks[-1]:
        raise CompileError(
            f"scores of {shape.batch} x {shape.tokens} tokens need {score_words} words, "
            f"{config.name} has {config.act_banks[-1]}"
        )
    y_last = ActRows(y_addr, shape.hidden_tiles)
    y_first = ActRows(y0_addr, shape.hidden_tiles)
    rows = shape.rows
    stat = _stat_plan(shape)
    return _Plan(
        x=ActRows(0, shape.hidden_tiles, 0),
        y=(y_first, y_last)[-len(shape.blocks) :],
        q=(
            ActRows(q_addr, shape.d_tiles),
            ActRows(q_addr + q_words, shape.d_tiles),
        ),
        context=ActRows(area, shape.context_tiles, rows),
        hidden=ActRows(area, shape.ffn_tiles, 2 * rows),
        scores=ActRows(scores_addr, shape.key_tiles, 2 * rows + block),
        **stat,
    )


def _stat_plan(shape: _Shape) -> dict:
    """K and V of two heads, the context parameters of one layer, then the weight ring."""
    config = shape.config
    words = (shape.rows + config.tile) * shape.d_tiles  # a tile of slack: ragged last key tile
    words = -(-words // config.tile) * config.tile
    parameters = 8 * shape.context_tiles
    ring = Ring(4 * words + parameters, config.stat_words)
    if ring.words < 4 * (config.tile + 8):
        raise CompileError(
            f"K and V of {shape.rows} rows need {4 * words} stationary words, "
            f"{config.name} has {config.stat_words}"
        )
    return {
        "k": (0, 2 * words),
        "v": (words, 3 * words),
        "context_param": 4 * words,
        "ring": ring,
    }


def _check_shape(shape: _Shape) -> None:
    config = shape.config
    limits = {
        "sequence length": (shape.tokens, config.max_tokens),
        "hidden size": (shape.hidden, config.max_hidden),
        "rows of a launch": (shape.rows, config.max_rows),
        "rowstat entries": (
            3 * shape.rows + shape.blocks[0][1],
            config.rowstat_entries,
        ),
        "query blocks": (shape.batch * shape.key_tiles, config.query_blocks // 2),
        "hidden tiles": (max(shape.ffn_tiles, shape.context_tiles), 255),
    }
    for name, (value, limit) in limits.items():
        if value > limit:
            raise CompileError(f"{name} {value} exceeds {limit} of {config.name}")


@dataclass(frozen=True)
class _LayerImage:
    """Weights of one layer in the image. Q, K and V: columns of one head after the other."""

    layer: quantized.Layer
    query: list[ColumnTile]
    key: list[ColumnTile]
    value: list[ColumnTile]
    output: list[ColumnTile]
    up: list[ColumnTile]
    down: list[ColumnTile]
    context: Block
    attention_norm: Block
    output_norm: Block
    table: Block


class _EncoderCompiler:
    """Emits one launch of an encoder: every layer, all rows."""

    def __init__(self, config: Config, model: quantized.Encoder, tokens: int, batch: int) -> None:
        ffn = model.layers[0].up.weight.shape[0]
        self.shape = _Shape(config, tokens, batch, model.hidden, model.heads, ffn)
        _check_shape(self.shape)
        self.model = model
        self.plan = _plan(self.shape)
        self.emit = Emitter(config, self.plan.ring)
        self.weights = WeightImage(config)
        self.sequences: list[tuple[int, int]] = []

    def compile(self) -> Launch:
        shape, config = self.shape, self.shape.config
        inputs = _tensor(0, shape.rows, shape.hidden, config, 16, self.model.input_scale)
        output = _tensor(
            inputs.nbytes, shape.rows, shape.hidden, config, 16, self.model.output_scale
        )
        norm = self.weights.norm(self.model.embedding_norm.parameters)
        images = [self._image(layer) for layer in self.model.layers]
        self._clear_values()
        self._embed(inputs, norm)
        for image in images:
            self._layer(image)
        for (row, rows), _ in zip(shape.blocks, self.plan.y, strict=True):
            self.emit.store_act(
                "output",
                Window.IO,
                output.offset + row * output.pitch,
                output.pitch,
                rows,
                shape.hidden_tiles,
                self.plan.x.row(row),
            )
        return _program(
            self.emit,
            self.weights,
            macs=self._macs(),
            inputs=(inputs,),
            output=output,
            tokens=shape.tokens,
            batch=shape.batch,
            sequences=self.sequences,
        )

    def _macs(self) -> dict[str, int]:
        """Multiply-accumulates by label, for full-length sequences."""
        shape = self.shape
        macs = {}
        for layer in self.model.layers:
            linears = (layer.query, layer.key, layer.value, layer.output, layer.up, layer.down)
            macs |= {linear.name: shape.rows * linear.weight.size for linear in linears}
            macs[layer.attention.name] = 2 * shape.rows * shape.tokens * shape.hidden
        return macs

    def _image(self, layer: quantized.Layer) -> _LayerImage:
        shape = self.shape
        chunk = _chunk_tiles(shape.config, self.plan.ring.words)
        padded = shape.d_tiles * shape.config.tile

        def by_head(linear: quantized.Linear) -> list[ColumnTile]:
            weight = _pad_heads(linear.weight, shape.heads, padded, 0)
            channel = _pad_channel(linear.channel, shape.heads, padded)
            return self.weights.linear(weight, channel, chunk)

        def plain(linear: quantized.Linear) -> list[ColumnTile]:
            return self.weights.linear(linear.weight, linear.channel, chunk)

        output = _pad_heads(layer.output.weight, shape.heads, padded, 1)
        context = _pad_channel(layer.attention.context, shape.heads, padded)
        assert layer.up.table is not None
        return _LayerImage(
            layer,
            by_head(layer.query),
            by_head(layer.key),
            by_head(layer.value),
            self.weights.linear(output, layer.output.channel, chunk),
            plain(layer.up),
            plain(layer.down),
            self.weights.parameters(context),
            self.weights.norm(layer.attention_norm.parameters),
            self.weights.norm(layer.output_norm.parameters),
            self.weights.table(layer.up.table),
        )

    def _clear_values(self) -> None:
        """Zero the V rows behind the last key: random bits may hold the illegal -128."""
        shape = self.shape
        if shape.tokens % shape.config.tile == 0:
            return
        words = shape.config.tile * shape.d_tiles
        block = self.weights.zeros(words)
        for v in self.plan.v:
            self.emit.load_block("clear", block, Memory.STAT, v + shape.rows * shape.d_tiles)

    def _embed(self, inputs: Tensor, norm: Block) -> None:
        shape, plan = self.shape, self.plan
        for (row, rows), y in zip(shape.blocks, plan.y, strict=True):
            offset = inputs.offset + row * inputs.pitch
            self.emit.load_act(
                "input", Window.IO, offset, inputs.pitch, rows, shape.hidden_tiles, y
            )
        self._norm(self.model.embedding_norm, norm, residual=False)

    def _norm(self, norm: quantized.Norm, block: Block, *, residual: bool) -> None:
        x = self.plan.x
        parts = [
            (rows, y, x.row(row) if residual else None, x.row(row))
            for (row, rows), y in zip(self.shape.blocks, self.plan.y, strict=True)
        ]
        self.emit.norm(norm, block, parts)

    # --- attention
    def _project(self, image: _LayerImage, head: int, part: str, row: int, rows: int) -> None:
        """Q, K or V of one head for some rows, into the buffers of the head's parity."""
        plan, dt = self.plan, self.shape.d_tiles
        columns = getattr(image, part)[head * dt : (head + 1) * dt]
        linear = getattr(image.layer, part)
        if part == "query":
            out = plan.q[head & 1].row(row)
        else:
            start = (plan.k if part == "key" else plan.v)[head & 1]
            out = ActRows(start + row * dt, dt)
        self.emit.linear(linear, columns, plan.x.row(row), rows, out, stat_out=part != "query")

    def _each_sequence(self, head: int) -> list[tuple[int, int, ActRows, int]]:
        """(sequence, first row, scores, selection entry) of every sequence."""
        shape = self.shape
        half = shape.config.query_blocks // 2 * (head & 1)
        return [
            (
                sequence,
                sequence * shape.tokens,
                self.plan.scores.row(sequence * shape.tokens),
                half + sequence * shape.key_tiles,
            )
            for sequence in range(shape.batch)
        ]

    def _scores(self, image: _LayerImage, head: int) -> None:
        shape, plan = self.shape, self.plan
        attention = image.layer.attention
        for sequence, row, scores, select in self._each_sequence(head):
            k_addr = plan.k[head & 1] + row * shape.d_tiles
            q = plan.q[head & 1].row(row)
            index = self.emit.scores(
                attention,
                head,
                shape.tokens,
                shape.d_tiles,
                q,
                k_addr,
                scores,
                select,
                keys=shape.tokens,
            )
            self.sequences.append((index, sequence))
        for sequence, _, scores, select in self._each_sequence(head):
            index = self.emit.softmax(attention.name, shape.tokens, shape.tokens, scores, select)
            self.sequences.append((index, sequence))

    def _context(self, image: _LayerImage, head: int) -> None:
        shape, plan = self.shape, self.plan
        for sequence, row, scores, select in self._each_sequence(head):
            column = plan.context.column(head * shape.d_tiles)
            index = self.emit.context(
                image.layer.attention,
                shape.tokens,
                shape.tokens,
                shape.d_tiles,
                scores,
                plan.v[head & 1] + row * shape.d_tiles,
                select,
                plan.context_param + 8 * head * shape.d_tiles,
                column.row(row),
                first=head == 0,
            )
            self.sequences.append((index, sequence))

    def _attention(self, image: _LayerImage) -> None:
        """All heads: K, Q, [context of the head before], scores, V; the first heads by row block,
        because the norm of the second block is still running."""
        shape = self.shape
        self.emit.load_block("context", image.context, Memory.STAT, self.plan.context_param)
        ahead = min(2, shape.heads) if len(shape.blocks) > 1 else 1
        for row, rows in shape.blocks:
            for head in range(ahead):
                for part in ("key", "query"):
                    self._project(image, head, part, row, rows)
        for head in range(shape.heads):
            if head >= ahead:
                self._project(image, head, "key", 0, shape.rows)
                self._project(image, head, "query", 0, shape.rows)
            if head:
                self._context(image, head - 1)
            self._scores(image, head)
            self._project(image, head, "value", 0, shape.rows)
        self._context(image, shape.heads - 1)

    # --- layer
    def _layer(self, image: _LayerImage) -> None:
        shape, plan, layer = self.shape, self.plan, image.layer
        self._attention(image)
        for (row, rows), y in zip(shape.blocks, plan.y, strict=True):
            self.emit.linear(layer.output, image.output, plan.context.row(row), rows, y)
        self._norm(layer.attention_norm, image.attention_norm, residual=True)
        self.emit.load_table(layer.up.name, image.table)
        for row, rows in shape.blocks:
            x = plan.x.row(row)
            self.emit.linear(layer.up, image.up, x, rows, plan.hidden, stats=True)
            y = plan.y[-1]
            self.emit.linear(layer.down, image.down, plan.hidden, rows, y)
            self._norm_rows(layer.output_norm, image.output_norm, row, rows, y)

    def _norm_rows(
        self, norm: quantized.Norm, block: Block, row: int, rows: int, y: ActRows
    ) -> None:
        x = self.plan.x.row(row)
        self.emit.norm(norm, block, [(rows, y, x, x)])


def compile_encoder(config: Config, model: quantized.Encoder, *, tokens: int, batch: int) -> Launch:
    """One launch for ``batch`` sequences of up to ``tokens`` tokens.

    Raises
    ------
    CompileError
        If the shape exceeds the accelerator; the message names the value and the limit.
    """
    if tokens < 1 or batch < 1:
        raise CompileError(f"tokens={tokens} and batch={batch} must be at least 1")
    return _EncoderCompiler(config, model, tokens, batch).compile()


# --- chains of linear layers -------------------------------------------------------------------


def compile_chain(config: Config, model: quantized.LinearChain, *, rows: int) -> Launch:
    """One launch of linear layers that follow each other, on up to ``rows`` rows.

    Raises
    ------
    CompileError
        If the shape exceeds the accelerator; the message names the value and the limit.
    """
    limit = min(config.max_rows, config.rowstat_entries // 2)
    if not 1 <= rows <= limit:
        raise CompileError(f"rows {rows} is outside 1 to {limit} of {config.name}")
    weights = WeightImage(config)
    emitter = Emitter(config, Ring(0, config.stat_words))
    chunk = _chunk_tiles(config, config.stat_words)
    widths = [model.layers[0].weight.shape[1], *(part.weight.shape[0] for part in model.layers)]
    place = _alternating(config, rows, widths)
    inputs = _tensor(0, rows, widths[0], config, 16, model.input_scale)
    output = _tensor(inputs.nbytes, rows, widths[-1], config, 16, model.output_scale)
    words = _tiles(widths[0], config)
    emitter.load_act("input", Window.IO, 0, inputs.pitch, rows, words, place(0), stats=True)
    for index, layer in enumerate(model.layers):
        if layer.table is not None:
            emitter.load_table(layer.name, weights.table(layer.table))
        columns = weights.linear(layer.weight, layer.channel, chunk)
        emitter.linear(layer, columns, place(index), rows, place(index + 1), stats=True)
    last = place(len(model.layers))
    words = _tiles(widths[-1], config)
    emitter.store_act("output", Window.IO, output.offset, output.pitch, rows, words, last)
    macs = {layer.name: rows * layer.weight.size for layer in model.layers}
    return _program(emitter, weights, macs=macs, inputs=(inputs,), output=output)


def _alternating(config: Config, rows: int, widths: list[int]) -> Callable[[int], ActRows]:
    """Two areas that take turns as input and output of the layers."""
    words = [rows * _tiles(width, config) for width in widths]
    even, odd = max(words[::2]), max(words[1::2])
    if even + odd > config.act_words:
        raise CompileError(
            f"{rows} rows of {max(widths)} elements need {even + odd} activation words, "
            f"{config.name} has {config.act_words}"
        )
    if max(_tiles(width, config) for width in widths) > 255:
        raise CompileError(f"{max(widths)} elements exceed {255 * config.tile} of {config.name}")

    def place(index: int) -> ActRows:
        stride = _tiles(widths[index], config)
        return ActRows(even * (index % 2), stride, rows * (index % 2))

    return place
