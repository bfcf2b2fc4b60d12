"""Channel parameters of the next job, fetched while the job before drains."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.layouts import CHANNEL_RECORD, RECORD_BYTES
from transept.rtl.arith.pipeline import delay
from transept.rtl.gemm.descriptors import job_layout
from transept.rtl.interfaces import STAT_READ_LATENCY, record_layout, stat_read

__all__ = ["CHANNEL", "ParameterFetch", "prepared_layout"]

#: Parameters of one channel.
CHANNEL = record_layout(CHANNEL_RECORD)


def prepared_layout(cfg: Config) -> data.StructLayout:
    """A job and the parameters of its ``tile`` channels."""
    return data.StructLayout(
        {"job": job_layout(cfg), "channels": data.ArrayLayout(CHANNEL, cfg.tile)}
    )


class ParameterFetch(wiring.Component):
    """Adds to each job its channel parameters, read from STAT or, if ``immediate``, its own.

    Holds one job; 8 reads and STAT_READ_LATENCY cycles a job.

    Members
    -------
    jobs : In(stream of job_layout)
    read : Out(stat_read); requests may be refused for any number of cycles
    prepared : Out(stream of prepared_layout)
    """

    jobs: stream.Interface
    read: wiring.PureInterface
    prepared: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(cfg))),
                "read": Out(stat_read(cfg)),
                "prepared": Out(stream.Signature(prepared_layout(cfg))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = RECORD_BYTES  # a tile of channels is as many words as a record has bytes
        word_bits = 8 * self._cfg.tile
        busy, asking = Signal(), Signal()
        addr = Signal(self.jobs.payload.param.shape())
        asked, filled = Signal(range(words)), Signal(range(words + 1))
        job, channels = self.prepared.payload.job, self.prepared.payload.channels.as_value()

        record = Cat(job.multiplier, job.channel_shift, Const(0, 8 * RECORD_BYTES - 21))
        repeated = record.replicate(-(-word_bits // len(record)))
        own_word = repeated.word_select(filled % (len(repeated) // word_bits), word_bits)

        asks = self.read.en & self.read.ready
        arrives = delay(m, asks, STAT_READ_LATENCY)
        fills = Mux(job.immediate, busy & (filled != words), arrives)
        m.d.comb += [
            self.jobs.ready.eq(~busy),
            self.prepared.valid.eq(busy & (filled == words)),
            self.read.en.eq(asking),
            self.read.addr.eq(addr),
        ]
        with m.If(asks):
            m.d.sync += [
                asked.eq(asked + 1),
                addr.eq(addr + 1),
                asking.eq(asked != words - 1),
            ]
        with m.If(fills):
            word = Mux(job.immediate, own_word, self.read.data.as_value())
            m.d.sync += [filled.eq(filled + 1), channels.eq(Cat(channels[word_bits:], word))]
        with m.If(self.prepared.valid & self.prepared.ready):
            m.d.sync += busy.eq(0)
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [
                job.eq(self.jobs.payload),
                addr.eq(self.jobs.payload.param),
                asking.eq(~self.jobs.payload.immediate),
                asked.eq(0),
                filled.eq(0),
                busy.eq(1),
            ]
        return m
