"""The selection memory: which key tiles the filter kept, for every block of query rows."""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config

__all__ = ["SelectionMemory", "selection_read", "selection_write"]


def _entry_bits(cfg: Config) -> int:
    return max(1, (cfg.query_blocks - 1).bit_length())


def selection_read(cfg: Config) -> wiring.Signature:
    """Read port as seen by the reader: bit t of ``bitmap`` is key tile t of the entry that ``addr``
    named one cycle ago."""
    return wiring.Signature({"addr": Out(_entry_bits(cfg)), "bitmap": In(cfg.key_tiles)})


def selection_write(cfg: Config) -> wiring.Signature:
    """Write port as seen by the writer; never refused, seen by reads from the next cycle on."""
    return wiring.Signature(
        {"en": Out(1), "addr": Out(_entry_bits(cfg)), "bitmap": Out(cfg.key_tiles)}
    )


class SelectionMemory(wiring.Component):
    """``query_blocks`` bitmaps of key tiles, written by SCORES, read by CONTEXT and by the softmax.

    Members
    -------
    write : In(selection_write)
    context, softmax : In(selection_read)
    """

    write: wiring.PureInterface
    context: wiring.PureInterface
    softmax: wiring.PureInterface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "write": In(selection_write(cfg)),
                "context": In(selection_read(cfg)),
                "softmax": In(selection_read(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.memory = entries = memory.Memory(
            shape=cfg.key_tiles, depth=1 << _entry_bits(cfg), init=[]
        )
        write = entries.write_port()
        m.d.comb += [
            write.en.eq(self.write.en),
            write.addr.eq(self.write.addr),
            write.data.eq(self.write.bitmap),
        ]
        for reader in (self.context, self.softmax):
            port = entries.read_port(domain="comb")
            m.d.comb += port.addr.eq(reader.addr)
            m.d.sync += reader.bitmap.eq(port.data)
        return m
