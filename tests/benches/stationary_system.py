"""The stationary loader in front of the array, with the ports that are left open."""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from transept.golden.config import Config
from transept.rtl.gemm.array import SystolicArray
from transept.rtl.gemm.stationary import StationaryLoader
from transept.rtl.gemm.streamer import RowStreamer

__all__ = ["LoaderAndArray"]

WEIGHTS = ("weight_en", "weight_index", "weight_word")
INPUTS = ("row", "row_valid", "row_swap")


class LoaderAndArray(wiring.Component):
    """Members: tiles, read, tile_ready, tile_taken, sums_slot, sums_wanted of the loader and its
    sums as ``columns``; all of the array but its weights."""

    ENTRY_DELAY = RowStreamer.ENTRY_DELAY

    def __init__(self, cfg: Config) -> None:
        self._loader = StationaryLoader(cfg, entry_delay=self.ENTRY_DELAY)
        self._array = SystolicArray(cfg)
        loader, array = self._loader.signature.members, self._array.signature.members
        names = ("tiles", "read", "tile_ready", "tile_taken", "sums_slot", "sums_wanted")
        super().__init__(
            {name: loader[name] for name in names}
            | {"columns": loader["sums"]}
            | {name: array[name] for name in (*INPUTS, "sums", "sums_valid")}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.loader = loader = self._loader
        m.submodules.array = array = self._array
        connect(m, flipped(self.tiles), loader.tiles)
        connect(m, flipped(self.read), loader.read)
        connect(m, flipped(self.columns), loader.sums)
        m.d.comb += [getattr(array, name).eq(getattr(loader, name)) for name in WEIGHTS]
        m.d.comb += [getattr(array, name).eq(getattr(self, name)) for name in INPUTS]
        m.d.comb += [a.eq(b) for a, b in zip(self.sums, array.sums, strict=True)]
        m.d.comb += [
            self.sums_valid.eq(array.sums_valid),
            self.tile_ready.eq(loader.tile_ready),
            loader.tile_taken.eq(self.tile_taken),
            loader.sums_slot.eq(self.sums_slot),
            loader.sums_wanted.eq(self.sums_wanted),
        ]
        return m
