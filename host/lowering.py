"""What every encoder compiler needs: sizes, the weights of a layer, and the finished launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transept.golden import isa, quantized
from transept.golden.config import CONTRACT_VERSION, Config
from transept.golden.layouts import RECORD_BYTES
from transept.golden.numerics.requantise import ChannelParameters
from transept.host.emitter import Emitter
from transept.host.launch import Launch, Tensor
from transept.host.weights import Block, ColumnTile, WeightImage

__all__ = [
    "CompileError",
    "EncoderShape",
    "LayerImage",
    "check_limits",
    "chunk_tiles",
    "encoder_macs",
    "finish",
    "layer_image",
    "tensor",
    "tiles",
]


class CompileError(ValueError):
    """A model or shape does not fit the accelerator; the message names the value and the limit."""


def check_limits(limits: dict[str, tuple[int, int]], config: Config) -> None:
    """Compare {name: (value, limit)}.

    Raises
    ------
    CompileError
        If a value exceeds its limit.
    """
    for name, (value, limit) in limits.items():
        if value > limit:
            raise CompileError(f"{name} {value} exceeds {limit} of {config.name}")


def tiles(elements: int, config: Config) -> int:
    """Tiles that hold so many elements."""
    return -(-elements // config.tile)


def chunk_tiles(config: Config, ring_words: int) -> int:
    """Stationary tiles of one weight block: a block is one LOAD, and at least four fit the ring."""
    return max(1, min(24, (ring_words // 4 - RECORD_BYTES) // config.tile))


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of an encoder that runs ``batch`` sequences at a time, in words and rows."""

    config: Config
    tokens: int
    batch: int
    hidden: int
    heads: int
    ffn: int

    @classmethod
    def of(cls, config: Config, model: quantized.Encoder, tokens: int, batch: int) -> EncoderShape:
        """The shape of ``model`` for this many sequences."""
        ffn = model.layers[0].up.weight.shape[0]
        return cls(config, tokens, batch, model.hidden, model.heads, ffn)

    @property
    def rows(self) -> int:
        """Rows of all sequences."""
        return self.tokens * self.batch

    @property
    def hidden_tiles(self) -> int:
        """Words of a row between layers."""
        return tiles(self.hidden, self.config)

    @property
    def ffn_tiles(self) -> int:
        """Words of a hidden row of the feed-forward part."""
        return tiles(self.ffn, self.config)

    @property
    def d_tiles(self) -> int:
        """Words of a row of one head, padded."""
        return tiles(self.hidden // self.heads, self.config)

    @property
    def key_tiles(self) -> int:
        """Words of a score row, and query blocks of a sequence."""
        return tiles(self.tokens, self.config)

    @property
    def context_tiles(self) -> int:
        """Words of a context row: all heads, each padded."""
        return self.heads * self.d_tiles


@dataclass(frozen=True)
class LayerImage:
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

    def head(self, part: str, head: int, d_tiles: int) -> list[ColumnTile]:
        """The columns of ``part`` (query, key or value) that belong to one head."""
        return getattr(self, part)[head * d_tiles : (head + 1) * d_tiles]


def layer_image(
    weights: WeightImage, shape: EncoderShape, layer: quantized.Layer, chunk: int
) -> LayerImage:
    """Append the weights of a layer in blocks of ``chunk`` tiles at most; heads padded to tiles."""
    padded = shape.d_tiles * shape.config.tile

    def by_head(linear: quantized.Linear) -> list[ColumnTile]:
        weight = _pad_heads(linear.weight, shape.heads, padded, 0)
        return weights.linear(weight, _pad_channel(linear.channel, shape.heads, padded), chunk)

    def plain(linear: quantized.Linear) -> list[ColumnTile]:
        return weights.linear(linear.weight, linear.channel, chunk)

    output = _pad_heads(layer.output.weight, shape.heads, padded, 1)
    context = _pad_channel(layer.attention.context, shape.heads, padded)
    assert layer.up.table is not None
    return LayerImage(
        layer,
        by_head(layer.query),
        by_head(layer.key),
        by_head(layer.value),
        weights.linear(output, layer.output.channel, chunk),
        plain(layer.up),
        plain(layer.down),
        weights.parameters(context),
        weights.norm(layer.attention_norm.parameters),
        weights.norm(layer.output_norm.parameters),
        weights.table(layer.up.table),
    )


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


def encoder_macs(model: quantized.Encoder, tokens: int, batch: int) -> dict[str, int]:
    """Multiply-accumulates by label, for full-length sequences."""
    macs = {}
    for layer in model.layers:
        linears = (layer.query, layer.key, layer.value, layer.output, layer.up, layer.down)
        macs |= {linear.name: tokens * batch * linear.weight.size for linear in linears}
        macs[layer.attention.name] = 2 * batch * tokens**2 * model.hidden
    return macs


def tensor(
    offset: int, rows: int, width: int, config: Config, bits: int, scale: Sequence[float] = ()
) -> Tensor:
    """Rows of whole words at ``offset`` of a window."""
    pitch = tiles(width, config) * config.tile * bits // 8
    return Tensor(offset, rows, width, pitch, bits, tuple(float(value) for value in scale))


def finish(
    emitter: Emitter,
    weights: WeightImage,
    *,
    macs: dict[str, int],
    inputs: tuple[Tensor, ...],
    output: Tensor,
    scratch_bytes: int = 0,
    tokens: int = 0,
    batch: int = 1,
    sequences: Sequence[tuple[int, int]] = (),
) -> Launch:
    """The launch of everything that was emitted."""
    return Launch(
        config=emitter.config,
        contract=CONTRACT_VERSION,
        instructions=isa.encode_program(emitter.schedule.program()),
        weights=weights.image(),
        labels=tuple(emitter.schedule.labels),
        macs=macs,
        inputs=inputs,
        output=output,
        io_bytes=output.offset + output.nbytes,
        scratch_bytes=scratch_bytes,
        tokens=tokens,
        batch=batch,
        sequences=tuple(sequences),
    )
