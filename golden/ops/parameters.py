"""Constants of operators, brought to the array library of the values they meet."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np
from array_api_compat import array_namespace

from transept.golden.numerics.fixed import Array

__all__ = ["like", "parameters_like"]

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
