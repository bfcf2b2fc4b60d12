"""Loads stationary tiles into the shadow weights of the array while the pass before streams."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.hdl import signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.gemm.array import load_lead
from transept.rtl.gemm.descriptors import tile_layout
from transept.rtl.interfaces import STAT_READ_LATENCY, stat_read, stat_word

__all__ = ["StationaryLoader", "column_sums_layout"]


def column_sums_layout(cfg: Config) -> data.ArrayLayout:
    """Sum of each column over the stationary tiles of one group (up to ``max_keys`` rows)."""
    return data.ArrayLayout(signed(8 + (cfg.max_keys - 1).bit_length()), cfg.tile)


class StationaryLoader(wiring.Component):
    """Reads tiles from the stationary scratchpad and writes them into the array, in order.

    Several tiles are read ahead; one tile every ``tile`` cycles is sustained, whatever the number
    of rows of a pass. ``entry_delay`` is the number of cycles from ``tile_taken`` to the entry of
    the first row of the pass (with ``row_swap``) into the array; it must be the same for
    every pass. All handshakes happen that much ahead, so the depth of the streamer's
    pipeline costs no time.

    Members
    -------
    tiles : In(stream of tile_layout), one for each pass
    read : Out(stat_read); requests may be refused for any number of cycles
    tile_ready : Out(1)
        A pass may be started now: its tile will be in place when its first row arrives. Stays high
        until ``tile_taken``.
    tile_taken : In(1)
        A pass starts in this cycle; only while ``tile_ready``. The next tile is ready
        ``load_lead + 2`` cycles later at the earliest.
    weight_en, weight_index, weight_word : Out, to the ports of SystolicArray of the same name
    sums : Out(stream of column_sums_layout)
        One item for each group whose tiles have ``sums``, in order:
        ``sums[n] = sum over its tiles and over k of weight[k][n]``. It is offered soon after the
        last row of the group's last tile has been written to the array. A consumer that takes none
        stalls the loader only after ``acc_slots`` such groups.
    """

    tiles: stream.Interface
    read: wiring.PureInterface
    tile_ready: Signal
    tile_taken: Signal
    weight_en: Signal
    weight_index: Signal
    weight_word: data.View
    sums: stream.Interface

    def __init__(self, cfg: Config, *, entry_delay: int) -> None:
        self._cfg, self._delay = cfg, entry_delay
        super().__init__(
            {
                "tiles": In(stream.Signature(tile_layout(cfg))),
                "read": Out(stat_read(cfg)),
                "tile_ready": Out(1),
                "tile_taken": In(1),
                "weight_en": Out(1),
                "weight_index": Out(range(cfg.tile)),
                "weight_word": Out(stat_word(cfg)),
                "sums": Out(stream.Signature(column_sums_layout(cfg))),
            }
        )
