"""From a torch module to float layers: torch.export, then patterns over the graph.

Two families are recognised: post-norm encoder stacks (embedding norm, then attention and
feed-forward layers) and chains of linear layers. What stands before and behind the recognised
region stays with torch; operators that no pattern takes are named with the reason.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx

from transept.host import graph

__all__ = ["ImportedModel", "UnsupportedModelError", "import_model"]

aten = torch.ops.aten

#: Operators that only rename or reorder values on the way from one pattern node to the next.
_TRANSPARENT = {
    aten.dropout.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.to.dtype,
    aten.alias.default,
    aten.detach.default,
}
_SHAPES = _TRANSPARENT | {
    aten.view.default,
    aten.reshape.default,
    aten.transpose.int,
    aten.permute.default,
    aten.expand.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
}
_ACTIVATIONS = {
    aten.gelu.default: "gelu",
    aten.silu.default: "silu",
    aten.relu.default: "relu",
    aten.tanh.default: "tanh",
    aten.sigmoid.default: "sigmoid",
}


class UnsupportedModelError(ValueError):
    """No part of the model can run on the accelerator; the message names the first obstacle."""


@dataclass(frozen=True)
class ImportedModel:
    """A recognised region inside an exported graph.

    entry: the node whose value the accelerator gets; exit: the node that it replaces; layers: the
    float encoder or chain; mask: the graph input that marks real tokens, if any; fallback:
    (operator, reason) of everything that stays with torch.
    """

    module: fx.GraphModule
    entry: fx.Node
    exit: fx.Node
    layers: graph.Encoder | graph.Chain
    mask: fx.Node | None
    fallback: tuple[tuple[str, str], ...]


def import_model(model: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> ImportedModel:
    """Export ``model`` with ``example`` and find the region that the accelerator can run.

    Raises
    ------
    UnsupportedModelError
        If there is none.
    """
    module = torch.export.export(model.eval(), example).module()
    module.graph.eliminate_dead_code()
    matcher = _Matcher(module)
    found = matcher.encoder() or matcher.chain()
    if found is None:
        raise UnsupportedModelError(
            "no post-norm encoder and no chain of linear layers found; operators: "
            + ", ".join(sorted({_name(n) for n in module.graph.nodes if n.op == "call_function"}))
        )
    entry, exit_, layers, mask, used = found
    fallback = _fallback(module, used, exit_)
    return ImportedModel(module, entry, exit_, layers, mask, fallback)


def _name(node: fx.Node) -> str:
    return str(node.target).removeprefix("aten.").split(".")[0]


def _fallback(
    module: fx.GraphModule, used: set[fx.Node], exit_: fx.Node
) -> tuple[tuple[str, str], ...]:
    """Operators outside the region that do arithmetic, before and behind it, with the reason."""
    silent = {str(op).split(".")[1] for op in _SHAPES} | {"getitem"}
    before: dict[str, None] = {}
    behind: dict[str, None] = {}
    names = before
    for node in module.graph.nodes:
        if node is exit_:
            names = behind
        if node.op != "call_function" or node in used or node.target is operator.getitem:
            continue
        value = node.meta.get("val")
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        if floating and _name(node) not in silent:
            names.setdefault(_name(node))
    lookup = "embedding" in before
    reasons = (
        (
            before,
            "embedding lookup: no arithmetic to speed up" if lookup else "no pattern takes it",
        ),
        (behind, "behind the last accelerated layer (pooling, heads): no pattern takes it"),
    )
    return tuple((", ".join(names), reason) for names, reason in reasons if names)


class _Matcher:
    """Backward structural patterns over one graph; each returns None where it does not apply."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._nodes = list(module.graph.nodes)
        self.used: set[fx.Node] = set()

    # --- small steps
    def _tensor(self, node: object) -> torch.Tensor:
        assert isinstance(node, fx.Node)
        value: object = self._module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        assert isinstance(value, torch.Tensor)
        return value.detach().float()

    @staticmethod
    def _constant(*nodes: object) -> bool:
        """Whether these are parameters or buffers, not computed."""
        return all(node is None or node.op == "get_attr" for node in nodes)  # type: ignore

    def _through(self, node: object, allowed: set) -> fx.Node | None:
        while isinstance(node, fx.Node) and node.target in allowed:
            self.used.add(node)
            node = node.args[0]
        return node if isinstance(node, fx.Node) else None

    def _is(self, node: object, *targets: object) -> bool:
        if isinstance(node, fx.Node) and node.op == "call_function" and node.target in targets:
            self.used.add(node)
            return True
        return False

    def _linear(self, node: object, activation: str | None = None) -> graph.Linear | None:
        if not self._is(node, aten.linear.default):
            return None
        assert isinstance(node, fx.Node)
        if not self._constant(*node.args[1:]):
            return None
        weight = self._tensor(node.args[1])
        has_bias = len(node.args) > 2 and node.args[2] is not None
        bias = self._tensor(node.args[2]) if has_bias else torch.zeros(weight.shape[0])
        name = str(node.args[1].target).removesuffix(".weight")  # type: ignore[union-attr]
        return graph.Linear(name, weight, bias, activation)

    def _norm(self, node: object) -> graph.Norm | None:
        if not self._is(node, aten.layer_norm.default):
            return None
        assert isinstance(node, fx.Node)
        # without gamma and beta, or over more than the last dimension, it is another operator
        if len(node.args) < 4 or not self._constant(*node.args[2:4]) or len(node.args[1]) != 1:
            return None
        epsilon = float(node.args[4]) if len(node.args) > 4 else 1e-5  # type: ignore[arg-type]
        name = str(node.args[2].target).removesuffix(".weight")  # type: ignore[union-attr]
        return graph.Norm(name, self._tensor(node.args[2]), self._tensor(node.args[3]), epsilon)

    def _activation(self, node: object) -> str | None:
        if not isinstance(node, fx.Node) or node.target not in _ACTIVATIONS:
            return None
        self.used.add(node)
        if node.kwargs.get("approximate") == "tanh":
            return "gelu_tanh"
        return _ACTIVATIONS[node.target]

    # --- encoder layers
    def _residual(self, node: object, is_branch: Callable[[fx.Node], bool]) -> tuple | None:
        """``branch + x`` in either order: (branch, x)."""
        if not self._is(node, aten.add.Tensor):
            return None
        left, right = (self._through(part, _TRANSPARENT) for part in node.args[:2])  # type: ignore
        for branch, x in ((left, right), (right, left)):
            if branch is not None and x is not None and is_branch(branch):
                return branch, x
        return None

    def _attention(self, node: fx.Node) -> dict | None:
        """Context back to Q, K and V: explicit softmax or scaled_dot_product_attention."""
        node = self._through(node, _SHAPES)  # type: ignore[assignment]
        if self._is(node, aten.scaled_dot_product_attention.default):
            q, k, v = node.args[:3]
            mask = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
            if node.kwargs.get("is_causal") or (len(node.args) > 5 and node.args[5]):
                return None
            return {"qkv": (q, k, v), "mask": mask, "scale": node.kwargs.get("scale")}
        if not self._is(node, aten.matmul.default):
            return None
        softmax = self._through(node.args[0], _TRANSPARENT)
        if not self._is(softmax, aten.softmax.int, aten._softmax.default):
            return None
        scores, mask, scale = self._through(softmax.args[0], _TRANSPARENT), None, 1.0
        if self._is(scores, aten.add.Tensor):
            mask, scores = scores.args[1], self._through(scores.args[0], _TRANSPARENT)
        if self._is(scores, aten.mul.Tensor, aten.div.Tensor):
            if not isinstance(scores.args[1], (int, float)):
                return None
            factor = float(scores.args[1])
            scale = 1 / factor if scores.target is aten.div.Tensor else factor
            scores = self._through(scores.args[0], _TRANSPARENT)
        if not self._is(scores, aten.matmul.default):
            return None
        q, k = scores.args
        return {"qkv": (q, k, node.args[1]), "mask": mask, "scale": scale}

    def _layer(self, node: fx.Node) -> tuple[graph.Layer, fx.Node, object] | None:
        """A whole layer from its last norm: (layer, node of x, mask)."""
        output_norm = self._norm(node)
        if output_norm is None:
            return None
        feed_forward = self._residual(node.args[0], lambda n: n.target is aten.linear.default)
        if feed_forward is None:
            return None
        down, middle = feed_forward
        active = self._through(down.args[0], _TRANSPARENT)
        activation = self._activation(active)
        up = self._through(active.args[0], _TRANSPARENT) if activation else None
        if up is None or self._through(up.args[0], _TRANSPARENT) is not middle:
            return None
        attention_norm = self._norm(middle)
        attention = self._residual(middle.args[0], lambda n: n.target is aten.linear.default)
        if attention_norm is None or attention is None:
            return None
        output, x = attention
        core = self._attention(output.args[0])
        if core is None:
            return None
        projections = [self._through(part, _SHAPES) for part in core["qkv"]]
        if any(self._through(p.args[0], _TRANSPARENT) is not x for p in projections if p):
            return None
        linears = [self._linear(part) for part in (*projections, output, down)]
        up_linear = self._linear(up, activation)
        if any(part is None for part in (*linears, up_linear)):
            return None
        query, key, value, out, down_linear = linears
        head = core["qkv"][0].meta["val"].shape[-1]
        heads = query.weight.shape[0] // head
        layer = graph.Layer(
            name=query.name.split(".attention")[0],
            query=query,
            key=key,
            value=value,
            output=out,
            attention_norm=attention_norm,
            up=up_linear,
            down=down_linear,
            output_norm=output_norm,
            heads=heads,
            scale=core["scale"] or head**-0.5,
        )
        return layer, x, core["mask"]

    def encoder(self) -> tuple | None:
        """The longest stack of layers that ends at some layer_norm."""
        for node in reversed(self._nodes):
            if node.target is not aten.layer_norm.default:
                continue
            self.used = set()
            layers: list[graph.Layer] = []
            masks: list[object] = []
            x: fx.Node | None = node
            while x is not None and (found := self._layer(x)) is not None:
                layer, x, mask = found
                layers.append(layer)
                masks.append(mask)
                x = self._through(x, _TRANSPARENT)
            embedding_norm = self._norm(x) if layers else None
            if embedding_norm is None:
                continue
            entry = self._through(x.args[0], _TRANSPARENT)  # type: ignore[union-attr]
            if entry is None or entry.meta["val"].ndim != 3:
                continue
            encoder = graph.Encoder(embedding_norm, tuple(reversed(layers)))
            mask = self._mask_input(masks[0], entry.meta["val"].shape[:2])
            return entry, node, encoder, mask, self.used
        return None

    def _mask_input(self, mask: object, shape: tuple[int, ...]) -> fx.Node | None:
        """The graph input [batch, tokens] that an attention mask is made from."""
        seen: set[fx.Node] = set()
        stack = [mask] if isinstance(mask, fx.Node) else []
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.op == "placeholder" and node.meta["val"].shape == shape:
                self.used |= seen
                return node
            stack += node.all_input_nodes
        return None

    # --- chains of linear layers
    def chain(self) -> tuple | None:
        """The chain of linear layers that ends at the last linear."""
        for node in reversed(self._nodes):
            if node.target is not aten.linear.default and node.target not in _ACTIVATIONS:
                continue
            self.used = set()
            layers: list[graph.Linear] = []
            at: fx.Node | None = node
            while at is not None:
                activation = self._activation(at)
                source = self._through(at.args[0], _TRANSPARENT) if activation else at
                linear = self._linear(source, activation)
                if linear is None:
                    break
                layers.append(linear)
                at = self._through(source.args[0], _TRANSPARENT)  # type: ignore[union-attr]
            if layers:
                return at, node, graph.Chain(tuple(reversed(layers))), None, self.used
        return None
