"""A stand-in for a GPU and its clock: what is asked of a card is done on the CPU."""

from __future__ import annotations

import contextlib

import torch
import triton.testing
from torch.overrides import TorchFunctionMode

from transept.host.bench.encoder import Encoder

__all__ = ["SMALL", "Clock", "on_the_cpu", "spread", "ticks"]

SMALL = Encoder("small", 2, 16, 2, 24)


class _OnTheCpu(TorchFunctionMode):
    """Tensors that are asked for on a card are on the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.cuda:
            return args[0]
        named = {name: _here(value) for name, value in (kwargs or {}).items()}
        return func(*map(_here, args), **named)


def _here(value):
    asked = isinstance(value, str | torch.device) and str(value).startswith("cuda")
    return "cpu" if asked else value


@contextlib.contextmanager
def on_the_cpu(monkeypatch, cards=1):
    """With so many cards, torch compiles nothing; yields what was done: models compiled and their
    options, cards that became the current one or were waited for."""
    done = []
    monkeypatch.setattr(
        torch, "compile", lambda model, **options: done.append(("compile", options)) or model
    )
    monkeypatch.setattr(torch.cuda, "synchronize", lambda card=0: done.append(("wait", card)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
    with _OnTheCpu():
        yield done


def spread(*size, **options):
    """In place of random numbers: from -8 to 8 in equal steps."""
    size = torch.Size(size if isinstance(size[0], int) else size[0])
    return torch.linspace(-8, 8, size.numel()).reshape(size)


def ticks(monkeypatch, times):
    """Triton's clock tells these times; returns what is timed, as it comes."""
    timed, left = [], iter(times)

    def do_bench(run, warmup, rep, return_mode):
        assert (warmup, rep, return_mode) == (25, 100, "median")
        timed.append(run)
        return next(left)

    monkeypatch.setattr(triton.testing, "do_bench", do_bench)
    return timed


class Clock:
    """In place of the module ``time``: stands still unless it is told."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def passes(self, milliseconds):
        self.now += milliseconds / 1000
