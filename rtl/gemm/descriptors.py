"""What the sequencer tells the other parts of the GEMM engine: tiles, passes and jobs."""

from __future__ import annotations

from amaranth.hdl import Cat, Value, signed
from amaranth.lib import data, enum

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.rtl.arith.fixed import index_bits
from transept.rtl.interfaces import operand

__all__ = [
    "Statistic",
    "band_layout",
    "band_row",
    "job_layout",
    "pass_layout",
    "slot_bits",
    "tile_layout",
]


class Statistic(enum.Enum, shape=2):
    """What the epilogue collects for each row."""

    NONE = 0
    MAGNITUDE = 1  # maximum of |y|
    MAXIMUM = 2  # maximum of the kept y, signed; -32768 if none


def slot_bits(cfg: Config) -> int:
    """Bits of an accumulator slot number; bit 0 is the bank."""
    return (2 * cfg.geometry.acc_slots - 1).bit_length()


def tile_layout(cfg: Config) -> data.StructLayout:
    """One stationary tile (sequencer -> stationary loader).

    Word i of the tile is at ``addr + i * row_stride``. ``begins`` and ``ends`` bound the tiles that
    follow each other for one group, whose slot is ``slot``; ``first`` opens the slot, and a group
    that ``finishes`` is complete with the tile that ends it. With ``sums`` the loader adds up the
    columns of the group's tiles.
    """
    return data.StructLayout(
        {
            "addr": operand(Opcode.MATMUL, "b_addr"),
            "row_stride": operand(Opcode.MATMUL, "b_row"),
            "transposed": 1,
            "slot": slot_bits(cfg),
            "begins": 1,
            "ends": 1,
            "first": 1,
            "finishes": 1,
            "sums": 1,
        }
    )


def pass_layout(cfg: Config) -> data.StructLayout:
    """Rows that stream against one tile (sequencer -> row streamer).

    Row m is at ``addr + m * stride``, its statistic at ``rowstat + m``. In ``halves`` each row
    streams twice, its lower half first, and ``rows`` counts both. ``first`` overwrites the
    accumulators of ``slot``, ``last`` completes the group and latches the row scales beside them.
    ``observe``: the rows go to the key filter and not to the array (no tile belongs to it).
    ``retire`` ends an instruction that has no job (without ``finish``).
    """
    return data.StructLayout(
        {
            "addr": operand(Opcode.MATMUL, "a_addr"),
            "stride": operand(Opcode.MATMUL, "a_stride"),
            "rows": operand(Opcode.MATMUL, "rows"),  # minus one
            "mode": operand(Opcode.MATMUL, "a_mode"),  # isa.AMode
            "halves": 1,
            "row_scale": operand(Opcode.MATMUL, "row_scale"),  # isa.RowScale
            "rowstat": operand(Opcode.MATMUL, "a_rowstat"),
            "slot": slot_bits(cfg),
            "first": 1,
            "last": 1,
            "observe": 1,
            "retire": 1,
        }
    )


def band_layout(cfg: Config) -> data.StructLayout:
    """Which scores of a tile are kept: those between two diagonals, of keys up to ``last``.

    Key j of query row r is kept if ``lower <= j - r <= upper`` and ``j <= last``. ``upper`` of
    ``-tile`` keeps none, ``upper`` of ``tile - 1`` and ``lower`` of ``-tile`` keep all.
    """
    diagonal = signed(index_bits(cfg.tile) + 1)
    return data.StructLayout({"upper": diagonal, "lower": diagonal, "last": range(cfg.tile)})


def band_row(cfg: Config, band: data.View, row: Value) -> Value:
    """One bit for each key: whether query row ``row`` of the block keeps it."""
    upper, lower = row + band.upper, row + band.lower
    return Cat((upper >= j) & (lower <= j) & (band.last >= j) for j in range(cfg.tile))


def job_layout(cfg: Config) -> data.StructLayout:
    """One finished group (sequencer -> epilogue)."""
    return data.StructLayout(
        {
            "rows": operand(Opcode.MATMUL, "rows"),  # minus one
            "halves": 1,  # two accumulator rows make one
            "slot": slot_bits(cfg),
            # word of row 0; row m is at out_addr + m * out_stride
            "out_addr": operand(Opcode.MATMUL, "out_addr"),
            "out_stride": operand(Opcode.MATMUL, "out_stride"),
            "out_mode": operand(Opcode.MATMUL, "out_mode"),  # isa.OutMode
            "immediate": 1,  # multiplier/channel_shift for every channel, bias 0; else from STAT
            "multiplier": operand(Opcode.SCORES, "multiplier"),
            "channel_shift": operand(Opcode.SCORES, "channel_shift"),
            "param": operand(Opcode.MATMUL, "param"),  # STAT address of the channel parameters
            "pre": operand(Opcode.MATMUL, "pre"),
            "row_shift": operand(Opcode.MATMUL, "row_shift"),
            "out_shift": operand(Opcode.MATMUL, "out_shift"),
            "columns": 1,  # add 127 * column sums of the stationary tiles to the accumulators
            "activation": 1,
            "masked": 1,  # scores: what the band does not keep becomes -32768
            "band": band_layout(cfg),
            "statistic": Statistic,
            "keep": 1,  # combine with the statistic found in rowstat (else replace it)
            "rowstat": operand(Opcode.MATMUL, "out_rowstat"),  # entry of row 0
            "observe": 1,  # the words are keys: add them to the summaries
            "phase": index_bits(cfg.tile),  # place of row 0 in its key tile
            "summary": index_bits(cfg.key_summaries),  # of the first key tile
            "tally": operand(Opcode.MATMUL, "tally"),  # who counts what is clipped
            "retire": 1,  # the last job of its instruction
        }
    )
