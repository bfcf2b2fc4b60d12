"""A serial line under cocotb: bytes to a pin with gaps and damage, bytes from a pin."""

from cocotb.triggers import RisingEdge


class SerialLine:
    """Sends on ``dut.rx`` and collects what comes on ``dut.tx``, ``cycles`` of the clock a bit."""

    def __init__(self, dut, cycles):
        self._dut, self._cycles = dut, cycles
        self.received = bytearray()
        self.quiet = 0  # cycles since the last byte ended
        dut.rx.value = 1

    async def listen(self):
        """Collect bytes for ever."""
        while True:
            await RisingEdge(self._dut.clk)
            self.quiet += 1
            if int(self._dut.tx.value):
                continue
            await self._cycles_pass(self._cycles + self._cycles // 2)
            byte = 0
            for bit in range(8):
                byte |= int(self._dut.tx.value) << bit
                await self._cycles_pass(self._cycles)
            assert int(self._dut.tx.value), "a byte has no stop bit"
            self.received.append(byte)
            self.quiet = 0

    async def _cycles_pass(self, count):
        for _ in range(count):
            await RisingEdge(self._dut.clk)

    async def send(self, byte, gap=0, stop=1):
        """One byte, after so many cycles; without a stop bit it is damaged."""
        await self._cycles_pass(gap)
        for bit in (0, *(byte >> i & 1 for i in range(8)), stop):
            self._dut.rx.value = bit
            await self._cycles_pass(self._cycles)
        if not stop:
            self._dut.rx.value = 1
            await self._cycles_pass(2 * self._cycles)

    async def rest(self, cycles):
        """Until nothing has come for so long."""
        self.quiet = 0
        while self.quiet < cycles:
            await RisingEdge(self._dut.clk)
