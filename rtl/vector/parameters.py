"""Norm parameters on chip, in block RAM, read ``vector_lanes`` channels at a time."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.hdl import Shape
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.layouts import NORM_RECORD, RECORD_BYTES
from transept.rtl.arith.fixed import index_bits

__all__ = ["PARAMETER_READ_LATENCY", "ParameterMemory", "vparam_write"]

#: Cycles from a row to its parameters.
PARAMETER_READ_LATENCY = 1

#: What is stored together, each piece as (lowest bit of the record, bits); no piece crosses a half
#: record, the smallest unit that is written, and a byte enable of a block RAM has nine bits.
_SHIFTS, _GAMMA, _BETA_LOW, _BETA_HIGH = (48, 16), (0, 18), (24, 8), (32, 16)


def vparam_write(cfg: Config) -> wiring.Signature:
    """Write port of the parameters: ``tile`` bytes, addressed in units of ``tile`` bytes; never
    refused. A channel is 8 bytes, see ``golden.layouts.pack_norm_parameters``."""
    units = cfg.geometry.max_hidden * RECORD_BYTES // cfg.tile
    return wiring.Signature(
        {"en": Out(1), "addr": Out(index_bits(units)), "data": Out(8 * cfg.tile)}
    )


class ParameterMemory(wiring.Component):
    """Parameters of ``max_hidden`` channels; row r holds channels r * lanes to r * lanes + lanes-1.

    Each field can be read when its stage needs it, PARAMETER_READ_LATENCY after its row is given.

    Members
    -------
    write : In(vparam_write)
    shift_row, gamma_row, beta_row : In, rows to read
    y_shift, x_shift, sum_shift : Out(4 bits)[lanes]; gamma : Out(signed(18))[lanes]
    beta : Out(signed(24))[lanes]

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
        fields = {
            name: Out(data.ArrayLayout(Shape(field.width, field.signed), lanes))
            for name, field in NORM_RECORD.items()
        }
        super().__init__(
            {
                "write": In(vparam_write(cfg)),
                "shift_row": In(row),
                "gamma_row": In(row),
                "beta_row": In(row),
                **fields,
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shifts = self._piece(m, "shifts", _SHIFTS, self.shift_row)
        gammas = self._piece(m, "gamma", _GAMMA, self.gamma_row)
        low = self._piece(m, "beta_low", _BETA_LOW, self.beta_row)
        high = self._piece(m, "beta_high", _BETA_HIGH, self.beta_row)
        for lane in range(self._cfg.engines.vector_lanes):
            m.d.comb += [
                self.gamma[lane].eq(gammas[lane]),
                self.beta[lane].eq(Cat(low[lane], high[lane])),
            ]
            for name in ("y_shift", "x_shift", "sum_shift"):
                field = NORM_RECORD[name]
                m.d.comb += getattr(self, name)[lane].eq(
                    shifts[lane].bit_select(field.low - _SHIFTS[0], field.width)
                )
        return m

    def _piece(self, m: Module, name: str, place: tuple[int, int], row: Signal) -> data.View:
        """One memory of a piece of every channel, written lane by lane; its row ``row``."""
        tile, lanes = self._cfg.tile, self._cfg.engines.vector_lanes
        first, bits = place
        layout = data.ArrayLayout(bits, lanes)
        m.submodules[name] = storage = memory.Memory(
            shape=layout, depth=self._rows, init=[], attrs={"ram_style": "block"}
        )
        write, read = storage.write_port(granularity=1), storage.read_port()
        units = RECORD_BYTES * lanes // tile  # written units in a row, a power of two
        unit = self.write.addr[: units.bit_length() - 1]
        m.d.comb += [read.addr.eq(row), write.addr.eq(self.write.addr >> len(unit))]
        for lane in range(lanes):
            start = 8 * RECORD_BYTES * lane + first
            m.d.comb += [
                write.en[lane].eq(self.write.en & (unit == start // (8 * tile))),
                write.data[lane].eq(self.write.data.bit_select(start % (8 * tile), bits)),
            ]
        return read.data
