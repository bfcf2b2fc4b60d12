"""Components that are made to be looked at, or refused, and never become hardware."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from amaranth._unused import MustUse

__all__ = ["unused"]


@contextlib.contextmanager
def unused() -> Iterator[None]:
    """Amaranth does not complain of what is made here and that nobody elaborates.

    It does so when an object is deleted, which may be in the middle of another test. To have all
    of them collected here takes a second a time, with all that a test process holds.
    """
    make = MustUse.__new__

    def used(cls: type, *args: Any, src_loc_at: int = 0, **kwargs: Any) -> MustUse:
        made = make(cls, src_loc_at=src_loc_at + 1)
        made._MustUse__used = True
        return made

    with mock.patch.object(MustUse, "__new__", used):
        yield
