"""Constants of operators: their limits, and the array library of the values they meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from transept.golden import isa
from transept.golden.graph import GraphError
from transept.golden.isa import Opcode
from transept.golden.layouts import HEADER_RECORD, SEGMENT_RECORD, RecordField
from transept.golden.numerics.fixed import Array
from transept.golden.numerics.namespaces import array_namespace
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable

__all__ = ["check_numbers", "check_record", "check_table", "like", "parameters_like"]

Parameters = TypeVar("Parameters")


def like(x: Array, constant: np.ndarray) -> Array:
    """``constant`` as int64 in the library of ``x``, on its device."""
    constant = np.ascontiguousarray(constant, dtype=np.int64)
    if isinstance(x, np.ndarray):
        return constant
    return array_namespace(x).asarray(constant, device=x.device)


def parameters_like(x: Array, parameters: Parameters) -> Parameters:
    """A dataclass of constants with its arrays in the library of ``x``."""
    arrays = {
        field.name: like(x, value)
        for field in dataclasses.fields(parameters)  # type: ignore[arg-type]
        if isinstance(value := getattr(parameters, field.name), np.ndarray)
    }
    return dataclasses.replace(parameters, **arrays)  # type: ignore[type-var]


def check_record(
    operator: str, source: object, layout: Mapping[str, RecordField], shape: tuple[int, ...]
) -> None:
    """GraphError unless all that ``layout`` names in ``source`` is integers within its limits."""
    for name, field in layout.items():
        values = np.asarray(getattr(source, name))
        if values.dtype != np.int64 or values.shape != shape:
            raise GraphError(
                f"{name} of {operator} is {values.dtype}{list(values.shape)}, "
                f"must be int64{list(shape)}"
            )
        low, high = int(values.min()), int(values.max())
        if low < field.least or high > field.greatest:
            bad = low if low < field.least else high
            raise GraphError(
                f"{name} of {operator} holds {bad}, outside {field.least} to {field.greatest}"
            )


def check_table(operator: str, table: ActivationTable) -> None:
    """GraphError if a field of an activation table is outside its limits."""
    check_record(f"the table of {operator}", table, SEGMENT_RECORD, (SEGMENTS,))
    check_record(f"the table of {operator}", table, HEADER_RECORD, ())


def check_numbers(operator: str, opcode: Opcode, **numbers: int) -> None:
    """GraphError if a number does not fit the operand that carries it."""
    for name, number in numbers.items():
        try:
            isa.operand(opcode, name).check(number)
        except ValueError as error:
            raise GraphError(f"{operator}: {error}") from None
