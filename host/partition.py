"""Cut the accelerator's region out of an exported graph, and calibrate it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import fx

from transept.host import graph
from transept.host.importer import ImportedModel, UnsupportedModelError
from transept.host.quantize import Ranges

__all__ = ["Accelerator", "calibrate", "check_region", "replace_region"]

TOLERANCE = 1e-3  # float32 in another order of summation


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
        imported.layers(x.float(), _keep(x, mask), ranges)
    return ranges


def check_region(imported: ImportedModel, example: Sequence[torch.Tensor]) -> None:
    """Compare the recognised layers with the graph that they came from, on one input.

    A pattern sees structure only. This finds what it overlooks: causal masks, position biases,
    masks of another meaning.

    Raises
    ------
    UnsupportedModelError
        If a value differs by more than 0.1 % of the largest, padding left out.
    """
    capture = _Capture(imported.module, [imported.entry, imported.mask, imported.exit])
    x, mask, want = capture.values(*example)
    assert x is not None
    assert want is not None
    chain = isinstance(imported.layers, graph.Chain)
    keep = torch.ones(x.shape[:-1], dtype=torch.bool) if chain else _keep(x, mask)
    try:
        got = imported.layers(x.float()) if chain else imported.layers(x.float(), keep)
    except RuntimeError as error:
        raise UnsupportedModelError(f"layers up to {imported.exit}: {error}") from None
    got, want = got[keep], want.float()[keep]
    error = (got - want).abs().max() / want.abs().max().clamp(min=1e-6) if got.numel() else 1
    if error > TOLERANCE:  # NaN is refused later, with the name of its layer
        raise UnsupportedModelError(
            f"the layers up to {imported.exit} are no plain ones: the recognised form differs by "
            f"{error:.1%} on the example (a causal mask, a position bias, or a mask that does not "
            "mark real tokens by 1)"
        )


def _keep(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """bool[batch, tokens], False on padding."""
    return torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask.bool()


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
