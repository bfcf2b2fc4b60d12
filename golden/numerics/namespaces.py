"""NumPy's and torch's functions under one name, looked up when something is computed: a board that
only runs programs computes nothing here, and has no array-api-compat."""

from __future__ import annotations

from typing import Any

__all__ = ["array_namespace", "device"]


def array_namespace(*arrays: Any) -> Any:
    """The functions for these arrays (Python array API standard, 2023.12)."""
    import array_api_compat

    return array_api_compat.array_namespace(*arrays)


def device(array: Any) -> Any:
    """Where an array is."""
    import array_api_compat

    return array_api_compat.device(array)
