"""Cut the accelerator's region out of an exported graph, and calibrate it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import fx

from transept.host import graph
from transept.host.importer import ImportedModel
from transept.host.quantize import Ranges

__all__ = ["Accelerator", "calibrate", "replace_region"]


class Accelerator(torch.nn.Module):
    """Stands in the graph where the region was; ``call`` takes (values, mask or None)."""

    call: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """The region's result."""
        return self.call(x, mask)


class _Capture(fx.Interpreter):
    """Runs a graph and keeps the values of some nodes."""

    def __init__(self, module: fx.GraphModule, nodes: list[fx.Node | None]) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._nodes = nodes

    def values(self, *inputs: torch.Tensor) -> list[torch.Tensor | None]:
        """The nodes' values for these inputs."""
        self.run(*inputs)
        return [None if node is None else self.env[node] for node in self._nodes]


def calibrate(imported: ImportedModel, calibration: Sequence[Sequence[torch.Tensor]]) -> Ranges:
    """Run the float region on every calibration input and collect its ranges.

    Padding rows are left out: they are computed, but nothing reads them.
    """
    ranges = Ranges()
    capture = _Capture(imported.module, [imported.entry, imported.mask])
    for inputs in calibration:
        x, mask = capture.values(*inputs)
        assert x is not None
        if isinstance(imported.layers, graph.Chain):
            imported.layers(x.float(), ranges)
            continue
        keep = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        imported.layers(x.float(), keep, ranges)
    return ranges


def replace_region(imported: ImportedModel) -> fx.GraphModule:
    """The graph with one call of ``Accelerator`` in place of the region."""
    module = imported.module
    module.add_submodule("accelerator", Accelerator())
    inputs = (imported.entry,) if imported.mask is None else (imported.entry, imported.mask)
    with module.graph.inserting_after(imported.exit):
        call = module.graph.call_module("accelerator", inputs)
    imported.exit.replace_all_uses_with(call)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    return module
