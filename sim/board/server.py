"""The services of PYNQ.remote in front of a simulated board, by pynq's own stubs.

Every answer has a message that is empty if all went well, which the client raises as an error, but
for that of an allocation: there it goes unread, and the buffer has no number.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from pynq.remote import (
    buffer_pb2,
    buffer_pb2_grpc,
    gpio_pb2_grpc,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)

from transept.sim.board.machine import BoardError, Machine

__all__ = ["start"]

#: Bytes of a message at most.
CHUNK = 2 << 20
THREADS = 4


def _told(answer: Callable[..., Any]) -> Callable[..., Any]:
    """An error of the board as the message of the answer."""

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Any, request: Any, context: Any) -> Any:
            try:
                return method(self, request) or answer()
            except BoardError as error:
                return answer(msg=str(error))

        return call

    return decorate


class _Registers(mmio_pb2_grpc.MmioServicer):
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._bases: dict[str, int] = {}
        self._numbers = itertools.count()

    @_told(mmio_pb2.GetMmioResponse)
    def get_mmio(self, request: Any) -> Any:
        number = f"m{next(self._numbers)}"
        self._bases[number] = request.base_addr
        return mmio_pb2.GetMmioResponse(status=True, mmio_id=number)

    @_told(mmio_pb2.ReadResponse)
    def read(self, request: Any) -> Any:
        value = self._machine.read32(self._bases[request.mmio_id] + request.offset)
        mask = (1 << 8 * min(request.length, 4)) - 1
        return mmio_pb2.ReadResponse(status=True, data=value & mask)

    @_told(mmio_pb2.WriteResponse)
    def write(self, request: Any) -> Any:
        base = self._bases[request.mmio_id] + request.offset
        for at in range(0, len(request.data), 4):
            word = int.from_bytes(request.data[at : at + 4], "little")
            self._machine.write32(base + at, word)
        return mmio_pb2.WriteResponse(status=True)


class _Buffers(buffer_pb2_grpc.RemoteBufferServicer):
    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @_told(buffer_pb2.AllocateResponse)
    def allocate(self, request: Any) -> Any:
        return buffer_pb2.AllocateResponse(buffer_id=self._machine.allocate(request.size))

    @_told(buffer_pb2.BufferWriteResponse)
    def write(self, requests: Iterator[Any]) -> None:
        at = 0
        for request in requests:
            self._machine.write(request.buffer_id, at, request.data)
            at += len(request.data)

    def read(self, request: Any, context: Any) -> Iterator[Any]:
        try:
            data = self._machine.read(request.buffer_id)
        except BoardError as error:
            yield buffer_pb2.BufferReadResponse(msg=str(error))
            return
        for at in range(0, len(data), CHUNK):
            yield buffer_pb2.BufferReadResponse(data=data[at : at + CHUNK])

    @_told(buffer_pb2.FreeBufferResponse)
    def freebuffer(self, request: Any) -> None:
        self._machine.free(request.buffer_id)

    @_told(buffer_pb2.FlushResponse)
    def flush(self, request: Any) -> None:
        """Memory has no cache in front of it here."""

    @_told(buffer_pb2.InvalidateResponse)
    def invalidate(self, request: Any) -> None:
        """As ``flush``."""

    @_told(buffer_pb2.AddressResponse)
    def physical_address(self, request: Any) -> Any:
        return buffer_pb2.AddressResponse(address=self._machine.address(request.buffer_id))

    virtual_address = physical_address


class _Files(remote_device_pb2_grpc.RemoteDeviceServicer):
    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def existsfile(self, request: Any, context: Any) -> Any:
        exists = request.file_path in self._machine.files
        return remote_device_pb2.ExistsFileResponse(exists=exists)

    def readfile(self, request: Any, context: Any) -> Iterator[Any]:
        if request.file_path not in self._machine.files:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no file {request.file_path}")
        data = self._machine.files[request.file_path]
        for at in range(0, len(data), CHUNK):
            yield remote_device_pb2.ReadFileResponse(data=data[at : at + CHUNK])

    def writefile(self, requests: Iterator[Any], context: Any) -> Any:
        path, parts = "", []
        for request in requests:
            path = request.file_path
            parts.append(request.data)
        try:
            self._machine.write_file(path, b"".join(parts))
        except BoardError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return remote_device_pb2.WriteFileResponse()

    def set_bitstream_attrs(self, request: Any, context: Any) -> Any:
        return remote_device_pb2.SetBitstreamAttrsResponse(status=True)


def start(machine: Machine, address: str) -> grpc.Server:
    """Serve a board at an address, ``host:port`` or ``unix:path:port`` (a path that ends so).

    Raises
    ------
    OSError
        If the address is taken or none of this machine's.
    """
    server = grpc.server(futures.ThreadPoolExecutor(THREADS))
    mmio_pb2_grpc.add_MmioServicer_to_server(_Registers(machine), server)
    buffer_pb2_grpc.add_RemoteBufferServicer_to_server(_Buffers(machine), server)
    remote_device_pb2_grpc.add_RemoteDeviceServicer_to_server(_Files(machine), server)
    gpio_pb2_grpc.add_GpioServicer_to_server(gpio_pb2_grpc.GpioServicer(), server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"{address} cannot be served: {error}") from None
    if not bound:
        raise OSError(f"{address} cannot be served: it is taken")
    server.start()
    return server
