"""Where each element of a tensor comes from, through any chain of views.

Reshapes, transposes, splits and selections are not recognised by their arguments but carried out,
on a tensor that names the elements. So every way to split heads, pack projections or put the batch
second is seen for what it does.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from transept.host.front.convolution import pictures
from transept.host.front.export import Values, float_tensor
from transept.host.front.nodes import drops_nothing, is_fixed, operands

__all__ = ["MOVING", "SAME", "Rows", "View", "Views"]

aten = torch.ops.aten

#: Operators that leave every element as it is; only its place changes, if that.
SAME = {
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.lift_fresh_copy.default,
    aten.to.device,
    aten.to.dtype,
    aten.to.dtype_layout,
    aten.type_as.default,
    aten._to_copy.default,
}
MOVING = {
    aten._unsafe_view.default,
    aten.adjoint.default,
    aten.chunk.default,
    aten.expand.default,
    aten.flatten.using_ints,
    aten.mH.default,
    aten.mT.default,
    aten.matrix_H.default,
    aten.moveaxis.int,
    aten.moveaxis.intlist,
    aten.movedim.int,
    aten.movedim.intlist,
    aten.narrow.default,
    aten.numpy_T.default,
    aten.permute.default,
    aten.ravel.default,
    aten.repeat_interleave.self_int,
    aten.reshape.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.swapaxes.default,
    aten.swapdims.default,
    aten.t.default,
    aten.transpose.int,
    aten.unbind.int,
    aten.unflatten.int,
    aten.unsqueeze.default,
    aten.view.default,
    pictures,
}
_SCALING = {aten.mul.Tensor: 1, aten.mul.Scalar: 1, aten.div.Tensor: -1, aten.div.Scalar: -1}


@dataclass(frozen=True)
class View:
    """Each element of a tensor as ``factor`` times an element of ``value``.

    value: name of what is viewed, ``width`` elements a row; codes: int64, of the tensor's shape,
    row * width + element.
    """

    value: object
    width: int
    codes: torch.Tensor
    factor: float = 1.0

    def rows(self) -> Rows | None:
        """The tensor as rows of its last dimension; None if they do not lie within rows of the
        value, all at the same elements."""
        if not self.codes.ndim or not self.codes.numel():
            return None
        codes = self.codes.reshape(-1, self.codes.shape[-1])
        rows, elements = codes[:, 0] // self.width, codes[0] % self.width
        if not torch.equal(codes, rows[:, None] * self.width + elements):
            return None
        return Rows(self.value, self.width, rows, elements, self.factor)


@dataclass(frozen=True)
class Rows:
    """A tensor as rows: ``rows`` of the value, in this order, and ``elements`` of each."""

    value: object
    width: int
    rows: torch.Tensor
    elements: torch.Tensor
    factor: float

    @property
    def whole(self) -> bool:
        """Whether every element of a row is there, in order and unscaled."""
        same = len(self.elements) == self.width and self.factor == 1
        return same and bool((self.elements == torch.arange(self.width)).all())


class Views:
    """The view of every tensor of a run.

    values: those of the run; ``define`` names what patterns compute, everything else that is no
    view is a value of its own: the node that computes it.
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        self._views: dict[fx.Node, Any] = {}

    def define(self, node: fx.Node, view: View) -> None:
        """The tensor of ``node`` is that view of a named value."""
        self._views[node] = view

    def own(self, node: fx.Node) -> View:
        """The tensor of ``node`` as a value of its own, rows along its last dimension."""
        value = self._values[node]
        width = value.shape[-1] if value.ndim else 1
        codes = torch.arange(value.numel()).reshape(value.shape)
        return View(node, width, codes)

    def __getitem__(self, node: fx.Node) -> Any:
        """The view of a node's tensor; of its tensors, if there are several; None of others."""
        if node not in self._views:
            self._views[node] = self._compute(node)
        return self._views[node]

    def _compute(self, node: fx.Node) -> Any:
        if node.op == "call_function":
            moved = self._moved(node)
            if moved is not None:
                return moved
        return self.own(node) if float_tensor(self._values.get(node)) else None

    def _moved(self, node: fx.Node) -> Any:
        """The view that a moving operator gives; None of any other operator."""
        source = operands(node)[0] if operands(node) else None
        if not isinstance(source, fx.Node) or source.op == "get_attr":
            return None
        if node.target is operator.getitem:
            parts = self[source]
            return parts[operands(node)[1]] if isinstance(parts, list) else None
        if not float_tensor(self._values.get(source)):
            return None
        if drops_nothing(node):
            return self[source]
        if node.target in SAME:
            return self[source] if float_tensor(self._values[node]) else None
        if node.target in MOVING:
            return self._move(node, self[source])
        factor = self.factor(node)
        if factor is None:
            return None
        view = self[source]
        return View(view.value, view.width, view.codes, view.factor * factor)

    def factor(self, node: fx.Node) -> float | None:
        """The number that an operator multiplies by, if it does only that."""
        if node.target not in _SCALING or len(operands(node)) < 2:
            return None
        number = operands(node)[1]
        if isinstance(number, fx.Node):
            number = self._values[number]
            if isinstance(number, torch.Tensor) and number.numel() == 1 and not number.ndim:
                number = number.item() if is_fixed(operands(node)[1]) else None
        if not isinstance(number, int | float) or isinstance(number, bool) or not number:
            return None
        return float(number) ** _SCALING[node.target]

    def _move(self, node: fx.Node, view: View) -> Any:
        """Carry the operator out on the codes."""
        args = [self._argument(argument) for argument in operands(node)[1:]]
        kwargs = {name: self._argument(argument) for name, argument in node.kwargs.items()}
        moved = node.target(view.codes.contiguous(), *args, **kwargs)  # type: ignore[operator]
        if isinstance(moved, torch.Tensor):
            return View(view.value, view.width, moved, view.factor)
        return [View(view.value, view.width, part, view.factor) for part in moved]

    def _argument(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda node: self._values[node])
