"""An AXI4 memory and stream drivers for components under the Amaranth simulator."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from typing import Any

from amaranth.sim import Simulator

PERIOD = 1e-8


def simulate(dut: Any, *benches: Any, background: Iterable[Any] = (), cycles: int) -> None:
    """Run every bench to its end; fail if one still waits after ``cycles``."""
    unfinished = {bench.__name__ for bench in benches}

    def watched(bench: Any) -> Any:
        async def wrapper(ctx: Any) -> None:
            await bench(ctx)
            unfinished.discard(bench.__name__)
            if not unfinished:
                simulation_over.append(True)

        return wrapper

    simulation_over: list[bool] = []
    sim = Simulator(dut)
    sim.add_clock(PERIOD)
    for bench in benches:
        sim.add_testbench(watched(bench))
    for bench in background:
        sim.add_testbench(bench, background=True)
    step = 200
    for start in range(0, cycles, step):
        sim.run_until((start + step) * PERIOD)
        if simulation_over:
            return
    raise TimeoutError(f"still waiting after {cycles} cycles: {', '.join(sorted(unfinished))}")


async def put(ctx: Any, port: Any, item: Any) -> None:
    """Offer one item on a stream until it is accepted."""
    ctx.set(port.payload, item)
    ctx.set(port.valid, 1)
    while True:
        _, _, ready = await ctx.tick().sample(port.ready)
        if ready:
            break
    ctx.set(port.valid, 0)


class AxiMemory:
    """``size`` bytes behind AXI4; every choice of pace is random with probability ``stall``."""

    def __init__(
        self, size: int, beat_bytes: int, *, latency: int = 5, stall: float = 0.0, seed: int = 0
    ) -> None:
        self.rng = random.Random(seed)
        self.bytes = bytearray(self.rng.randbytes(size))
        self.beat_bytes, self.latency, self.stall = beat_bytes, latency, stall
        self.bursts: list[tuple[str, int, int]] = []  # letter, address, beats
        self.most_outstanding = 0
        self.responses: dict[str, int] = {"r": 0, "b": 0}  # response codes to give

    def _pace(self) -> bool:
        return self.rng.random() >= self.stall

    def _burst(self, letter: str, address: int, length: int) -> None:
        beats = length + 1
        end = address + beats * self.beat_bytes
        assert beats <= 16
        assert address % self.beat_bytes == 0
        assert address // 4096 == (end - 1) // 4096, "burst crosses 4 KiB"
        assert end <= len(self.bytes), "burst outside the memory"
        self.bursts.append((letter, address, beats))

    def reads(self, axi: Any) -> Any:
        """The process of the read channels."""

        async def serve(ctx: Any) -> None:
            waiting: deque[tuple[int, int, int]] = deque()  # cycle, address, beats left
            cycle, offered = 0, False
            while True:
                ready = self._pace()
                ctx.set(axi.arready, ready)
                if not offered and waiting and waiting[0][0] <= cycle and self._pace():
                    _, address, left = waiting[0]
                    chunk = self.bytes[address : address + self.beat_bytes]
                    ctx.set(axi.rdata, int.from_bytes(chunk, "little"))
                    ctx.set(axi.rlast, left == 1)
                    ctx.set(axi.rresp, self.responses["r"])
                    offered = True
                ctx.set(axi.rvalid, offered)
                _, _, valid, address, length, taken = await ctx.tick().sample(
                    axi.arvalid, axi.araddr, axi.arlen, axi.rready
                )
                cycle += 1
                if offered and taken:
                    due, at, left = waiting.popleft()
                    if left > 1:
                        waiting.appendleft((due, at + self.beat_bytes, left - 1))
                    offered = False
                if valid and ready:
                    self._burst("r", address, length)
                    waiting.append((cycle + self.latency, address, length + 1))
                    self.most_outstanding = max(self.most_outstanding, len(waiting))

        return serve

    def writes(self, axi: Any) -> Any:
        """The process of the write channels."""

        async def serve(ctx: Any) -> None:
            addresses: deque[tuple[int, int]] = deque()
            answers: deque[int] = deque()
            data: deque[tuple[int, int, int]] = deque()
            cycle, done = 0, 0
            offered = False
            while True:
                ready, wready = self._pace(), self._pace() and len(data) < 20
                ctx.set(axi.awready, ready)
                ctx.set(axi.wready, wready)
                if not offered and answers and answers[0] <= cycle and self._pace():
                    offered = True
                ctx.set(axi.bvalid, offered)
                ctx.set(axi.bresp, self.responses["b"])
                _, _, valid, address, length, wvalid, *beat, taken = await ctx.tick().sample(
                    axi.awvalid,
                    axi.awaddr,
                    axi.awlen,
                    axi.wvalid,
                    axi.wdata,
                    axi.wstrb,
                    axi.wlast,
                    axi.bready,
                )
                cycle += 1
                if offered and taken:
                    answers.popleft()
                    offered = False
                if valid and ready:
                    self._burst("w", address, length)
                    addresses.append((address, length + 1))
                if wvalid and wready:
                    data.append(tuple(beat))
                while addresses and data:
                    address, beats = addresses[0]
                    value, strobe, last = data.popleft()
                    assert last == (done + 1 == beats)
                    if strobe:
                        at = address + done * self.beat_bytes
                        chunk = value.to_bytes(self.beat_bytes, "little")
                        self.bytes[at : at + self.beat_bytes] = chunk
                    done += 1
                    if last:
                        addresses.popleft()
                        answers.append(cycle + self.latency)
                        done = 0

        return serve
