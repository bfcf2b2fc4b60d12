"""Quantised models to programs: encoders, and chains of linear layers.

Encoders whose rows fit on chip stay there from input to output (``compile_short``); larger batches
go through in groups of sequences; longer sequences spill their rows to DRAM (``compile_long``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from transept.golden import quantized
from transept.golden.config import Config
from transept.golden.isa import Window
from transept.host.compile_long import compile_long_encoder
from transept.host.compile_short import compile_short_encoder
from transept.host.emitter import ActRows, Emitter, Ring
from transept.host.launch import Launch
from transept.host.lowering import CompileError, chunk_tiles, finish, tensor, tiles
from transept.host.weights import WeightImage

__all__ = ["CompileError", "compile_chain", "compile_encoder"]


def compile_encoder(config: Config, model: quantized.Encoder, *, tokens: int, batch: int) -> Launch:
    """One launch for ``batch`` sequences of up to ``tokens`` tokens.

    Raises
    ------
    CompileError
        If the shape exceeds the accelerator; the message names the value and the limit.
    """
    if tokens < 1 or batch < 1:
        raise CompileError(f"tokens={tokens} and batch={batch} must be at least 1")
    for group in range(min(batch, config.geometry.max_rows // tokens), 0, -1):
        even = -(-batch // -(-batch // group))  # groups of nearly the same size
        with suppress(CompileError):
            return compile_short_encoder(config, model, tokens=tokens, batch=batch, group=even)
    return compile_long_encoder(config, model, tokens=tokens, batch=batch)


# --- chains of linear layers -------------------------------------------------------------------


def compile_chain(config: Config, model: quantized.LinearChain, *, rows: int) -> Launch:
    """One launch of linear layers that follow each other, on up to ``rows`` rows.

    Raises
    ------
    CompileError
        If the shape exceeds the accelerator; the message names the value and the limit.
    """
    limit = min(config.geometry.max_rows, config.memories.rowstat_entries // 2)
    if not 1 <= rows <= limit:
        raise CompileError(f"rows {rows} is outside 1 to {limit} of {config.name}")
    weights = WeightImage(config)
    emitter = Emitter(config, Ring(0, config.memories.stat_words))
    chunk = chunk_tiles(config, config.memories.stat_words)
    widths = [model.layers[0].weight.shape[1], *(part.weight.shape[0] for part in model.layers)]
    place = _alternating(config, rows, widths)
    inputs = tensor(0, rows, widths[0], config, 16, model.input_scale)
    output = tensor(inputs.nbytes, rows, widths[-1], config, 16, model.output_scale)
    words = tiles(widths[0], config)
    emitter.load_act("input", Window.IO, 0, inputs.pitch, rows, words, place(0), stats=True)
    for index, layer in enumerate(model.layers):
        if layer.table is not None:
            emitter.load_table(layer.name, weights.table(layer.table))
        columns = weights.linear(layer.weight, layer.channel, chunk)
        emitter.linear(layer, columns, place(index), rows, place(index + 1), stats=True)
    last = place(len(model.layers))
    words = tiles(widths[-1], config)
    emitter.store_act("output", Window.IO, output.offset, output.pitch, rows, words, last)
    macs = {layer.name: rows * layer.weight.size for layer in model.layers}
    return finish(emitter, weights, macs=macs, inputs=(inputs,), output=output)


def _alternating(config: Config, rows: int, widths: list[int]) -> Callable[[int], ActRows]:
    """Two areas that take turns as input and output of the layers."""
    words = [rows * tiles(width, config) for width in widths]
    even, odd = max(words[::2]), max(words[1::2])
    if even + odd > config.act_words:
        raise CompileError(
            f"{rows} rows of {max(widths)} elements need {even + odd} activation words, "
            f"{config.name} has {config.act_words}"
        )
    if max(tiles(width, config) for width in widths) > 255:
        raise CompileError(f"{max(widths)} elements exceed {255 * config.tile} of {config.name}")

    def place(index: int) -> ActRows:
        stride = tiles(widths[index], config)
        return ActRows(even * (index % 2), stride, rows * (index % 2))

    return place
