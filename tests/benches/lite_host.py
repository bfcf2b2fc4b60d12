"""An AXI4-Lite master for Amaranth's simulator."""

__all__ = ["Host"]


class Host:
    """An AXI-Lite master with random delays on every channel."""

    def __init__(self, ctx, bus, rng, patience):
        self.ctx, self.bus, self.rng, self.patience = ctx, bus, rng, patience

    async def pause(self):
        while self.rng.random() < self.patience:
            await self.ctx.tick()

    async def offer(self, channel, **values):
        for name, value in values.items():
            self.ctx.set(getattr(self.bus, name), value)
        self.ctx.set(getattr(self.bus, f"{channel}valid"), 1)
        await self.until(getattr(self.bus, f"{channel}ready"))
        self.ctx.set(getattr(self.bus, f"{channel}valid"), 0)

    async def until(self, flag, *values):
        for _ in range(100):
            _, _, high, *sampled = await self.ctx.tick().sample(flag, *values)
            if high:
                return sampled
        raise TimeoutError("no answer")

    async def accept(self, channel, *names):
        await self.pause()
        self.ctx.set(getattr(self.bus, f"{channel}ready"), 1)
        values = [getattr(self.bus, name) for name in names]
        sampled = await self.until(getattr(self.bus, f"{channel}valid"), *values)
        self.ctx.set(getattr(self.bus, f"{channel}ready"), 0)
        return sampled

    async def write(self, addr, data, strobe=15):
        parts = [("aw", {"awaddr": addr}), ("w", {"wdata": data, "wstrb": strobe})]
        self.rng.shuffle(parts)
        for channel, values in parts:
            await self.pause()
            await self.offer(channel, **values)
        return (await self.accept("b", "bresp"))[0]

    async def read(self, addr):
        await self.pause()
        await self.offer("ar", araddr=addr)
        return tuple(await self.accept("r", "rdata", "rresp"))
