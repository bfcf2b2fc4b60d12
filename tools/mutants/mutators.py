"""Which faults a node of the syntax tree can have: a table from node types to small generators.

Each yields edits (kind, span, new text). The kinds are the slips that people make: a comparison off
by its border, a constant off by one, an operator, a condition or an argument taken for another, a
forgotten statement, a field one bit too narrow.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from mutants.source import Source, Span

__all__ = ["ASSURANCES", "Edit", "called", "edits"]

Edit = tuple[str, Span, str]
Mutator = Callable[[Source, Any], Iterator[Edit]]

_COMPARISONS = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
}
_OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
}
_OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil"}
_OPPOSITES |= {"ceil": "floor", "argmin": "argmax", "argmax": "argmin"}

#: Arguments that no result depends on: assurances, and what a reset does to data that nobody reads.
ASSURANCES = {"help", "reset_less", "strict"}
#: Calls whose arguments may be exchanged without a difference.
_SYMMETRIC = {"array_equal", "gcd", "lcm", "max", "maximum", "min", "minimum", "swapaxes"}
#: Hardware conditions: ``with m.If(...)``.
_CONDITIONS = {"If", "Elif"}
#: Calls that take a width, and the argument which that is; one bit more is no fault.
_SHAPES = {"Const": 1, "In": 0, "Out": 0, "Signal": 0, "signed": 0, "unsigned": 0}
#: Calls that take a dictionary of them.
_LAYOUTS = {"StructLayout", "UnionLayout"}
#: How a shape is read; without it a number has another sign.
_CASTS = {"as_signed", "as_unsigned"}
#: Texts and sequences, to which arithmetic means something else.
_SEQUENCES = (ast.JoinedStr, ast.List, ast.ListComp, ast.Tuple)


def called(node: ast.AST) -> str:
    """The last name of what a call calls; empty for other nodes."""
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def edits(source: Source, node: ast.AST, parents: Sequence[ast.AST]) -> Iterator[Edit]:
    """Every fault of one node, its children left out.

    parents: the nodes that it stands in, the outermost first.
    """
    if isinstance(node, ast.Constant):
        yield from _constant(source, node, parents)
    for mutator in _MUTATORS.get(type(node), ()):
        yield from mutator(source, node)


def _constant(source: Source, node: ast.Constant, parents: Sequence[ast.AST]) -> Iterator[Edit]:
    value, span = node.value, source.span(node)
    if isinstance(value, bool):
        yield "constant", span, str(not value)
    elif isinstance(value, int):
        style = hex if source.text(node).lower().startswith("0x") else str
        if not _is_width(node, parents):
            yield "constant", span, style(value + 1)
        if value > 0:
            yield "constant", span, style(value - 1)
    elif isinstance(value, float):
        yield "constant", span, repr(value * 2 if value else 1.0)


def _is_width(node: ast.AST, parents: Sequence[ast.AST]) -> bool:
    *_, outer, parent = (node, node, *parents)
    if isinstance(parent, ast.Dict):
        return called(outer) in _LAYOUTS
    name = called(parent)
    return name in _SHAPES and node in parent.args[_SHAPES[name] :]  # type: ignore[attr-defined]


def _comparison(source: Source, node: ast.Compare) -> Iterator[Edit]:
    operands = [node.left, *node.comparators]
    for operator, (left, right) in zip(node.ops, pairwise(operands), strict=True):
        old, others = _COMPARISONS[type(operator)]
        for new in others:
            yield "comparison", source.between(left, right, old), new


def _is_sequence(node: ast.AST) -> bool:
    return isinstance(node, _SEQUENCES) or isinstance(getattr(node, "value", None), str | bytes)


def _operator(source: Source, node: ast.BinOp) -> Iterator[Edit]:
    if type(node.op) in _OPERATORS and not _is_sequence(node.left) | _is_sequence(node.right):
        old, new = _OPERATORS[type(node.op)]
        yield "operator", source.between(node.left, node.right, old), new


def _in_place(source: Source, node: ast.AugAssign) -> Iterator[Edit]:
    if type(node.op) in _OPERATORS and _domain(node) is None and not _is_sequence(node.value):
        old, new = _OPERATORS[type(node.op)]
        yield "operator", source.between(node.target, node.value, old + "="), new + "="


def _domain(node: ast.AugAssign) -> ast.AST | None:
    """``m.d`` of ``m.d.sync += ...``."""
    owner = getattr(node.target, "value", None)
    return owner if isinstance(owner, ast.Attribute) and owner.attr == "d" else None


def _assignments(source: Source, node: ast.AugAssign) -> Iterator[Edit]:
    """One assignment of ``m.d.sync += [...]`` is forgotten."""
    if _domain(node) is None or not isinstance(node.value, ast.List) or len(node.value.elts) < 2:
        return
    for element, after in pairwise(node.value.elts):
        yield "dropped", (source.span(element)[0], source.span(after)[0]), ""
    before, last = node.value.elts[-2:]
    yield "dropped", (source.span(before)[1], source.span(last)[1]), ""


def _connective(source: Source, node: ast.BoolOp) -> Iterator[Edit]:
    old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in pairwise(node.values):
        yield "connective", source.between(left, right, old), new


def _sign(source: Source, node: ast.UnaryOp) -> Iterator[Edit]:
    if not isinstance(node.op, ast.UAdd):
        kind = "condition" if isinstance(node.op, ast.Not) else "operator"
        yield kind, source.span(node), f"({source.text(node.operand)})"


def _condition(source: Source, node: ast.If | ast.IfExp) -> Iterator[Edit]:
    yield from _negation(source, node.test)


def _filter(source: Source, node: ast.comprehension) -> Iterator[Edit]:
    for test in node.ifs:
        yield from _negation(source, test)


def _negation(source: Source, test: ast.expr) -> Iterator[Edit]:
    negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    compared = isinstance(test, ast.Compare) and len(test.ops) == 1  # has an opposite of its own
    if not negated and not compared:
        yield "condition", source.span(test), f"(not ({source.text(test)}))"


def _hardware_condition(source: Source, node: ast.Call) -> Iterator[Edit]:
    if called(node) in _CONDITIONS and len(node.args) == 1:
        test = node.args[0]
        yield "condition", source.span(test), f"({source.text(test)}) == 0"


def _opposite(source: Source, node: ast.Call) -> Iterator[Edit]:
    if called(node) in _OPPOSITES:
        end = source.span(node.func)[1]
        name = called(node)
        yield "operator", (end - len(name), end), _OPPOSITES[name]


def _arguments(source: Source, node: ast.Call) -> Iterator[Edit]:
    if called(node) in _SYMMETRIC:
        return
    named = [part.value for part in node.keywords if part.arg and part.arg not in ASSURANCES]
    for values in (node.args, named):
        for left, right in pairwise(values):
            yield from _exchange(source, left, right)


def _exchange(source: Source, left: ast.expr, right: ast.expr) -> Iterator[Edit]:
    if _is_plain(left) != _is_plain(right) or isinstance(left, ast.Starred):
        return
    first, second = source.text(left), source.text(right)
    (start, middle), (rest, end) = source.span(left), source.span(right)
    if first != second:
        yield "arguments", (start, end), second + source.raw[middle:rest].decode() + first


def _is_plain(node: ast.expr) -> bool:
    """Whether it may be a number: not a text, not the module under construction, not a sequence."""
    module = isinstance(node, ast.Name) and node.id == "m"
    return not (module or _is_sequence(node) or isinstance(node, ast.Starred))


def _width(source: Source, node: ast.Call) -> Iterator[Edit]:
    if called(node) in ("range", "signed", "unsigned") and len(node.args) == 1:
        yield from _one_less(source, node.args[0], "width")


def _one_less(source: Source, node: ast.expr, kind: str) -> Iterator[Edit]:
    if not isinstance(node, ast.Constant | ast.Starred):
        yield kind, source.span(node), f"({source.text(node)}) - 1"


def _cast(source: Source, node: ast.Call) -> Iterator[Edit]:
    if called(node) in _CASTS and isinstance(node.func, ast.Attribute):
        yield "width", (source.span(node.func.value)[1], source.span(node)[1]), ""


def _slice(source: Source, node: ast.Slice) -> Iterator[Edit]:
    for bound in (node.lower, node.upper):
        if bound is not None:
            yield from _one_less(source, bound, "slice")
    bounds = [bound for bound in (node.lower, node.upper, node.step) if bound is not None]
    if len(bounds) == 1 and node.step is None:
        text = source.text(bounds[0])
        yield "slice", source.span(node), f":{text}" if node.lower else f"{text}:"


def _call_statement(source: Source, node: ast.Expr) -> Iterator[Edit]:
    if isinstance(node.value, ast.Call):
        yield from _statement(source, node)


def _stored(source: Source, node: ast.Assign) -> Iterator[Edit]:
    """What is stored in an object that exists; that a name or a parameter is never kept is seen by
    any test."""
    kept = isinstance(node.value, ast.Name)
    if not kept and not any(isinstance(target, ast.Name | ast.Tuple) for target in node.targets):
        yield from _statement(source, node)


def _statement(source: Source, node: ast.stmt) -> Iterator[Edit]:
    yield "dropped", source.span(node), "pass"


def _leap(source: Source, node: ast.Continue | ast.Break) -> Iterator[Edit]:
    yield "dropped", source.span(node), "pass"
    yield "leap", source.span(node), "break" if isinstance(node, ast.Continue) else "continue"


_CALLS = (_hardware_condition, _opposite, _arguments, _width, _cast)
_MUTATORS: dict[type, tuple[Mutator, ...]] = {
    ast.Compare: (_comparison,),
    ast.BinOp: (_operator,),
    ast.AugAssign: (_in_place, _assignments, _statement),
    ast.BoolOp: (_connective,),
    ast.UnaryOp: (_sign,),
    ast.If: (_condition,),
    ast.IfExp: (_condition,),
    ast.comprehension: (_filter,),
    ast.Call: _CALLS,
    ast.Slice: (_slice,),
    ast.Expr: (_call_statement,),
    ast.Assign: (_stored,),
    ast.Raise: (_statement,),
    ast.Continue: (_leap,),
    ast.Break: (_leap,),
}
