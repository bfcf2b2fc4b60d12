"""Every channel of a bus passes its registers, whole, in order and in its direction."""

import random

import pytest
from memory_model import simulate

from transept.golden.config import TINY
from transept.rtl.interfaces import axi4
from transept.rtl.link.axi_slice import AxiSlice

COUNT = 60
CHANNELS = {
    channel: {
        name: member.shape
        for name, member in axi4(TINY).members.items()
        if name.startswith(channel) and name not in (f"{channel}valid", f"{channel}ready")
    }
    for channel in ("aw", "w", "b", "ar", "r")
}


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_a_channel(channel, rate):
    dut, rng = AxiSlice(TINY), random.Random(1)
    source, sink = (dut.o, dut.i) if channel in "br" else (dut.i, dut.o)
    sent = [
        {name: rng.getrandbits(width) for name, width in CHANNELS[channel].items()}
        for _ in range(COUNT)
    ]
    cycles = []

    async def offer(ctx):
        for beat in sent:
            while rng.random() >= rate:
                await ctx.tick()
            for name, value in beat.items():
                ctx.set(getattr(source, name), value)
            ctx.set(getattr(source, f"{channel}valid"), 1)
            taken = 0
            while not taken:
                _, _, taken = await ctx.tick().sample(getattr(source, f"{channel}ready"))
            ctx.set(getattr(source, f"{channel}valid"), 0)

    async def take(ctx):
        valid, ready = (getattr(sink, f"{channel}{name}") for name in ("valid", "ready"))
        values = [getattr(sink, name) for name in CHANNELS[channel]]
        got = []
        while len(got) < COUNT:
            ctx.set(ready, int(rng.random() < rate))
            _, _, there, took, *found = await ctx.tick().sample(valid, ready, *values)
            if there and took:
                got.append(dict(zip(CHANNELS[channel], found, strict=True)))
            cycles.append(1)
        assert got == sent

    simulate(dut, offer, take, cycles=1000)
    assert rate < 1.0 or len(cycles) == COUNT + 1  # a beat a cycle


def test_every_member_is_of_a_channel():
    handshakes = {f"{channel}{name}" for channel in CHANNELS for name in ("valid", "ready")}
    assert set(axi4(TINY).members) == handshakes.union(*CHANNELS.values())
