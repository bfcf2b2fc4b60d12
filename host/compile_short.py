"""Encoders whose sequences fit on chip: placement, row blocks, and the order that hides everything.

The array is the only engine that must never wait. So the rows are cut into two blocks wherever a
LayerNorm stands between two products: while one block is normalised, the array works on the other.
Inside attention, the softmax of a head runs while the array projects V of the same head and Q and K
of the next (the order of Lu et al. 2020, one head further ahead).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from transept.golden import quantized
from transept.golden.config import Config
from transept.golden.isa import Memory, Window
from transept.golden.layouts import RECORD_BYTES
from transept.host.emitter import ActRows, Emitter, Ring
from transept.host.launch import Launch, Tensor
from transept.host.lowering import (
    CompileError,
    EncoderShape,
    LayerImage,
    check_limits,
    chunk_tiles,
    encoder_macs,
    finish,
    layer_image,
    tensor,
)
from transept.host.weights import Block, WeightImage

__all__ = ["compile_short_encoder"]


def _blocks(shape: EncoderShape) -> list[tuple[int, int]]:
    """Row blocks as (first row, rows): two, so that norms hide behind products."""
    tile = shape.config.tile
    if shape.rows <= 2 * tile:
        return [(0, shape.rows)]
    half = -(-shape.rows // (2 * tile)) * tile
    return [(0, half), (half, shape.rows - half)]


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


def _plan(shape: EncoderShape) -> _Plan:
    """Place tensors so that the array's operand and the vector unit's rows are in different banks.

    x lies in the first banks, the last y in the next, then one area that holds Q, context and the
    first y during attention and the hidden rows after it; scores have the last bank.
    """
    config = shape.config
    bank_ends = np.cumsum(config.memories.act_banks).tolist()
    scores_addr = bank_ends[-2]
    block = _blocks(shape)[0][1]
    y_words = block * shape.hidden_tiles

    def next_bank(addr: int) -> int:
        return min([0, *bank_ends], key=lambda end: (end < addr, end))

    y_addr = next_bank(shape.rows * shape.hidden_tiles)
    area = y_addr + y_words
    q_addr = area + shape.rows * shape.context_tiles
    q_words = shape.rows * shape.d_tiles
    y0_addr = scores_addr - y_words
    needs = {
        "attention": q_addr + 2 * q_words + (y_words if len(_blocks(shape)) > 1 else 0),
        "feed-forward": area + block * shape.ffn_tiles,
    }
    for name, words in needs.items():
        if words > scores_addr:
            raise CompileError(
                f"{name} of {shape.rows} rows needs {words} activation words, "
                f"{config.name} has {scores_addr}"
            )
    score_words = shape.rows * shape.key_tiles
    if score_words > config.memories.act_banks[-1]:
        raise CompileError(
            f"scores of {shape.batch} x {shape.tokens} tokens need {score_words} words, "
            f"{config.name} has {config.memories.act_banks[-1]}"
        )
    y_last = ActRows(y_addr, shape.hidden_tiles)
    y_first = ActRows(y0_addr, shape.hidden_tiles)
    rows = shape.rows
    stat = _stat_plan(shape)
    return _Plan(
        x=ActRows(0, shape.hidden_tiles, 0),
        y=(y_first, y_last)[-len(_blocks(shape)) :],
        q=(
            ActRows(q_addr, shape.d_tiles),
            ActRows(q_addr + q_words, shape.d_tiles),
        ),
        context=ActRows(area, shape.context_tiles, rows),
        hidden=ActRows(area, shape.ffn_tiles, 2 * rows),
        scores=ActRows(scores_addr, shape.key_tiles, 2 * rows + block),
        **stat,
    )


def _stat_plan(shape: EncoderShape) -> dict:
    """K and V of two heads, the context parameters of one layer, then the weight ring."""
    config = shape.config
    words = (shape.rows + config.tile) * shape.d_tiles  # a tile of slack: ragged last key tile
    words = -(-words // config.tile) * config.tile
    parameters = RECORD_BYTES * shape.context_tiles
    ring = Ring(4 * words + parameters, config.memories.stat_words)
    if ring.words < 4 * (config.tile + RECORD_BYTES):
        raise CompileError(
            f"K and V of {shape.rows} rows need {4 * words} stationary words, "
            f"{config.name} has {config.memories.stat_words}"
        )
    return {
        "k": (0, 2 * words),
        "v": (words, 3 * words),
        "context_param": 4 * words,
        "ring": ring,
    }


def _check_shape(shape: EncoderShape) -> None:
    config = shape.config
    limits = {
        "sequence length": (shape.tokens, config.geometry.max_tokens),
        "hidden size": (shape.hidden, config.geometry.max_hidden),
        "rows of a launch": (shape.rows, config.geometry.max_rows),
        "rowstat entries": (
            3 * shape.rows + _blocks(shape)[0][1],
            config.memories.rowstat_entries,
        ),
        "query blocks": (shape.batch * shape.key_tiles, config.query_blocks // 2),
        "hidden tiles": (max(shape.ffn_tiles, shape.context_tiles), 255),
    }
    check_limits(limits, config)


class _ShortCompiler:
    """Emits one launch: groups of sequences, one after the other, each all the way on chip."""

    def __init__(self, config: Config, model: quantized.Encoder, tokens: int, group: int) -> None:
        self.model = model
        self._resize(EncoderShape.of(config, model, tokens, group))
        self.emit = Emitter(config, self.plan.ring)
        self.weights = WeightImage(config)
        self.sequences: list[tuple[int, int]] = []
        self._first = 0  # the first sequence of the group

    def _resize(self, shape: EncoderShape) -> None:
        _check_shape(shape)
        self.shape, self.plan = shape, _plan(shape)

    def compile(self, batch: int) -> Launch:
        shape, model, config = self.shape, self.model, self.shape.config
        rows = batch * shape.tokens
        inputs = tensor(0, rows, shape.hidden, config, 16, model.input_scale)
        output = tensor(inputs.nbytes, rows, shape.hidden, config, 16, model.output_scale)
        norm = self.weights.norm(model.embedding_norm.parameters)
        chunk = chunk_tiles(config, self.plan.ring.words)
        images = [layer_image(self.weights, shape, layer, chunk) for layer in model.layers]
        for first in range(0, batch, shape.batch):
            self._first = first
            if batch - first < shape.batch:  # the ring stays where it is, all else lies below it
                self._resize(dataclasses.replace(shape, batch=batch - first))
            self._group(inputs, output, norm, images)
        return finish(
            self.emit,
            self.weights,
            macs=encoder_macs(model, shape.tokens, batch),
            inputs=(inputs,),
            output=output,
            tokens=shape.tokens,
            batch=batch,
            sequences=self.sequences,
        )

    def _group(self, inputs: Tensor, output: Tensor, norm: Block, images: list[LayerImage]) -> None:
        """All layers for the sequences from ``self._first`` on."""
        start = self._first * self.shape.tokens
        self._embed(inputs, start, norm)
        for image in images:
            self._layer(image)
        for row, rows in _blocks(self.shape):
            self.emit.store_act(
                "output",
                Window.IO,
                output.offset + (start + row) * output.pitch,
                output.pitch,
                rows,
                self.shape.hidden_tiles,
                self.plan.x.row(row),
            )

    def _embed(self, inputs: Tensor, start: int, norm: Block) -> None:
        shape, plan = self.shape, self.plan
        for (row, rows), y in zip(_blocks(shape), plan.y, strict=True):
            offset = inputs.offset + (start + row) * inputs.pitch
            self.emit.load_act(
                "input", Window.IO, offset, inputs.pitch, rows, shape.hidden_tiles, y
            )
        self._norm(self.model.embedding_norm, norm, residual=False)

    def _norm(self, norm: quantized.Norm, block: Block, *, residual: bool) -> None:
        x = self.plan.x
        parts = [
            (rows, y, x.row(row) if residual else None, x.row(row))
            for (row, rows), y in zip(_blocks(self.shape), self.plan.y, strict=True)
        ]
        self.emit.norm(norm, block, parts)

    # --- attention
    def _project(self, image: LayerImage, head: int, part: str, row: int, rows: int) -> None:
        """Q, K or V of one head for some rows, into the buffers of the head's parity."""
        plan, dt = self.plan, self.shape.d_tiles
        columns = image.head(part, head, dt)
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

    def _scores(self, image: LayerImage, head: int) -> None:
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
            self.sequences.append((index, self._first + sequence))
        for sequence, _, scores, select in self._each_sequence(head):
            index = self.emit.softmax(attention.name, shape.tokens, shape.tokens, scores, select)
            self.sequences.append((index, self._first + sequence))

    def _context(self, image: LayerImage, head: int) -> None:
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
                plan.context_param + RECORD_BYTES * head * shape.d_tiles,
                column.row(row),
                first=head == 0,
            )
            self.sequences.append((index, self._first + sequence))

    def _attention(self, image: LayerImage) -> None:
        """All heads: K, Q, [context of the head before], scores, V; the first heads by row block,
        because the norm of the second block is still running."""
        shape = self.shape
        self.emit.load_block("context", image.context, Memory.STAT, self.plan.context_param)
        ahead = min(2, shape.heads) if len(_blocks(shape)) > 1 else 1
        for row, rows in _blocks(shape):
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
    def _layer(self, image: LayerImage) -> None:
        shape, plan, layer = self.shape, self.plan, image.layer
        self._attention(image)
        for (row, rows), y in zip(_blocks(shape), plan.y, strict=True):
            self.emit.linear(layer.output, image.output, plan.context.row(row), rows, y)
        self._norm(layer.attention_norm, image.attention_norm, residual=True)
        self.emit.load_table(layer.up.name, image.table)
        for row, rows in _blocks(shape):
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


def compile_short_encoder(
    config: Config, model: quantized.Encoder, *, tokens: int, batch: int, group: int
) -> Launch:
    """One launch for ``batch`` sequences of up to ``tokens`` tokens, ``group`` of them at a time.

    Raises
    ------
    CompileError
        If a group does not fit on chip; the message names the value and the limit.
    """
    return _ShortCompiler(config, model, tokens, group).compile(batch)
