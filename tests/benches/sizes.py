"""Accelerators that blocks are tested at: the smallest by every test, those of boards at length."""

import pytest

from transept.golden.config import KV260, PYNQ_Z2, TINY, ULX3S

__all__ = ["FULL", "SIZES", "named"]

#: Of boards.
FULL = [PYNQ_Z2, ULX3S, KV260]


def _at_length(cfg):
    return pytest.param(cfg, marks=pytest.mark.slow)


SIZES = [TINY, *map(_at_length, FULL)]


def named(cfg):
    """The name of a case."""
    return cfg.name
