"""What a model was when it was quantised, so that a change of it does not go unseen."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["ModelState", "TensorState", "drawing"]

#: Elements of a tensor along each dimension that are compared; torch counts most writes itself, but
#: none through ``.data`` or an array of NumPy.
SAMPLES = 8


class TensorState:
    """What a tensor was: it is another one once it is replaced, or written to in torch's sight;
    where torch does not see it, once one of some evenly spread elements is."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._facts = _facts(tensor)
        self._elements = self._copy = torch.zeros(0)
        if tensor.is_meta or tensor.layout != torch.strided:
            return
        elements = tensor.detach()[tuple(slice(None, None, _step(size)) for size in tensor.shape)]
        if not bool(elements.isnan().any()):  # which is not equal to itself
            self._elements, self._copy = elements, elements.clone()

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether the tensor is still what it was."""
        return self._facts == _facts(tensor) and torch.equal(self._elements, self._copy)


def _step(size: int) -> int:
    return max(1, -(-size // SAMPLES))


def _facts(tensor: torch.Tensor) -> tuple:
    version = 0 if tensor.is_inference() else tensor._version
    place = 0 if tensor.is_meta or tensor.layout != torch.strided else tensor.data_ptr()
    return id(tensor), version, place, tensor.dtype, tensor.shape


class ModelState:
    """What the parameters and buffers of a model were, and which module was where."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {name: id(module) for name, module in model.named_modules()}
        self._tensors = {name: TensorState(found) for name, found in _tensors(model)}

    def changed(self, model: nn.Module) -> str | None:
        """The name of something that is no longer what it was."""
        tensors, modules = dict(_tensors(model)), dict(model.named_modules())
        for name, state in self._tensors.items():
            if name not in tensors or not state.holds(tensors[name]):
                return name
        for name, number in self._modules.items():
            if name not in modules or id(modules[name]) != number:
                return name
        return None


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def drawing(model: nn.Module) -> Iterator[str]:
    """Modules in training mode that compute something else in it, by name: what draws numbers at
    random, and norms over a batch."""
    for name, module in model.named_modules():
        if module.training and _differs(module):
            yield name or type(module).__name__


def _differs(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.track_running_stats
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    dropout = getattr(module, "dropout", 0)  # of attention and recurrent layers
    return isinstance(module, nn.RReLU) or (isinstance(dropout, float) and dropout > 0)
