"""Encoders whose rows do not fit on chip: activations spilled to DRAM between phases of a layer.

Attention takes one head at a time: blocks of x stream through and leave Q, K and V of the head on
chip; then the queries go through in groups, and the context of each group returns to DRAM. While
the softmax engine works on one group, the array has the scores of the next, the context of the one
before, and the projections of the next head. The rest of a layer goes block by block: the output
projection of the next block stands between two parts of the feed-forward of this one, so that both
norms hide behind products.
"""

from __future__ import annotations

from collections.abc import Iterator

from transept.golden import quantized
from transept.golden.config import Config
from transept.golden.isa import Memory, Window
from transept.golden.layouts import RECORD_BYTES
from transept.host.emitter import ActRows, Emitter
from transept.host.launch import Launch, Tensor
from transept.host.long_plan import (
    check_shape,
    plan_attention,
    plan_feed_forward,
    plan_stationary,
)
from transept.host.lowering import (
    EncoderShape,
    LayerImage,
    chunk_tiles,
    encoder_macs,
    finish,
    layer_image,
    tensor,
)
from transept.host.weights import Block, WeightImage

__all__ = ["compile_long_encoder"]


class _Rows:
    """Rows of one tensor in DRAM: a window, and where the sequence at hand starts."""

    def __init__(self, emit: Emitter, window: Window, place: Tensor, first: int = 0) -> None:
        self._emit, self._window, self._place, self._first = emit, window, place, first

    def _offset(self, row: int, column: int) -> int:
        word = 2 * self._emit.config.tile
        return self._place.offset + (self._first + row) * self._place.pitch + column * word

    def load(self, row: int, rows: int, to: ActRows) -> None:
        """Whole rows to the activation scratchpad, with their maxima."""
        self._emit.load_act(
            self._window.name.lower(),
            self._window,
            self._offset(row, 0),
            self._place.pitch,
            rows,
            to.stride,
            to,
            stats=True,
        )

    def store(self, row: int, rows: int, source: ActRows, column: int = 0) -> None:
        """Rows, or some columns of them from word ``column`` on, back to DRAM."""
        self._emit.store_act(
            self._window.name.lower(),
            self._window,
            self._offset(row, column),
            self._place.pitch,
            rows,
            source.stride,
            source,
        )


class _Cache:
    """Row blocks of x on chip: a block that is needed again may still be there."""

    def __init__(
        self, source: _Rows, buffers: tuple[ActRows, ...], blocks: list[tuple[int, int]]
    ) -> None:
        self._source, self._blocks = source, blocks
        self._free = list(reversed(buffers))
        self._held: dict[int, ActRows] = {}  # the least recently used block is first

    def fetch(self, index: int) -> ActRows:
        """The buffer of block ``index``, loaded if it is not there."""
        found = self._held.pop(index, None)
        if found is None:
            found = self._free.pop() if self._free else self._held.pop(next(iter(self._held)))
            self._source.load(*self._blocks[index], found)
        self._held[index] = found
        return found


def _interleave(steps: Iterator[None], count: int, filler: Iterator[None], fillers: int) -> None:
    """Run ``steps`` and spread ``filler`` evenly behind them; count, fillers: their lengths."""
    for index, _ in enumerate(steps):
        for _ in range(fillers * (index + 1) // count - fillers * index // count):
            next(filler)


class _LongCompiler:
    """Emits one launch: sequences one after the other, each through all layers."""

    def __init__(self, config: Config, model: quantized.Encoder, tokens: int, batch: int) -> None:
        self.model, self.batch = model, batch
        self.shape = EncoderShape.of(config, model, tokens, 1)
        check_shape(self.shape)
        self.stat = plan_stationary(self.shape)
        self.plan = plan_attention(self.shape, len(self.stat.k))
        self.rest = plan_feed_forward(self.shape)
        self.emit = Emitter(config, self.stat.ring)
        self.weights = WeightImage(config)
        self.sequences: list[tuple[int, int]] = []
        self._sequence = 0
        self._turn = 0  # query groups so far: scores, context and selections take turns
        padded = self.shape.context_tiles * config.tile
        x = tensor(0, tokens, self.shape.hidden, config, 16)
        context = tensor(x.nbytes, tokens, padded, config, 16)
        self.scratch_bytes = context.offset + context.nbytes
        self.x = _Rows(self.emit, Window.SCRATCH, x)
        self.context = _Rows(self.emit, Window.SCRATCH, context)

    def compile(self) -> Launch:
        shape, model, config = self.shape, self.model, self.shape.config
        rows = self.batch * shape.tokens
        inputs = tensor(0, rows, shape.hidden, config, 16, model.input_scale)
        output = tensor(inputs.nbytes, rows, shape.hidden, config, 16, model.output_scale)
        norm = self.weights.norm(model.embedding_norm.parameters)
        chunk = chunk_tiles(config, self.stat.ring.words)
        images = [layer_image(self.weights, shape, layer, chunk) for layer in model.layers]
        for sequence in range(self.batch):
            self._sequence, first = sequence, sequence * shape.tokens
            self._embed(_Rows(self.emit, Window.IO, inputs, first), norm)
            for image in images:
                self._attention(image)
                last = image is images[-1]
                result = _Rows(self.emit, Window.IO, output, first) if last else self.x
                self._feed_forward(image, result)
        return finish(
            self.emit,
            self.weights,
            macs=encoder_macs(model, shape.tokens, self.batch),
            inputs=(inputs,),
            output=output,
            scratch_bytes=self.scratch_bytes,
            tokens=shape.tokens,
            batch=self.batch,
            sequences=self.sequences,
        )

    def _embed(self, source: _Rows, norm: Block) -> None:
        buffers = self.plan.x
        for index, (row, rows) in enumerate(self.plan.blocks):
            x = buffers[index % len(buffers)]
            source.load(row, rows, x)
            self.emit.norm(self.model.embedding_norm, norm, [(rows, x, None, x)])
            self.x.store(row, rows, x)

    # --- attention
    def _attention(self, image: LayerImage) -> None:
        """All heads; with room for two, the next is projected while this one is attended to."""
        plan, heads = self.plan, self.shape.heads
        self.emit.load_block("context", image.context, Memory.STAT, self.stat.context_param)
        cache = _Cache(self.x, plan.x, plan.blocks)
        fillers = 3 * len(plan.blocks)
        for _ in self._project(image, 0, cache):
            pass
        for head in range(heads):
            following = self._project(image, head + 1, cache) if head + 1 < heads else iter(())
            during = fillers if len(plan.q) > 1 and head + 1 < heads else 0
            _interleave(self._attend(image, head), len(plan.groups), following, during)
            for _ in following:
                pass

    def _project(self, image: LayerImage, head: int, cache: _Cache) -> Iterator[None]:
        """K, Q and V of one head, a row block at a time; every second head takes them backwards,
        so that it starts with the blocks that are still on chip."""
        plan, d_tiles = self.plan, self.shape.d_tiles
        place = head % len(plan.q)
        order = list(range(len(plan.blocks)))[:: -1 if head & 1 else 1]
        for index, following in zip(order, [*order[1:], None], strict=True):
            x = cache.fetch(index)
            row, rows = plan.blocks[index]
            outs = {
                "key": ActRows(self.stat.k[place] + row * d_tiles, d_tiles),
                "query": plan.q[place].row(row),
                "value": ActRows(self.stat.v[place] + row * d_tiles, d_tiles),
            }
            for part, out in outs.items():
                columns, linear = image.head(part, head, d_tiles), getattr(image.layer, part)
                self.emit.linear(linear, columns, x, rows, out, stat_out=part != "query")
                if part == "key" and following is not None:
                    cache.fetch(following)  # by then the array has left the buffer it takes
                yield

    def _attend(self, image: LayerImage, head: int) -> Iterator[None]:
        """Scores of each group before the context of the one before: its softmax has time."""
        turn = self._turn
        for index in range(len(self.plan.groups)):
            self._scores(image.layer.attention, head, index, turn + index)
            if index:
                self._group_context(image.layer.attention, head, index - 1, turn + index - 1)
            yield
        last = len(self.plan.groups) - 1
        self._group_context(image.layer.attention, head, last, turn + last)
        self._turn += len(self.plan.groups)

    def _select(self, turn: int) -> int:
        return (turn & 1) * (self.shape.config.query_blocks // 2)

    def _scores(self, attention: quantized.Attention, head: int, index: int, turn: int) -> None:
        shape, plan = self.shape, self.plan
        row, rows = plan.groups[index]
        place, scores = head % len(plan.q), plan.scores[turn & 1]
        select = self._select(turn)
        self._patched(
            self.emit.scores(
                attention,
                head,
                rows,
                shape.d_tiles,
                plan.q[place].row(row),
                self.stat.k[place],
                scores,
                select,
                position=row,
                keys=shape.tokens,
            )
        )
        self._patched(self.emit.softmax(attention.name, rows, shape.tokens, scores, select))

    def _group_context(
        self, attention: quantized.Attention, head: int, index: int, turn: int
    ) -> None:
        shape, plan = self.shape, self.plan
        row, rows = plan.groups[index]
        out, column = plan.out[turn & 1], head * shape.d_tiles
        self._patched(
            self.emit.context(
                attention,
                rows,
                shape.tokens,
                shape.d_tiles,
                plan.scores[turn & 1],
                self.stat.v[head % len(plan.q)],
                self._select(turn),
                self.stat.context_param + RECORD_BYTES * column,
                out,
                first=True,
            )
        )
        self.context.store(row, rows, out, column)

    def _patched(self, instruction: int) -> None:
        """The driver sets the keys of this instruction to the length of the sequence."""
        self.sequences.append((instruction, self._sequence))

    # --- the rest of a layer
    def _feed_forward(self, image: LayerImage, result: _Rows) -> None:
        """Output projection, norm, feed-forward and norm of every block, into ``result``."""
        layer, rest, count = image.layer, self.rest, len(self.rest.blocks)
        quarter = -(-len(image.up) // 4)
        self._load_context(0)
        self._load_x(0)
        self._output(image, 0)
        self.emit.load_table(layer.up.name, image.table)
        if count > 1:
            self._load_context(1)
            self._load_x(1)
        for index, (row, rows) in enumerate(rest.blocks):
            x = rest.x[index % 3]
            self._up(image, index, 0, quarter)
            if index + 1 < count:
                self._output(image, index + 1)
            # loads stand where their buffers have been free for a while: they hold up no weights
            self._up(image, index, quarter, 2 * quarter)
            if index + 2 < count:
                self._load_context(index + 2)
            self._up(image, index, 2 * quarter, 3 * quarter)
            if index + 2 < count:
                self._load_x(index + 2)
            self._up(image, index, 3 * quarter, len(image.up))
            self.emit.linear(layer.down, image.down, rest.hidden, rows, rest.y)
            self.emit.norm(layer.output_norm, image.output_norm, [(rows, rest.y, x, x)])
            result.store(row, rows, x)

    def _load_context(self, index: int) -> None:
        self.context.load(*self.rest.blocks[index], self.rest.context)

    def _load_x(self, index: int) -> None:
        self.x.load(*self.rest.blocks[index], self.rest.x[index % 3])

    def _output(self, image: LayerImage, index: int) -> None:
        layer, rest = image.layer, self.rest
        _, rows = rest.blocks[index]
        x = rest.x[index % 3]
        self.emit.linear(layer.output, image.output, rest.context, rows, rest.y)
        self.emit.norm(layer.attention_norm, image.attention_norm, [(rows, rest.y, x, x)])

    def _up(self, image: LayerImage, index: int, first: int, stop: int) -> None:
        """Some columns of the first feed-forward product."""
        rest = self.rest
        _, rows = rest.blocks[index]
        self.emit.linear(
            image.layer.up,
            image.up[first:stop],
            rest.x[index % 3],
            rows,
            rest.hidden,
            first=first,
            stats=True,
        )


def compile_long_encoder(
    config: Config, model: quantized.Encoder, *, tokens: int, batch: int
) -> Launch:
    """One launch for ``batch`` sequences of up to ``tokens`` tokens, one after the other, with
    their activations in window SCRATCH.

    Raises
    ------
    CompileError
        If the shape exceeds the accelerator; the message names the value and the limit.
    """
    return _LongCompiler(config, model, tokens, batch).compile()
