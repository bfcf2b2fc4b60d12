"""What operators take on a device: a linear model of their work, and what was measured exactly.

Times of a kind of operator are a sum of its features with factors that are not negative, fitted to
relative errors; an operator that was measured itself takes what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from transept.golden.graph import Graph, Operator
from transept.golden.ops import Attention, Linear
from transept.host.compiler.cut import Shape

__all__ = ["DeviceCosts", "Sample", "features", "fitted", "kind_of", "signature"]


def kind_of(op: Operator) -> str:
    """The name of an operator's type."""
    return type(op).__name__.lower()


def signature(graph: Graph, shape: Shape, op: Operator) -> str:
    """Equal for operators that take the same time: kind, rows, widths, types."""
    values = [graph.values[name] for name in (*op.inputs, *op.outputs)]
    about: list[object] = [kind_of(op), shape.batch]
    about += [(shape.lengths[value.dim], value.width, value.bits) for value in values]
    if isinstance(op, Linear):
        about.append("activation" if op.table is not None else "")
        about += ["halves"] * op.halves + ["packed"] * (op.packed is not None)
    if isinstance(op, Attention):
        about += [op.heads, op.kv_heads, str(op.filter)]
    return json.dumps(about)


def features(graph: Graph, shape: Shape, op: Operator) -> list[float]:
    """1, multiply-accumulates, elements read and written, and what is neither: scores of an
    attention, activations of a linear layer."""
    values = [graph.values[name] for name in (*op.inputs, *op.outputs)]
    elements = [shape.batch * shape.lengths[value.dim] * value.width for value in values]
    macs = op.macs(*(shape.rows[graph.values[name].dim] for name in op.inputs))
    other = 0.0
    if isinstance(op, Attention):
        queries, keys = (shape.lengths[graph.values[name].dim] for name in (op.q, op.k))
        other = shape.batch * op.heads * queries * keys
    elif isinstance(op, Linear) and op.table is not None:
        other = elements[-1]
    return [1.0, macs, sum(elements), other]


@dataclass(frozen=True)
class Sample:
    """One measured operator."""

    kind: str
    features: list[float]
    seconds: float


def fitted(samples: Sequence[Sample]) -> list[float]:
    """Factors of the features with the least sum of squared relative errors, none negative: what
    would be is left out."""
    rows = np.array([np.array(s.features) / s.seconds for s in samples])
    kept = [column for column in range(rows.shape[1]) if rows[:, column].any()]
    while True:
        scale = np.abs(rows[:, kept]).max(0)
        found = np.linalg.lstsq(rows[:, kept] / scale, np.ones(len(rows)), rcond=None)[0] / scale
        if (found >= 0).all():
            break
        del kept[int(found.argmin())]
    factors = [0.0] * rows.shape[1]
    for column, factor in zip(kept, found, strict=True):
        factors[column] = float(factor)
    return factors


@dataclass
class DeviceCosts:
    """Of one device: seconds of a launch, bytes a second in and out, samples by signature."""

    launch: float
    bytes_per_second: float
    samples: dict[str, Sample] = field(default_factory=dict)
    _factors: dict[str, list[float]] = field(default_factory=dict, repr=False)

    def operator(self, graph: Graph, shape: Shape, op: Operator) -> float:
        """Seconds of an operator.

        Raises
        ------
        KeyError
            If none of its kind was measured.
        """
        known = self.samples.get(signature(graph, shape, op))
        if known is not None:
            return known.seconds
        kind = kind_of(op)
        if kind not in self._factors:
            alike = [sample for sample in self.samples.values() if sample.kind == kind]
            if not alike:
                raise KeyError(kind)
            self._factors[kind] = fitted(alike)
        return float(np.dot(self._factors[kind], features(graph, shape, op)))

    def transfer(self, nbytes: int) -> float:
        """Seconds to bring so many bytes there or back."""
        return nbytes / self.bytes_per_second

    def add(self, key: str, sample: Sample) -> None:
        """Keep a measured operator."""
        self.samples[key] = sample
        self._factors.clear()

    def scaled(self, factor: float) -> DeviceCosts:
        """Of a device that takes so many times as long, and has the same link to the host."""
        samples = {
            key: replace(sample, seconds=factor * sample.seconds)
            for key, sample in self.samples.items()
        }
        return DeviceCosts(factor * self.launch, self.bytes_per_second, samples)

    def joined(self, earlier: DeviceCosts) -> DeviceCosts:
        """With the samples of an earlier calibration that this one lacks."""
        return replace(self, samples=earlier.samples | self.samples, _factors={})

    @property
    def total(self) -> float:
        """Seconds of a launch and of each sample once."""
        return self.launch + sum(sample.seconds for sample in self.samples.values())

    @property
    def kinds(self) -> set[str]:
        """Kinds of operators of which some was measured."""
        return {sample.kind for sample in self.samples.values()}

    # --- as data
    def told(self) -> dict:
        """What ``read`` takes."""
        return {
            "launch": self.launch,
            "bytes_per_second": self.bytes_per_second,
            "samples": {
                key: [sample.kind, sample.features, sample.seconds]
                for key, sample in self.samples.items()
            },
        }

    @classmethod
    def read(cls, told: Mapping) -> DeviceCosts:
        """Costs from data."""
        samples = {key: Sample(*sample) for key, sample in told["samples"].items()}
        return cls(told["launch"], told["bytes_per_second"], samples)
