"""What the sequencer tells the other parts of the GEMM engine: tiles, passes and jobs."""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data, enum

from transept.golden.config import Config

__all__ = ["Statistic", "job_layout", "observation_layout", "pass_layout", "tile_layout"]


class Statistic(enum.Enum, shape=2):
    """What the epilogue collects for each row."""

    NONE = 0
    MAGNITUDE = 1  # maximum of |y|
    MAXIMUM = 2  # maximum of the kept y, signed; -32768 if none


def tile_layout(cfg: Config) -> data.StructLayout:
    """One stationary tile (sequencer -> stationary loader).

    Word i of the tile is at ``addr + i * row_stride``. ``first``/``last`` bound a group; with
    ``sums`` the loader offers the column sums of the group's tiles to the epilogue after ``last``.
    """
    return data.StructLayout(
        {"addr": 16, "row_stride": 16, "transposed": 1, "first": 1, "last": 1, "sums": 1}
    )


def slot_bits(cfg: Config) -> int:
    """Bits of an accumulator slot number; bit 0 is the bank."""
    return (2 * cfg.geometry.acc_slots - 1).bit_length()


def pass_layout(cfg: Config) -> data.StructLayout:
    """Rows that stream against one tile (sequencer -> row streamer).

    Row m is at ``addr + m * stride``, its statistic at ``rowstat + m``. ``first`` overwrites the
    accumulators of ``slot``, ``last`` completes the group and latches the row scales beside them.
    ``observe``: the rows go to the key filter and not to the array (no tile belongs to it).
    ``retire`` ends an instruction that has no job (MATMUL without ``finish``).
    """
    return data.StructLayout(
        {
            "addr": 16,
            "stride": 12,
            "rows": 8,  # minus one
            "mode": 1,  # isa.AMode
            "row_scale": 2,  # isa.RowScale
            "rowstat": 12,
            "slot": slot_bits(cfg),
            "first": 1,
            "last": 1,
            "observe": 1,
            "retire": 1,
        }
    )


def job_layout(cfg: Config) -> data.StructLayout:
    """One finished group (sequencer -> epilogue)."""
    return data.StructLayout(
        {
            "rows": 8,  # minus one
            "slot": slot_bits(cfg),
            "out_addr": 16,  # word of row 0; row m is at out_addr + m * out_stride
            "out_stride": 16,
            "out_mode": 2,  # isa.OutMode
            "immediate": 1,  # multiplier/channel_shift for every channel, bias 0; else from STAT
            "multiplier": 16,
            "channel_shift": 5,
            "param": 16,  # STAT address of 8 words of channel parameters
            "pre": 4,
            "row_shift": 6,
            "out_shift": 4,
            "columns": 1,  # add 127 * column sums of the stationary tiles to the accumulators
            "activation": 1,
            "masked": 1,  # scores: mask bit row * tile + column; 0 gives -32768
            "mask": cfg.tile * cfg.tile,
            "statistic": Statistic,
            "keep": 1,  # combine with the statistic found in rowstat (else replace it)
            "rowstat": 12,  # entry of row 0
            "observe": 1,  # show the words to the key filter
            "column": 8,  # n tile, for the filter
            "retire": 1,  # the last job of its instruction
        }
    )


def observation_layout(cfg: Config) -> data.StructLayout:
    """One K word as it is written (epilogue -> filter, never refused).

    ``index`` names the summary of its key tile: ``((address of the tile's first row) - column) >>
    log2(tile)`` plus ``column``; K regions start at a multiple of ``tile`` words, ``d_tiles`` words
    a key. ``first`` marks the first key of a tile (row % tile == 0).
    """
    return data.StructLayout(
        {"index": 16, "first": 1, "word": data.ArrayLayout(signed(8), cfg.tile)}
    )
