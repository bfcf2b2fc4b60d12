"""What calibration saw: the range of every value, and the second moments of every operand."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from transept.host.front.export import Arguments, Values
from transept.host.front.masks import MaskError, key_lengths
from transept.host.front.matches import LinearMatch, Source
from transept.host.front.names import base_name
from transept.host.front.regions import FloatRegion

__all__ = ["SMALLEST", "Ranges", "observe"]

#: Second moments of more channels are not kept: they would fill the memory.
MOST_CHANNELS = 4096
#: A value that was always smaller counts as this.
SMALLEST = 1e-6


class Ranges:
    """Largest magnitude of every channel of every value, and for each linear layer the sum of
    ``x^T x`` over the rows that entered it. Values are named as in ``FloatRegion``.

    inputs: what calibration ran on; plain: linear layers that were measured without their
    activation, for no table can be it.
    """

    def __init__(self, inputs: Sequence[Arguments], plain: Iterable[str] = ()) -> None:
        self.inputs, self.plain = tuple(inputs), frozenset(plain)
        self._largest: dict[str, torch.Tensor] = {}
        self._moments: dict[tuple[str, ...], torch.Tensor] = {}  # by the layers of one operand

    def add(self, name: str, rows: torch.Tensor) -> None:
        """See the rows [n, width] of a value."""
        name = base_name(name)
        if not len(rows):
            return
        largest = rows.detach().abs().amax(0).double()
        seen = self._largest.get(name)
        self._largest[name] = largest if seen is None else torch.maximum(seen, largest)

    def add_moments(self, names: Iterable[str], rows: torch.Tensor) -> None:
        """See the rows float32[n, k] that enter linear layers; all that have the same operand."""
        layers = tuple(dict.fromkeys(base_name(name) for name in names))
        seen = self._moments.get(layers)
        if seen is None:
            self._moments[layers] = rows.T @ rows
        else:
            seen.addmm_(rows.T, rows)

    def covers(self, regions: Iterable[FloatRegion]) -> bool:
        """Whether calibration saw every value of these regions."""
        return all(base_name(name) in self._largest for r in regions for name in r.sources)

    def __getitem__(self, name: str) -> np.ndarray:
        """float64[channels], at least 1e-6.

        Raises
        ------
        ValueError
            If calibration saw NaN or infinity, or nothing of the value.
        """
        return np.maximum(self.largest(name), SMALLEST)

    def largest(self, name: str) -> np.ndarray:
        """The same as it was seen, however small."""
        name = base_name(name)
        if name not in self._largest:
            raise ValueError(
                f"calibration saw nothing of {name}; calibrate with inputs that reach it"
            )
        largest = self._largest[name].numpy()
        if not np.isfinite(largest).all():
            bad = largest[~np.isfinite(largest)][0]
            raise ValueError(f"calibration saw {bad} in {name}; calibrate with finite inputs")
        return largest

    def moments(self, name: str) -> torch.Tensor | None:
        """float32[k, k], the sum of ``x^T x`` over all rows that entered the layer, the same tensor
        for layers that always had the same operand; None if k is too large for it, or a sum is for
        float32."""
        layer = base_name(name)
        found = [moments for layers, moments in self._moments.items() if layer in layers]
        total = functools.reduce(torch.add, found) if found else None
        return total if total is not None and bool(total.isfinite().all()) else None


def observe(regions: Iterable[FloatRegion], values: Values, ranges: Ranges) -> None:
    """Add one run of the float model; rows of padding are left out, for nothing reads them."""
    for region in regions:
        spaces = region.spaces
        real = {dim: _real_rows(region, values, dim) for dim in spaces.orders}
        for name, source in region.sources.items():
            rows = _rows(source, values)
            keep = real.get(spaces.dims.get(name, ""))
            ranges.add(name, rows if keep is None else rows[keep])
        readers: dict[str, list[str]] = {}  # linear layers by their operand
        for op in region.ops:
            if not isinstance(op, LinearMatch):
                continue
            x = op.inputs[0]
            if op.activation is not None:
                before = _rows(region.before[op.name], values)
                ranges.add(f"{op.name}.before", before[real[spaces.dims[x]]])
            if op.weight.shape[1] <= MOST_CHANNELS:
                readers.setdefault(x, []).append(op.name)
        for x, names in readers.items():
            ranges.add_moments(names, _rows(region.sources[x], values)[real[spaces.dims[x]]])


def _rows(source: Source, values: Values) -> torch.Tensor:
    """A value as float [rows, width]."""
    return source.rows(values[source.node]).float()


def _real_rows(region: FloatRegion, values: Values, dim: str) -> torch.Tensor:
    """Rows that are no padding, as far as masks tell; in any order."""
    order = region.spaces.orders[dim]
    for op in region.attentions:
        if region.spaces.dims[op.inputs[1]] == dim:
            try:
                lengths = key_lengths(op, [values[mask.node] for mask in op.masks])
            except MaskError:
                continue
            real = torch.arange(order.shape[1]) < torch.tensor(lengths)[:, None]
            return order[real]
    return order.flatten()
