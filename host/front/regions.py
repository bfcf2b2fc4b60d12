"""Which operators the accelerator runs together: regions of a torch graph.

The depth of an operator is how often its data has gone from the accelerator to torch and back.
Between two operators of the same depth nothing is computed by torch, so all that are connected form
one region, whatever the model is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import fx

from transept.host.front.matcher import Matcher
from transept.host.front.matches import (
    AddMatch,
    AttentionMatch,
    LinearMatch,
    Match,
    MultiplyMatch,
    NormMatch,
    RotaryMatch,
    Source,
)
from transept.host.front.spaces import Groups, Spaces

__all__ = ["FloatRegion", "find_regions"]


@dataclass(eq=False)
class FloatRegion:
    """Operators that run together, still in real numbers.

    inputs, outputs: values that cross the region's edge; sources: where every value is in the torch
    graph; before: the same for what an activation is applied to, by the name of the linear layer;
    dims, orders: of ``Spaces``.
    """

    name: str
    ops: list[Match]
    inputs: list[str]
    outputs: list[str]
    sources: dict[str, Source]
    before: dict[str, Source]
    spaces: Spaces
    nodes: frozenset[fx.Node] = field(default=frozenset())

    @property
    def signature(self) -> tuple:
        """Equal for regions that compute the same, whatever their shapes."""
        return tuple((op.name, op.inputs, op.outputs) for op in self.ops), tuple(self.outputs)

    @property
    def attentions(self) -> list[AttentionMatch]:
        """Its attentions."""
        return [op for op in self.ops if isinstance(op, AttentionMatch)]

    @property
    def rotaries(self) -> list[RotaryMatch]:
        """Its rotary embeddings."""
        return [op for op in self.ops if isinstance(op, RotaryMatch)]

    def attends(self, rotary: RotaryMatch) -> bool:
        """Whether attentions, and nothing else, read what a rotary embedding makes."""
        (out,) = rotary.outputs
        return out not in self.outputs and any(out in op.inputs for op in self.attentions)


def find_regions(matcher: Matcher, cuts: frozenset[str] = frozenset()) -> list[FloatRegion]:
    """Every region that multiplies; all of them if none does. cuts: operators whose operands come
    from torch, though the accelerator makes them: a region that was too large ends before them."""
    names: Groups[str] = Groups()
    depths = _depths(matcher, cuts)
    producers = {out: op for op in matcher.matches for out in op.outputs}
    for op in matcher.matches:
        names.find(op.name)
        for value in op.inputs:
            maker = producers.get(value)
            if maker is not None and depths[maker.name] == depths[op.name]:
                names.join([maker.name, op.name])
    for ops in _sharing(matcher.matches, depths).values():
        names.join(op.name for op in ops)
    members: dict[str, list[Match]] = {}
    for op in matcher.matches:
        members.setdefault(names.find(op.name), []).append(op)
    multiply = [
        ops
        for ops in members.values()
        if any(isinstance(op, LinearMatch | AttentionMatch) for op in ops)
    ]
    found = [_Builder(matcher, ops).region() for ops in multiply or members.values()]
    regions = [region for region in found if region.ops]  # else nobody reads its results
    _name(regions)
    return regions


def _sharing(ops: list[Match], depths: dict[str, int]) -> dict[tuple[int, str], list[Match]]:
    """Operators of one depth that read the same value."""
    shared: dict[tuple[int, str], list[Match]] = {}
    for op in ops:
        for value in op.inputs:
            shared.setdefault((depths[op.name], value), []).append(op)
    return shared


def _depths(matcher: Matcher, cuts: frozenset[str]) -> dict[str, int]:
    defined = {b.node: name for op in matcher.matches for name, b in op.defines.items()}
    producers = {out: op for op in matcher.matches for out in op.outputs}
    of_node: dict[fx.Node, int] = {}
    depths: dict[str, int] = {}

    def node_depth(node: fx.Node) -> int:
        if node not in of_node:
            if node in defined:
                of_node[node] = op_depth(producers[defined[node]])
            else:
                of_node[node] = max((node_depth(n) for n in node.all_input_nodes), default=0)
        return of_node[node]

    def op_depth(op: Match) -> int:
        if op.name not in depths:
            found = 1
            for value in op.inputs:
                maker = producers.get(value)
                if maker is None:
                    found = max(found, node_depth(matcher.boundaries[value].node) + 1)
                else:
                    crosses = _crosses(op, maker) or op.name in cuts
                    found = max(found, op_depth(maker) + crosses)
            for mask in op.masks if isinstance(op, AttentionMatch) else ():
                found = max(found, node_depth(mask.node) + 1)
            depths[op.name] = found
        return depths[op.name]

    for node in matcher.module.graph.nodes:  # in order, so that no recursion goes deep
        node_depth(node)
    return depths


def _crosses(op: Match, maker: Match) -> bool:
    """Whether a value goes through torch though both operators match: attention takes int8 from
    linear layers and rotary embeddings alone, and nothing else takes it from those; rotary
    embeddings take what has no other scale, and linear layers alone the scale of a product."""
    plain = isinstance(maker, LinearMatch) and maker.activation is None
    if isinstance(op, AttentionMatch):
        return not (plain or (isinstance(maker, RotaryMatch) and _in_order_of(op, maker)))
    if isinstance(op, RotaryMatch):
        return not plain
    multiplied = isinstance(maker, MultiplyMatch) and not isinstance(op, LinearMatch)
    return multiplied or isinstance(maker, RotaryMatch)


def _in_order_of(op: AttentionMatch, maker: RotaryMatch) -> bool:
    """Whether an attention reads the heads of a rotary embedding as they lie."""
    return all(
        bool((columns.flatten() == torch.arange(columns.numel())).all())
        for value, columns in zip(op.inputs, op.columns, strict=True)
        if value in maker.outputs
    )


class _Builder:
    """Brings the operators of one region to the forms that ``golden.ops`` has."""

    def __init__(self, matcher: Matcher, ops: list[Match]) -> None:
        self._matcher, self._ops = matcher, ops
        self._inside = {out for op in ops for out in op.outputs}
        self._sources: dict[str, Source] = {}
        self._before: dict[str, Source] = {}
        self._inputs: dict[str, None] = {}
        self._renamed: dict[str, str] = {}
        nodes = frozenset(node for op in ops for node in op.nodes)
        self._nodes = nodes
        for op in ops:
            for name, boundary in op.defines.items():
                self._sources[name] = boundary.source
            if isinstance(op, LinearMatch):
                self._before[op.name] = op.product.source

    def region(self) -> FloatRegion:
        outputs = [name for name in self._sources if self._read_outside(name)]
        ops = self._fused(self._entered(), outputs)
        read = {value for op in ops for value in op.inputs} | set(outputs)
        while dead := [op for op in ops if not read & set(op.outputs)]:
            ops = [op for op in ops if op not in dead]
            read = {value for op in ops for value in op.inputs} | set(outputs)
        rows = {name: len(source.index) for name, source in self._sources.items()}
        return FloatRegion(
            name="",
            ops=ops,
            inputs=[v for v in self._inputs if v in read],
            outputs=outputs,
            sources=self._sources,
            before=self._before,
            spaces=Spaces(ops, rows),
            nodes=self._nodes,
        )

    def _read_outside(self, name: str) -> bool:
        node = self._sources[name].node
        return any(user not in self._nodes for user in self._users(node, name))

    def _users(self, node: fx.Node, name: str) -> Iterable[fx.Node]:
        """Users of a value that are not views which only members of the region read."""
        pending, seen = list(node.users), set()
        while pending:
            user = pending.pop()
            if user in seen:
                continue
            seen.add(user)
            if user not in self._nodes and self._is_view(user, name):
                pending += list(user.users)
                continue
            yield user

    def _is_view(self, node: fx.Node, name: str) -> bool:
        view = self._matcher.views[node] if node.op == "call_function" else None
        views = view if isinstance(view, list) else [view]
        return all(getattr(part, "value", None) == name for part in views)

    # --- values that enter
    def _entered(self) -> list[Match]:
        """The operators with names for what comes in, packed projections taken apart."""
        ops: list[Match] = []
        for op in self._ops:
            if isinstance(op, AttentionMatch):
                ops += self._attention(op)
            elif isinstance(op, RotaryMatch):
                ops += self._rotary(op)
            else:
                second = "factor" if isinstance(op, MultiplyMatch) else "residual"
                wanted = (f"{op.name}.input", f"{op.name}.{second}")
                inputs = tuple(map(self._value, op.inputs, wanted))
                ops.append(replace(op, inputs=inputs))
        return ops

    def _value(self, value: str, wanted: str) -> str:
        """The name of a value inside the region."""
        if value in self._inside:
            return value
        if value not in self._renamed:
            self._renamed[value] = wanted
            self._sources[wanted] = self._matcher.boundaries[value].source
            self._inputs[wanted] = None
        return self._renamed[value]

    def _source(self, value: str) -> Source:
        """Where a value lies, whoever makes it."""
        return self._sources.get(value) or self._matcher.boundaries[value].source

    def _attention(self, op: AttentionMatch) -> list[Match]:
        """The attention with its operands in the order of heads, and the linear layers that make
        them so."""
        ops: list[Match] = []
        inputs = []
        for value, columns, role in zip(
            op.inputs, op.columns, ("query", "key", "value"), strict=True
        ):
            if isinstance(self._maker(value), RotaryMatch):
                inputs.append(value)
                continue
            ops += self._heads(value, columns, f"{op.name}.{role}")
            inputs.append(f"{op.name}.{role}")
        return [*ops, replace(op, inputs=tuple(inputs))]

    def _rotary(self, op: RotaryMatch) -> list[Match]:
        """The same for a rotary embedding."""
        x, cos, sin = op.inputs
        name = f"{op.name}.input"
        ops = self._heads(x, op.columns, name)
        inputs = (name, self._value(cos, f"{op.name}.cos"), self._value(sin, f"{op.name}.sin"))
        return [*ops, replace(op, inputs=inputs)]

    def _maker(self, value: str) -> Match | None:
        """The operator of the region that makes a value."""
        return next((op for op in self._ops if value in op.outputs), None)

    def _heads(self, value: str, columns: torch.Tensor, name: str) -> list[Match]:
        """Define ``name``, some elements of a value in the order of heads: the linear layer that
        makes them, if one does."""
        elements, maker = columns.flatten(), self._maker(value)
        self._sources[name] = self._source(value).columns(elements)
        if not isinstance(maker, LinearMatch):
            self._inputs[name] = None
            return []
        x = self._value(maker.inputs[0], f"{maker.name}.input")
        return [
            replace(
                maker,
                name=name,
                inputs=(x,),
                outputs=(name,),
                weight=maker.weight[elements],
                bias=maker.bias[elements],
            )
        ]

    # --- sums that a norm reads
    def _fused(self, ops: list[Match], outputs: list[str]) -> list[Match]:
        """Each sum and its first norm as one operator; it is kept if anything else reads it."""
        sums = {op.outputs[0]: op for op in ops if isinstance(op, AddMatch)}
        taken: set[str] = set()
        fused: list[Match] = []
        for op in ops:
            add = sums.get(op.inputs[0]) if isinstance(op, NormMatch) else None
            if add is None or add.name in taken:
                fused.append(op)
                continue
            taken.add(add.name)
            total = add.outputs[0]
            kept = total in outputs or any(
                total in other.inputs for other in ops if other is not op
            )
            assert isinstance(op, NormMatch)
            fused.append(
                replace(
                    op,
                    inputs=add.inputs,
                    outputs=(*op.outputs, total) if kept else op.outputs,
                    sum=total,
                )
            )
        return _in_order([op for op in fused if op.name not in taken])


def _in_order(ops: list[Match]) -> list[Match]:
    """The same operators, each behind those that make its operands, else in their order."""
    defined = {out: op for op in ops for out in op.outputs}
    done: dict[str, Match] = {}

    def add(op: Match) -> None:
        if op.name in done:
            return
        for value in op.inputs:
            if value in defined:
                add(defined[value])
        done[op.name] = op

    for op in ops:
        add(op)
    return list(done.values())


def _name(regions: list[FloatRegion]) -> None:
    """Each region has the common path of its operators as its name, a number behind it if another
    one has it too."""
    names: dict[str, int] = {}
    for region in regions:
        name = ".".join(_common([op.name.split(".") for op in region.ops])) or "model"
        names[name] = names.get(name, 0) + 1
        region.name = name if names[name] == 1 else f"{name}#{names[name]}"


def _common(paths: list[list[str]]) -> list[str]:
    """The parts with which all paths begin."""
    found = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        found.append(parts[0])
    return found
