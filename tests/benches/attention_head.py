"""One attention head as a program: Q, K and V in memory, the context back to memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from draws import int8

from transept.golden import isa, quantized
from transept.golden.config import CONTRACT_VERSION, Config
from transept.golden.isa import Memory, Window
from transept.golden.models.encoder import attention
from transept.golden.numerics.requantise import ChannelParameters
from transept.host.emitter import ActRows, Emitter, Ring
from transept.host.launch import Launch, Tensor
from transept.host.weights import Block, WeightImage

__all__ = ["AttentionHead"]

LABEL = "attention"


@dataclass(frozen=True)
class _Places:
    """On-chip addresses: one bank each for Q, scores and context."""

    q: ActRows
    scores: ActRows
    out: ActRows
    k: int
    v: int
    param: int


class AttentionHead:
    """Random int8 Q, K and V of ``tokens`` rows by ``d``; of the rows ``keys`` are real."""

    def __init__(
        self, config: Config, rng: np.random.Generator, *, tokens: int, keys: int, d: int
    ) -> None:
        self.config, self.tokens, self.keys, self.d = config, tokens, keys, d
        self.q, self.k, self.v = (int8(rng, (tokens, d), "real").astype(np.int8) for _ in range(3))
        # what lies beyond the last key must not matter
        self.k[keys:], self.v[keys:] = rng.integers(-128, 128, (2, tokens - keys, d))
        context = ChannelParameters(
            rng.integers(1 << 15, 1 << 16, d),
            np.full(d, 15),
            rng.integers(-(1 << 10), 1 << 10, d),
        )
        multiplier = rng.integers(1 << 15, 1 << 16, 1)
        # scores of a few hundred, contexts of some thousand
        self.layer = quantized.Attention(LABEL, 1, multiplier, np.array([19]), 15, context, 9, 0)

    def expected(self) -> np.ndarray:
        """int16[tokens, d] by the golden model."""
        q, k, v = (torch.from_numpy(x.astype(np.int64)) for x in (self.q, self.k, self.v))
        return attention(self.layer, q, k, v, self.keys).numpy()

    def launch(self) -> Launch:
        """The program; its only input is Q."""
        config, weights = self.config, WeightImage(self.config)
        emitter = Emitter(config, Ring(0, 1))
        inputs = Tensor(0, self.tokens, self.d, self.d, 8)
        output = Tensor(inputs.nbytes, self.tokens, self.d, 2 * self.d, 16)
        self._emit(emitter, weights, inputs, output)
        return Launch(
            config=config,
            contract=CONTRACT_VERSION,
            instructions=isa.encode_program(emitter.schedule.program()),
            weights=weights.image(),
            labels=tuple(emitter.schedule.labels),
            macs={LABEL: 2 * self.tokens * self.keys * self.d},
            inputs=(inputs,),
            output=output,
            io_bytes=output.offset + output.nbytes,
            scratch_bytes=0,
        )

    def _places(self, d_tiles: int, key_tiles: int) -> _Places:
        first, second, *_ = np.cumsum(self.config.memories.act_banks)
        words = key_tiles * self.config.tile * d_tiles
        return _Places(
            q=ActRows(0, d_tiles),
            scores=ActRows(int(first), key_tiles, 0),
            out=ActRows(int(second), d_tiles, self.tokens),
            k=0,
            v=words,
            param=2 * words,
        )

    def _emit(self, emitter: Emitter, weights: WeightImage, q: Tensor, out: Tensor) -> None:
        tile, tokens, keys = self.config.tile, self.tokens, self.keys
        d_tiles, key_tiles = self.d // tile, -(-keys // tile)
        at = self._places(d_tiles, key_tiles)
        for matrix, addr in ((self.k, at.k), (self.v, at.v)):
            data = np.ascontiguousarray(matrix[: key_tiles * tile]).view(np.uint8).reshape(-1)
            block = Block(weights.raw(data), data.size // tile, 0, 0)
            emitter.load_block(LABEL, block, Memory.STAT, addr)
        emitter.load_block(LABEL, weights.parameters(self.layer.context), Memory.STAT, at.param)
        emitter.load_act(LABEL, Window.IO, q.offset, q.pitch, tokens, d_tiles, at.q, wide=False)
        emitter.scores(self.layer, 0, tokens, d_tiles, at.q, at.k, at.scores, 0, keys=keys)
        emitter.softmax(LABEL, tokens, keys, at.scores, 0)
        emitter.context(
            self.layer, tokens, keys, d_tiles, at.scores, at.v, 0, at.param, at.out, first=True
        )
        emitter.store_act(LABEL, Window.IO, out.offset, out.pitch, tokens, d_tiles, at.out)
