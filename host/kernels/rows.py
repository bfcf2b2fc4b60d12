"""Rows of int16 to int8 operands with the maximum of each row, an activation on the way."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from transept.golden.numerics.requantise import ActivationTable, activation
from transept.golden.ops.parameters import parameters_like
from transept.host.kernels.arithmetic import (
    ASM,
    after_those_before,
    fixed_tables,
    launch_options,
    quantised,
    row_factors,
    saturate,
)

__all__ = [
    "ALIGNMENT",
    "Rows",
    "activated",
    "chunks_of",
    "copied",
    "lookup",
    "places",
    "quantise_rows",
    "rows_at_once",
    "rows_like",
]

#: Operands of matrix products have rows of a multiple of so many bytes, zeros behind the last.
ALIGNMENT = 16
#: Up to so many rows have a program each.
FEW = 2048
#: Elements of a program on more rows, with one warp.
ELEMENTS = 2048
#: Chunks of a row, and columns of one if there are several.
MOST_CHUNKS, SMALLEST = 7, 128


class Rows:
    """Operands of a product: int8[m, k padded], and the row multiplier int32[m] of each row."""

    def __init__(self, elements: torch.Tensor, multiplier: torch.Tensor) -> None:
        self.elements, self.multiplier = elements, multiplier


def rows_like(x: torch.Tensor) -> Rows:
    """Empty operands for int16 or int8 [m, k]."""
    count, width = x.shape
    padded = -(-width // ALIGNMENT) * ALIGNMENT
    elements = torch.zeros(count, padded, dtype=torch.int8, device=x.device)
    return Rows(elements, torch.empty(count, dtype=torch.int32, device=x.device))


def lookup(table: ActivationTable, device: torch.device) -> torch.Tensor:
    """int16[65536]: an activation of every int16, from -32768 on."""
    x = torch.arange(-(1 << 15), 1 << 15, device=device)
    return activation(x, parameters_like(x, table)).to(torch.int16)


@triton.jit
def _quantise(
    x_ptr,
    q_ptr,
    multiplier_ptr,
    y_ptr,
    lookup_ptr,
    tables_ptr,
    count,
    width,
    x_stride,
    y_stride,
    q_stride,
    ACTIVATE: tl.constexpr,
    KEEP: tl.constexpr,
    BITS: tl.constexpr,
    ASM: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    after_those_before(ASM)
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    largest = tl.zeros((ROWS,), tl.int32)
    xs = ()
    for chunk in tl.static_range(CHUNKS):
        column = chunk * BLOCK + tl.arange(0, BLOCK)
        inside = (row < count)[:, None] & (column < width)[None, :]
        x = tl.load(places(x_ptr, row, column, x_stride), mask=inside, other=0).to(tl.int32)
        if ACTIVATE:
            x = tl.load(lookup_ptr + (x + 32768), mask=inside, other=0).to(tl.int32)
            if KEEP:
                y = saturate(x, BITS).to(y_ptr.dtype.element_ty)
                tl.store(places(y_ptr, row, column, y_stride), y, mask=inside)
        largest = tl.maximum(largest, tl.max(tl.abs(x), 1))
        xs = xs + (x,)
    largest, factor = row_factors(tables_ptr, largest)
    tl.store(multiplier_ptr + row, largest, mask=row < count)
    for chunk in tl.static_range(CHUNKS):
        column = chunk * BLOCK + tl.arange(0, BLOCK)
        inside = (row < count)[:, None] & (column < width)[None, :]
        q = quantised(xs[chunk], factor, ASM)
        tl.store(places(q_ptr, row, column, q_stride), q, mask=inside)


@triton.jit
def places(ptr, row, column, stride):
    """Pointers to [rows, columns]."""
    return (ptr + row * stride)[:, None] + column[None, :]


def chunks_of(width: int) -> tuple[int, int]:
    """How a row is cut: chunks, and columns of each, a power of two; as few columns as can be that
    are none of the row's."""
    sizes = []
    for chunks in range(1, MOST_CHUNKS + 1):
        block = max(SMALLEST if chunks > 1 else 1, triton.next_power_of_2(-(-width // chunks)))
        sizes.append((chunks * block, chunks, block))
    return min(sizes)[1:]


def rows_at_once(count: int, columns: int, elements: int) -> int:
    """Rows of a program that has up to so many elements, a power of two; few rows have programs of
    their own."""
    return 1 if count < FEW else 1 << max(1, elements // columns).bit_length() - 1


def quantise_rows(
    x: torch.Tensor,
    into: Rows,
    table: torch.Tensor | None = None,
    keep: torch.Tensor | None = None,
) -> None:
    """Each row by its own maximum (``numerics.requantise.quantise_row``).

    x: int16[m, k], rows of any stride; table: of ``lookup``, applied first; keep: int16 or int8
    [m, k] that gets what it gives.
    """
    count, width = x.shape
    unused = into.multiplier
    chunks, block = chunks_of(width)
    at_once = rows_at_once(count, chunks * block, ELEMENTS)
    _quantise[(triton.cdiv(count, at_once),)](
        x,
        into.elements,
        into.multiplier,
        unused if keep is None else keep,
        unused if table is None else table,
        fixed_tables(x.device),
        count,
        width,
        x.stride(0),
        0 if keep is None else keep.stride(0),
        into.elements.stride(0),
        ACTIVATE=table is not None,
        KEEP=keep is not None,
        BITS=8 if keep is not None and keep.dtype == torch.int8 else 16,
        ASM=ASM,
        ROWS=at_once,
        CHUNKS=chunks,
        BLOCK=block,
        num_warps=1 if count >= FEW and chunks * block <= 4096 else 4,
        **launch_options(count),
    )


@triton.jit
def _move(
    x_ptr,
    y_ptr,
    lookup_ptr,
    size,
    width,
    x_stride,
    y_stride,
    ACTIVATE: tl.constexpr,
    BITS: tl.constexpr,
    ASM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    after_those_before(ASM)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    row, column = place // width, place % width
    x = tl.load(x_ptr + row * x_stride + column, mask=inside, other=0)
    if ACTIVATE:
        x = tl.load(lookup_ptr + (x.to(tl.int32) + 32768), mask=inside, other=0).to(tl.int32)
        x = saturate(x, BITS)
    tl.store(y_ptr + row * y_stride + column, x.to(y_ptr.dtype.element_ty), mask=inside)


def activated(x: torch.Tensor, table: torch.Tensor, y: torch.Tensor) -> None:
    """An activation of int16 [m, n] to int16 or int8, rows of any stride; table: of ``lookup``."""
    _moved(x, table, y, 4096)


def copied(x: torch.Tensor, y: torch.Tensor) -> None:
    """The same elements [m, n], rows of any stride; one of both may be pinned memory of the host,
    which is then read or written as it is."""
    _moved(x, None, y, 1024)


def _moved(x: torch.Tensor, table: torch.Tensor | None, y: torch.Tensor, block: int) -> None:
    size = x.numel()
    _move[(triton.cdiv(size, block),)](
        x,
        y,
        x if table is None else table,
        size,
        x.shape[1],
        x.stride(0),
        y.stride(0),
        ACTIVATE=table is not None,
        BITS=8 if y.dtype == torch.int8 else 16,
        ASM=ASM,
        BLOCK=block,
        **launch_options(len(x)),
    )
