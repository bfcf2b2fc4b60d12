"""Walks a torch graph and asks every pattern for the operator that a node completes."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping

import torch
from torch import fx

from transept.host.front.export import Values, float_tensor
from transept.host.front.matches import Boundary, Gathered, Match, Source
from transept.host.front.names import Names
from transept.host.front.nodes import is_fixed
from transept.host.front.patterns.attention import match_attention
from transept.host.front.patterns.linear import match_linear
from transept.host.front.patterns.norm import match_norm
from transept.host.front.patterns.product import match_product
from transept.host.front.patterns.residual import match_add
from transept.host.front.patterns.rotary import match_rotary
from transept.host.front.views import Rows, View, Views

__all__ = ["ALONE", "Matcher"]

#: Name of a parameter that belongs to the whole model.
ALONE = "linear"
PATTERNS = (match_linear, match_norm, match_attention, match_rotary, match_add, match_product)


class Matcher:
    """Every operator that a pattern finds, in the order of the graph.

    excluded: reasons of operators that stay with torch, by name; plain: linear layers without the
    activation behind them; reasons: why a node that multiplies was not matched. A value is named by
    the operator that defines it; a tensor that torch computes is a value named ``%node``.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        values: Values,
        excluded: Mapping[str, str] | None = None,
        plain: frozenset[str] = frozenset(),
    ) -> None:
        self.module, self.values = module, values
        self._excluded, self.plain = excluded or {}, plain
        self.views = Views(values)
        self.matches: list[Match] = []
        self.boundaries: dict[str, Boundary | Gathered] = {}
        self.reasons: dict[fx.Node, str] = {}
        self._names = Names()
        self._turns: Counter[tuple] = Counter()
        self._taken: set[fx.Node] = set()
        for node in module.graph.nodes:
            if node.op == "call_function" and node not in self._taken:
                self._match(node)

    def _match(self, node: fx.Node) -> None:
        for pattern in PATTERNS:
            found = pattern(self, node)
            if found is None:
                continue
            if found.name in self._excluded:
                self.reasons[node] = self._excluded[found.name]
                return
            self.matches.append(found)
            self._taken |= found.nodes
            for name, boundary in found.defines.items():
                self.boundaries[name] = boundary
                view = View(name, boundary.width, boundary.codes)
                self.views.define(boundary.node, view)
            return

    # --- what patterns ask
    def name(self, wanted: str, *facts: object) -> str:
        """A name that no operator has yet; asked for once what is matched is certain.

        facts: what an operator is made of. Those of one name that are made of the same share their
        integers.
        """
        return self._names.give(wanted, facts)

    def turn(self, node: fx.Node, kind: str) -> int:
        """The how manieth of its kind an operator is in a call of its module, from 1; it is the
        same in all calls of the module."""
        call = *(node.meta.get("nn_module_stack") or {}), kind
        self._turns[call] += 1
        return self._turns[call]

    def fixed(self, node: object) -> torch.Tensor | None:
        """The tensor behind parameters and buffers alone, as float32; None if it is computed."""
        if not isinstance(node, fx.Node) or not is_fixed(node):
            return None
        value = self.values[node]
        return value.detach().float() if isinstance(value, torch.Tensor) else None

    def parameter(self, node: object) -> str:
        """The path of the parameter or buffer behind a node, without its last part."""
        while isinstance(node, fx.Node) and node.op != "get_attr":
            node = next(iter(node.all_input_nodes), None)
        path = str(node.target) if isinstance(node, fx.Node) else "constant"
        path = re.sub(r"\.?parametrizations\.(\w+)\.original\d*$", r".\1", path)  # of weight_norm
        return re.sub(r"(^|\.)(weight_matrix|weight|bias)$", "", path) or ALONE

    def module_of(self, node: fx.Node) -> str:
        """The path of the module that computes a node."""
        stack = node.meta.get("nn_module_stack") or {}
        paths = [path for path, _ in stack.values()]
        return paths[-1] if paths else ""

    def rows(self, node: object) -> Rows | None:
        """A float tensor as rows of a named value, all of its rows in some order.

        A tensor whose elements lie otherwise is a value of its own.
        """
        if not isinstance(node, fx.Node) or not float_tensor(self.values.get(node)):
            return None
        view = self.views[node]
        if isinstance(view, View):
            rows = view.rows()
            if rows is not None and self._complete(rows, view):
                return self._named(rows)
        return self.own_rows(node)

    def own_rows(self, node: fx.Node) -> Rows | None:
        """A tensor as a value of its own, rows along the last dimension."""
        return self._named(self.views.own(node).rows())

    def _complete(self, rows: Rows, view: View) -> bool:
        """Whether every row of the value is there once."""
        count = self.count(view.value)
        return len(rows.rows) == count and len(torch.unique(rows.rows)) == count

    def count(self, value: object) -> int:
        """Rows of a value."""
        if isinstance(value, fx.Node):
            tensor = self.values[value]
            return tensor.numel() // (tensor.shape[-1] if tensor.ndim else 1)
        return self.boundaries[str(value)].rows

    def _named(self, rows: Rows | None) -> Rows | None:
        """The same rows with a name for the value, if torch computes it."""
        if rows is None or not isinstance(rows.value, fx.Node):
            return rows
        return Rows(self.own(rows.value), rows.width, rows.rows, rows.elements, rows.factor)

    def own(self, node: fx.Node, codes: torch.Tensor | None = None, width: int = 0) -> str:
        """The value of a tensor that torch computes: its rows along the last dimension, or laid out
        by ``codes``, ``width`` elements a row."""
        name = f"%{node.name}" if codes is None else f"%{node.name}:{width}"
        if name not in self.boundaries:
            if codes is None:
                view = self.views.own(node)
                codes, width = view.codes, view.width
            self.boundaries[name] = Boundary(node, codes, codes.numel() // width, width)
        return name

    def gathered(self, source: Source) -> str:
        """The value of some elements of a tensor that torch computes."""
        names = (f"%{source.node.name}:row{number}" for number in itertools.count(1))
        return next(
            name
            for name in names
            if self.boundaries.setdefault(name, Gathered(source)).source.same(source)
        )
