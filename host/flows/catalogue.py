"""The flow of each board that can be built."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from transept.bitstreams.boards import BOARDS
from transept.bitstreams.ecp5 import ECP5_BOARDS
from transept.host.flows import ecp5, vivado
from transept.host.flows.base import Flow

__all__ = ["FLOWS"]

FLOWS: Mapping[str, Flow] = {
    **{name: functools.partial(vivado.build, board) for name, board in BOARDS.items()},
    **{name: functools.partial(ecp5.build, board) for name, board in ECP5_BOARDS.items()},
}
