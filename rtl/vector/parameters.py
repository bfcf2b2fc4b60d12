"""LayerNorm parameters on chip, in distributed RAM, read ``vector_lanes`` channels at a time."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.layouts import RECORD_BYTES
from transept.rtl.arith.fixed import index_bits

__all__ = ["ParameterMemory", "vparam_write"]

#: First byte and bits of each stored piece; none crosses a half record, the smallest unit written.
_PIECES = {
    "gamma": (0, 18),
    "beta_low": (3, 8),
    "beta_high": (4, 16),
    "y_shift": (6, 4),
    "x_shift": (7, 4),
}


def vparam_write(cfg: Config) -> wiring.Signature:
    """Write port of the parameters: ``tile`` bytes, addressed in units of ``tile`` bytes; never
    refused. A channel is 8 bytes, see ``golden.layouts.pack_norm_parameters``."""
    units = cfg.geometry.max_hidden * RECORD_BYTES // cfg.tile
    return wiring.Signature(
        {"en": Out(1), "addr": Out(index_bits(units)), "data": Out(8 * cfg.tile)}
    )


class ParameterMemory(wiring.Component):
    """Parameters of ``max_hidden`` channels; row r holds channels r * lanes to r * lanes + lanes-1.

    Reads are combinational, so that each field can be read when its stage needs it.

    Members
    -------
    write : In(vparam_write)
    shift_row, gamma_row, beta_row : In, rows to read
    y_shift, x_shift : Out(4 bits)[lanes]; gamma : Out(18 bits)[lanes]; beta : Out(24 bits)[lanes]

    Raises
    ------
    ValueError
        If a written unit is longer than a row.
    """

    def __init__(self, cfg: Config) -> None:
        lanes = cfg.engines.vector_lanes
        if cfg.tile > RECORD_BYTES * lanes:
            raise ValueError(
                f"vector_lanes={lanes} must be at least tile / {RECORD_BYTES}: "
                "a written word lies within one row of parameters"
            )
        self._cfg, self._rows = cfg, cfg.geometry.max_hidden // lanes
        row = index_bits(self._rows)
        super().__init__(
            {
                "write": In(vparam_write(cfg)),
                "shift_row": In(row),
                "gamma_row": In(row),
                "beta_row": In(row),
                "y_shift": Out(data.ArrayLayout(4, lanes)),
                "x_shift": Out(data.ArrayLayout(4, lanes)),
                "gamma": Out(data.ArrayLayout(18, lanes)),
                "beta": Out(data.ArrayLayout(24, lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.y_shift.eq(self._piece(m, "y_shift", self.shift_row)),
            self.x_shift.eq(self._piece(m, "x_shift", self.shift_row)),
            self.gamma.eq(self._piece(m, "gamma", self.gamma_row)),
        ]
        beta_low = self._piece(m, "beta_low", self.beta_row)
        beta_high = self._piece(m, "beta_high", self.beta_row)
        m.d.comb += [
            beta.eq(Cat(low, high))
            for beta, low, high in zip(self.beta, beta_low, beta_high, strict=True)
        ]
        return m

    def _piece(self, m: Module, name: str, row: Signal) -> data.View:
        """One memory of a piece of every channel, written lane by lane; its row ``row``."""
        tile, lanes = self._cfg.tile, self._cfg.engines.vector_lanes
        first, bits = _PIECES[name]
        layout = data.ArrayLayout(bits, lanes)
        # block RAM is what the scratchpads take most of
        m.submodules[name] = storage = memory.Memory(
            shape=layout, depth=self._rows, init=[], attrs={"ram_style": "distributed"}
        )
        write, read = storage.write_port(granularity=1), storage.read_port(domain="comb")
        units = RECORD_BYTES * lanes // tile  # written units in a row, a power of two
        unit = self.write.addr[: units.bit_length() - 1]
        m.d.comb += [read.addr.eq(row), write.addr.eq(self.write.addr >> len(unit))]
        for lane in range(lanes):
            byte = RECORD_BYTES * lane + first
            m.d.comb += [
                write.en[lane].eq(self.write.en & (unit == byte // tile)),
                write.data[lane].eq(self.write.data.bit_select(8 * (byte % tile), bits)),
            ]
        return read.data
