"""SOFTMAX and NORM: what the softmax engine and the vector unit compute."""

from __future__ import annotations

import numpy as np

from transept.golden.emulator.memory import EmulatorError, OnChip
from transept.golden.isa import Instruction
from transept.golden.layouts import RECORD_BYTES, unpack_norm_parameters
from transept.golden.numerics.norm import NormParameters, inverse_count, layer_norm
from transept.golden.numerics.softmax import MASKED, softmax_rows

__all__ = ["norm", "softmax"]


def softmax(chip: OnChip, i: Instruction) -> None:
    """``P = level - 127`` in place on the recorded tiles; rowstat: row maximum -> sum of levels.

    A row whose maximum is -32768 (no kept key) gets level 0 everywhere and sum 0. Tiles that are
    not recorded are neither read nor written.

    Raises
    ------
    EmulatorError
        If an address is outside its memory, or nothing is recorded.
    """
    rows, keys, tile = chip.rows(i), i.keys + 1, chip.tile
    kept = chip.kept(i.select, rows, keys)
    index = chip.act_rows(i.addr, i.stride, rows, kept.shape[1])
    score = np.where(kept[..., None], chip.act[index].astype(np.int64), MASKED)
    entries = chip.stat_rows(i.rowstat, rows)
    operand, total = softmax_rows(score.reshape(rows, -1), chip.rowstat[entries])
    chip.act[index[kept]] = operand.reshape(rows, -1, tile)[kept]
    chip.rowstat[entries] = total


def norm(chip: OnChip, i: Instruction) -> None:
    """``X = LayerNorm(Y + X)`` on the first ``count`` elements of each row, 0 in the others.

    Channel c has entry ``param * tile + c`` of VPARAM. ``rowstat[rowstat + m]`` becomes the maximum
    magnitude of the result. The result may overwrite Y or X row by row.

    Raises
    ------
    EmulatorError
        If an address is outside its memory, count does not fit into the words of a row, or
        ``inverse_count`` is not that of ``count``.
    """
    rows, count, tile = chip.rows(i), i.count, chip.tile
    if not 2 <= count <= min(i.words * tile, chip.config.geometry.max_hidden):
        raise EmulatorError(
            f"count={count} is outside 2 to {min(i.words * tile, chip.config.geometry.max_hidden)}"
        )
    if i.inverse_count != inverse_count(count):
        raise EmulatorError(f"inverse_count={i.inverse_count} is not {inverse_count(count)}")
    y = chip.read_act(i.y_addr, i.y_stride, rows, i.words)[:, :count].astype(np.int64)
    x = None
    if i.residual:
        x = chip.read_act(i.x_addr, i.x_stride, rows, i.words)[:, :count].astype(np.int64)
    result = np.zeros((rows, i.words * tile), np.int64)
    result[:, :count] = layer_norm(
        y, x, _parameters(chip, i), epsilon=i.epsilon, out_shift=i.out_shift
    )
    index = chip.act_rows(i.out_addr, i.out_stride, rows, i.words)
    chip.act[index] = result.reshape(rows, i.words, tile)
    chip.rowstat[chip.stat_rows(i.rowstat, rows)] = np.abs(result).max(1)


def _parameters(chip: OnChip, i: Instruction) -> NormParameters:
    units = i.param * RECORD_BYTES + np.arange(i.words * RECORD_BYTES)
    data = chip.vparam[chip.check("VPARAM", units, chip.vparam)]
    channels = unpack_norm_parameters(data)
    return NormParameters(
        *(getattr(channels, name)[: i.count] for name in ("gamma", "beta", "y_shift", "x_shift"))
    )
