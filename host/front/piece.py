"""A piece of a model that dynamo traced, on one set of weights: its calibration and its program."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from types import FrameType
from typing import Any

import torch
from torch._dynamo import OptimizedModule

from transept.host.front.backend_options import Options
from transept.host.front.lifted import TracedGraph, lift
from transept.host.front.states import TensorState
from transept.host.runtime.program import Program, compile

__all__ = ["Piece", "calibrating", "log"]

log = logging.getLogger("transept.host.front.dynamo")


class Piece:
    """Graphs of one code for any sizes, on the same weights, with the same scales.

    name: in the log; program: None before it is calibrated, and if torch keeps all of it.
    """

    def __init__(self, name: str, options: Options, weights: Sequence[torch.Tensor]) -> None:
        self.name, self.options, self.weights = name, options, tuple(weights)
        self.program: Program | None = None
        self._graphs: list[TracedGraph] = []
        self._seen: list[tuple[Any, ...]] = []  # of the calls that calibrate
        self._settled = False
        self._states = [TensorState(weight) for weight in self.weights]
        self._told: set[str] = set()

    @property
    def current(self) -> bool:
        """Whether its weights are what they were. Buffers count once a program is made of them: a
        graph that torch keeps may write to them."""
        return all(
            state.holds(weight)
            for weight, state in zip(self.weights, self._states, strict=True)
            if self.program is not None or isinstance(weight, torch.nn.Parameter)
        )

    def run(self, graph: TracedGraph, inputs: Sequence[Any], arguments: tuple[Any, ...]) -> Any:
        """The results of one of its graphs.

        inputs: of the graph, weights among them; arguments: without them.

        Raises
        ------
        ValueError
            If calibration inputs are given for a whole model, and none is called.
        """
        if graph not in self._graphs:
            self._graphs.append(graph)
        call = self._graphs.index(graph), *arguments
        collected = _collected.get()
        if collected is not None:
            collected.setdefault(self, []).append(_copied(call))
        else:
            if not self._settled:
                self._calibrate(call)
            if self.program is not None:
                return self._quantised(self.program, call, graph, inputs)
        return graph.module(*inputs)

    def settle(self, calls: Sequence[tuple[Any, ...]]) -> None:
        """Compile it with the ranges of these calls, the first one as the example; if that fails,
        torch keeps all of it."""
        chosen = self.options
        self._settled, self.program = True, None
        self._states = [TensorState(weight) for weight in self.weights]
        try:
            _check_places((*self.weights, *calls[0]))
            self.program = compile(
                lift(self._graphs, self.weights),
                calls[0],
                config=chosen.config,
                calibration=calls,
                key_filter=chosen.key_filter,
            )
        except Exception as error:  # whatever it is, the model of the user runs
            unexpected = not isinstance(error, ValueError)
            log.warning("%s runs with torch: %s", self.name, error, exc_info=unexpected)
        self._seen.clear()

    def _calibrate(self, call: tuple[Any, ...]) -> None:
        """Settle with the first calls, or with inputs of the whole model."""
        chosen = self.options.calibration
        if isinstance(chosen, int):
            self._seen.append(_copied(call))
            if len(self._seen) == chosen:
                self.settle(self._seen)
            return
        model = _compiled_model()
        if model is None:
            raise ValueError(
                "calibration inputs are those of a torch.nn.Module that is compiled as a whole; "
                "call what is compiled within transept.host.front.dynamo.calibrating()"
            )
        with calibrating():
            for arguments in chosen.arguments():
                model(*arguments.args, **arguments.kwargs)
        if not self._settled:
            log.warning("%s: no calibration input reaches it, this call calibrates", self.name)
            self.settle([_copied(call)])

    def _quantised(
        self, program: Program, call: tuple[Any, ...], graph: TracedGraph, inputs: Sequence[Any]
    ) -> Any:
        """The program's results; torch's if it fails, as it does on what is not finite."""
        device_options = dict(self.options.device_options)
        try:
            result = program.run(*call, device=self.options.device, **device_options)
        except Exception as error:
            self._warn(f"ran in float with torch: {error}")
            return graph.module(*inputs)
        for note in program.notes:
            self._warn(note)
        return result

    def _warn(self, message: str) -> None:
        """Say something once, whatever its numbers."""
        kind = re.sub(r"\d[\d,.]*", "", message)
        if kind not in self._told:
            self._told.add(kind)
            log.warning("%s: %s", self.name, message)


_Collected = dict[Piece, list[tuple[Any, ...]]]
_collected: ContextVar[_Collected | None] = ContextVar("collected", default=None)


@contextlib.contextmanager
def calibrating() -> Iterator[None]:
    """Compiled models run in float, and what is called calibrates every piece that it reaches.

    The scales are set when the context ends, also of pieces that had some before.
    """
    collected: _Collected = {}
    token = _collected.set(collected)
    try:
        yield
    finally:
        _collected.reset(token)
    for piece, calls in collected.items():
        piece.settle(calls)


def _copied(call: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same, whatever the caller does with its tensors."""
    return tuple(x.detach().clone() if isinstance(x, torch.Tensor) else x for x in call)


def _check_places(values: Sequence[Any]) -> None:
    for value in values:
        if isinstance(value, torch.Tensor) and value.device.type != "cpu":
            raise ValueError(f"a tensor is on {value.device}, all must be on the CPU")


def _compiled_model() -> torch.nn.Module | None:
    """The compiled model of which a graph is being called."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, OptimizedModule):
            return owner
        if isinstance(owner, torch.nn.Module) and owner._compiled_call_impl is not None:
            return owner
        frame = frame.f_back
    return None
