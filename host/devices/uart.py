"""A board on a serial line: registers and memory in frames of ``golden.link``."""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from transept.golden import registers
from transept.golden.config import Config
from transept.golden.link import (
    MAX_WORDS,
    FrameReader,
    Kind,
    Request,
    Response,
    Status,
    encode_request,
)
from transept.host.devices.base import Allocator, Buffer, DeviceError, DeviceLostError

__all__ = ["BAUD", "Line", "LinkClient", "SerialPort", "UartDevice"]

BAUD = 1_000_000
#: Seconds in which a response must begin, and times that a request is sent.
ANSWER_S, ATTEMPTS = 0.5, 4
#: Seconds in which a port must take bytes.
TAKEN_S = 5.0
#: Seconds in which the counter of cycles must move while a program runs.
PATIENCE_S = 5.0


class Line(Protocol):
    """Bytes to a device and from it."""

    name: str

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def read(self, seconds: float) -> bytes:
        """What has come; empty if nothing comes within so many seconds."""

    def close(self) -> None:
        """Give the line back."""


class SerialPort:
    """A terminal device of Linux, such as ``/dev/ttyUSB0``, without any processing of its bytes.

    Raises
    ------
    DeviceError
        If it cannot be opened, or does not know the rate.
    """

    def __init__(self, path: str | Path, baud: int = BAUD) -> None:
        self.name = str(path)
        rate = getattr(termios, f"B{baud}", None)
        if rate is None:
            raise DeviceError(f"{self.name}: this system has no rate of {baud} baud")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise DeviceError(f"{self.name}: {error}") from None
        try:
            self._set(rate)
        except (OSError, termios.error) as error:
            self.close()
            raise DeviceError(f"{self.name}: {error}") from None

    def _set(self, rate: int) -> None:
        """Eight bits, one stop bit, no flow control: a former user may have left others."""
        tty.setraw(self._file)
        settings = termios.tcgetattr(self._file)
        settings[2] &= ~(termios.CRTSCTS | termios.CSTOPB)
        settings[2] |= termios.CLOCAL | termios.CREAD
        settings[4] = settings[5] = rate
        termios.tcsetattr(self._file, termios.TCSAFLUSH, settings)

    def write(self, data: bytes) -> None:
        """Send bytes.

        Raises
        ------
        TimeoutError
            If the port takes none for five seconds.
        """
        while data:
            if not select.select([], [self._file], [], TAKEN_S)[1]:
                raise TimeoutError(f"the port has taken no byte for {TAKEN_S:g} s")
            data = data[os.write(self._file, data) :]

    def read(self, seconds: float) -> bytes:
        """What has come; empty if nothing comes within so many seconds."""
        ready, _, _ = select.select([self._file], [], [], seconds)
        return os.read(self._file, 4096) if ready else b""

    def close(self) -> None:
        """Give the port back."""
        os.close(self._file)


class LinkClient:
    """Requests and their responses. One is sent again if no response begins within ``answer_s``
    seconds, or is whole within as many more."""

    def __init__(self, line: Line, answer_s: float = ANSWER_S) -> None:
        self._line, self._answer_s = line, answer_s
        self._sequence = 0

    def ask(
        self, kind: Kind, address: int, count: int, words: tuple[int, ...] = ()
    ) -> tuple[int, ...]:
        """The words of the response.

        Raises
        ------
        DeviceError
            If the device refuses; DeviceLostError if it does not answer.
        """
        # the first request has the sequence 0, which no write before it is taken for
        request = Request(kind, self._sequence, address, count, words)
        self._sequence = self._sequence % 255 + 1
        what = f"{self._line.name}: {kind.name.lower().replace('_', ' ')} at {address:#x}"
        for _ in range(ATTEMPTS):
            response = self._try(request, what)
            if response is None:
                continue
            if response.status != Status.OKAY:
                raise DeviceError(f"{what}: {response.status.name.lower().replace('_', ' ')}")
            return response.words
        raise DeviceLostError(
            f"{what}: no answer within {self._answer_s:g} s, asked {ATTEMPTS} times"
        )

    def _try(self, request: Request, what: str) -> Response | None:
        """The response to one sending; None if none comes in time."""
        reader = FrameReader()
        wanted = 0 if request.kind.writes else request.count
        try:
            self._line.write(encode_request(request))
            start = time.monotonic()
            limit = start + self._answer_s
            while (left := limit - time.monotonic()) > 0:
                data = self._line.read(left)
                for response in reader.feed(data):
                    right = response.status != Status.OKAY or len(response.words) == wanted
                    if response.sequence == request.sequence and right:
                        return response
                if data:  # it speaks: the rest may take as long again, and no longer
                    limit = start + 2 * self._answer_s
        except OSError as error:
            raise DeviceLostError(f"{what}: {error}") from None
        return None


class UartDevice(Allocator):
    """The accelerator on a serial line, with ``memory_bytes`` of memory at address 0.

    line: a terminal device, or whatever else moves bytes; answer_s: see ``LinkClient``.
    The host keeps a copy of the memory; ``flush`` and ``invalidate`` move buffers. ``wait`` polls.

    Raises
    ------
    DeviceError
        If the line cannot be opened; DeviceLostError, by every method too, if nothing answers.
    """

    name = "uart"

    def __init__(
        self,
        config: Config,
        *,
        line: Line | str | Path,
        memory_bytes: int,
        baud: int = BAUD,
        answer_s: float = ANSWER_S,
    ) -> None:
        self.config = config
        self._line = SerialPort(line, baud) if isinstance(line, str | Path) else line
        self._client = LinkClient(self._line, answer_s)
        super().__init__(np.zeros(memory_bytes, np.uint8), 0)
        try:
            self.read(registers.offset("ID"))  # the device forgets the last write of another host
        except DeviceError:
            self._line.close()
            raise

    def __enter__(self) -> UartDevice:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._line.close()

    # --- registers
    def read(self, offset: int) -> int:
        """The value of a register."""
        return self._client.ask(Kind.READ_REGISTERS, offset, 1)[0]

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        self._client.ask(Kind.WRITE_REGISTERS, offset, 1, (int(value),))

    # --- memory
    def allocate(self, nbytes: int) -> Buffer:
        """``nbytes`` bytes, zeroed, from a page on.

        Raises
        ------
        OutOfMemoryError
            If there is no such gap.
        """
        buffer = super().allocate(nbytes)
        self.flush(buffer)
        return buffer

    def flush(self, buffer: Buffer) -> None:
        """Make the host's writes visible to the device."""
        words = _padded(buffer.array).view("<u4")
        for first in range(0, len(words), MAX_WORDS):
            chunk = tuple(words[first : first + MAX_WORDS].tolist())
            self._client.ask(Kind.WRITE_MEMORY, buffer.address + 4 * first, len(chunk), chunk)

    def invalidate(self, buffer: Buffer) -> None:
        """Make the device's writes visible to the host."""
        words: list[int] = []
        total = -(-buffer.nbytes // 4)
        while len(words) < total:
            count = min(MAX_WORDS, total - len(words))
            words += self._client.ask(Kind.READ_MEMORY, buffer.address + 4 * len(words), count)
        buffer.array[:] = np.array(words, "<u4").view(np.uint8)[: buffer.nbytes]

    # --- waiting
    def wait(self, timeout_cycles: int) -> bool:
        """Poll until a program ends; False if it does not within so many cycles of the device's
        clock, or that clock stands still."""
        start = last = self._cycles()
        moved = time.monotonic()
        while not self.read(registers.offset("IRQ")):
            now = self._cycles()
            if now != last:
                last, moved = now, time.monotonic()
            if now - start >= timeout_cycles or time.monotonic() - moved > PATIENCE_S:
                return False
        return True

    def _cycles(self) -> int:
        low = self.read(registers.offset("CYCLES_LO"))
        return low | self.read(registers.offset("CYCLES_HI")) << 32


def _padded(data: np.ndarray) -> np.ndarray:
    """A copy, filled up to whole words: what is behind a buffer belongs to nobody, for buffers
    start on pages."""
    return np.concatenate([data, np.zeros(-data.size % 4, np.uint8)])
