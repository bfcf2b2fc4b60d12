"""SOFTMAX, NORM and ELEMENTWISE: what the softmax engine and the vector unit compute."""

from __future__ import annotations

import numpy as np

from transept.golden.config import ROWSTAT_BITS
from transept.golden.emulator.memory import OnChip
from transept.golden.isa import Instruction, OutMode
from transept.golden.layouts import RECORD_BYTES, unpack_norm_parameters
from transept.golden.numerics.elementwise import combine
from transept.golden.numerics.fixed import Clipping, wrap
from transept.golden.numerics.norm import NormParameters, normalise, residual_sum, rounded_sum
from transept.golden.numerics.softmax import MASKED, softmax_rows

__all__ = ["elementwise", "norm", "softmax"]


def softmax(chip: OnChip, i: Instruction) -> None:
    """``P = level - 127`` in place on the recorded tiles, and the sum of levels of each row.

    The maximum of row m is in ``rowstat[rowstat + m]``, of which 16 bits count; its sum of levels
    goes to ``rowstat[out_rowstat + m]``, with ``keep`` added to the sum found there, so that a row
    whose keys are cut is exponentiated part by part with its one maximum. A row whose maximum is
    -32768 (no kept key) gets level 0 everywhere and sum 0. Tiles that are not recorded are neither
    read nor written.
    """
    rows, keys, tile = i.rows + 1, i.keys + 1, chip.tile
    kept = chip.kept(i.select, rows, keys)
    index = chip.act_rows(i.addr, i.stride, rows, kept.shape[1])
    score = np.where(kept[..., None], chip.act[index].astype(np.int64), MASKED)
    maximum = wrap(chip.rowstat[chip.stat_rows(i.rowstat, rows)], 16)
    operand, total = softmax_rows(score.reshape(rows, -1), maximum)
    chip.act[index[kept]] = operand.reshape(rows, -1, tile)[kept]
    entries = chip.stat_rows(i.out_rowstat, rows)
    if i.keep:
        total = total + chip.rowstat[entries]
    chip.rowstat[entries] = wrap(total, ROWSTAT_BITS)


def norm(chip: OnChip, i: Instruction) -> None:
    """``Z = Y + X`` on the first ``count`` elements of each row, and what is asked of it.

    With ``normalise`` the rows at ``out_addr`` become LayerNorm(Z), without ``centre`` RMSNorm(Z);
    with ``sum`` those at ``sum_addr`` become Z itself, rounded to int16. Elements beyond ``count``
    become 0. Channel c has entry ``param * tile + c`` of VPARAM. ``rowstat[rowstat + m]`` becomes
    the maximum magnitude of the normalised row, of the sum if nothing is normalised. Sum and result
    may each overwrite Y or X row by row. ``tally`` counts the elements that any step clipped.
    """
    y = _rows(chip, i, "y")
    x = _rows(chip, i, "x") if i.residual else None
    parameters, clipping = _parameters(chip, i), Clipping()
    z = residual_sum(y, x, parameters, clipping)
    results = []
    if i.sum:
        results.append((i.sum_addr, i.sum_stride, rounded_sum(z, parameters, clipping)))
    if i.normalise:
        options = {"epsilon": i.epsilon, "out_shift": i.out_shift, "centre": bool(i.centre)}
        result = normalise(z, parameters, **options, clip=clipping)
        results.append((i.out_addr, i.out_stride, result))
    chip.tally(i, clipping.elements)
    for addr, stride, result in results:
        _write(chip, i, addr, stride, result)
    # the last one written is the one that counts
    chip.rowstat[chip.stat_rows(i.rowstat, i.rows + 1)] = np.abs(result).max(1)


def elementwise(chip: OnChip, i: Instruction) -> None:
    """``C = round((Y o X) / 2**shift)`` on the first ``count`` elements of each row, saturated to
    int16, or by ``out_mode`` ACT8 to +-127.

    Elements beyond ``count`` become 0. With ``stats`` ``rowstat[rowstat + m]`` becomes the maximum
    magnitude of the row. C may overwrite Y or X row by row. ``tally`` counts the elements that were
    clipped.
    """
    clipping = Clipping()
    result = combine(
        _rows(chip, i, "y"),
        _rows(chip, i, "x"),
        i.operation,
        shift=i.shift,
        bits=8 if i.out_mode == OutMode.ACT8 else 16,
        clip=clipping,
    )
    chip.tally(i, clipping.elements)
    _write(chip, i, i.out_addr, i.out_stride, result)
    if i.stats:
        chip.rowstat[chip.stat_rows(i.rowstat, i.rows + 1)] = np.abs(result).max(1)


def _rows(chip: OnChip, i: Instruction, operand: str) -> np.ndarray:
    """The first ``count`` elements of the rows of an operand, int64."""
    addr, stride = getattr(i, f"{operand}_addr"), getattr(i, f"{operand}_stride")
    rows = chip.read_act(addr, stride, i.rows + 1, i.words)
    return rows[:, : i.count].astype(np.int64)


def _write(chip: OnChip, i: Instruction, addr: int, stride: int, result: np.ndarray) -> None:
    """Rows of ``count`` elements to whole words."""
    rows = i.rows + 1
    padded = np.pad(result, ((0, 0), (0, i.words * chip.tile - i.count)))
    index = chip.act_rows(addr, stride, rows, i.words)
    chip.act[index] = padded.reshape(rows, i.words, chip.tile)


def _parameters(chip: OnChip, i: Instruction) -> NormParameters:
    units = i.param * RECORD_BYTES + np.arange(i.words * RECORD_BYTES)
    channels = vars(unpack_norm_parameters(chip.vparam[units]))
    return NormParameters(**{name: values[: i.count] for name, values in channels.items()})
