"""All faults of a source file, and which of its lines are left alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mutants.mutators import ASSURANCES, called, edits
from mutants.source import Source

__all__ = ["MODULE", "Mutation", "mutations", "same_code"]

#: The scope of what stands outside functions.
MODULE = "<module>"

#: Calls that only show something.
_SHOWING = {"add_column", "add_row", "critical", "debug", "echo", "info", "print", "secho"}
#: Methods that only show something.
_TEXTS = {"__repr__", "__rich__", "__str__"}
#: Fields of syntax that do nothing when the program runs, or name what it inherits.
_SILENT = {"annotation", "bases", "decorator_list", "returns"}


@dataclass(frozen=True)
class Mutation:
    """One edit of a text: the bytes from ``start`` to ``end`` become ``new``."""

    kind: str
    line: int
    before: str  # the lines it touches, as one line
    after: str
    scope: str  # the function it stands in, qualified as Python does, else MODULE
    guard: bool  # in a condition whose only consequence is an error, or in that error
    compiled: bool  # in a function that is compiled for another machine: nobody sees it called
    start: int = field(repr=False)
    end: int = field(repr=False)
    new: str = field(repr=False)

    def apply(self, text: str) -> str:
        """The text with the fault."""
        raw = text.encode()
        return (raw[: self.start] + self.new.encode() + raw[self.end :]).decode()


@dataclass(frozen=True)
class _Place:
    """What the walk knows of where it is."""

    parents: tuple[ast.AST, ...] = ()
    scope: tuple[str, ...] = ()
    function: str = MODULE
    guard: bool = False
    compiled: bool = False


def mutations(text: str) -> list[Mutation]:
    """Every fault that the text can have, in the order of its lines, each once."""
    source = Source(text)
    found: dict[str, Mutation] = {}
    for node, place in _walk(source.tree, _Place()):
        for edit in edits(source, node, place.parents):
            mutation = _mutation(source, place, edit)
            mutant = mutation.apply(text)
            if mutant != text and mutant not in found:
                found[mutant] = mutation
    return sorted(found.values(), key=lambda mutation: (mutation.start, mutation.end))


def _mutation(source: Source, place: _Place, edit: tuple) -> Mutation:
    kind, (start, end), new = edit
    first, last = source.lines((start, end))
    before = source.raw[first:last].decode()
    after = source.raw[first:start].decode() + new + source.raw[end:last].decode()
    shown = (" ".join(part.split()) for part in (before, after))
    facts = (place.function, place.guard, place.compiled)
    return Mutation(kind, source.line(start), *shown, *facts, start, end, new)


def _walk(node: ast.AST, place: _Place) -> Iterator[tuple[ast.AST, _Place]]:
    """Every node that matters when the program runs, and where it is."""
    if _is_left_alone(node):
        return
    guards = isinstance(node, ast.Raise) or _only_raises(node)
    yield node, replace(place, guard=place.guard or guards)
    if isinstance(node, ast.Raise):  # its message is presentation
        return
    inner = _enter(node, place)
    for name, value in ast.iter_fields(node):
        guard = inner.guard or (guards and name == "test")
        below = replace(inner, parents=(*place.parents, node), guard=guard)
        if name not in _SILENT:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _walk(child, below)


def _enter(node: ast.AST, place: _Place) -> _Place:
    if isinstance(node, ast.ClassDef):
        return replace(place, scope=(*place.scope, node.name))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        scope = (*place.scope, node.name)
        compiled = place.compiled or any("jit" in ast.unparse(x) for x in node.decorator_list)
        return replace(
            place, scope=(*scope, "<locals>"), function=".".join(scope), compiled=compiled
        )
    return place


def _only_raises(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and all(isinstance(part, ast.Raise) for part in node.body)


def _is_left_alone(node: ast.AST) -> bool:
    """Texts, assurances and what is only shown: no result depends on them."""
    if isinstance(node, ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    if isinstance(node, ast.FunctionDef):
        return node.name in _TEXTS
    if isinstance(node, ast.keyword):
        return node.arg in ASSURANCES
    if isinstance(node, ast.Assign):
        return any(isinstance(name, ast.Name) and name.id == "__all__" for name in node.targets)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or called(node.value) in _SHOWING
    return False


def same_code(one: str, other: str) -> bool:
    """Whether two texts compile to the same instructions: the fault is none."""
    return _facts(compile(one, "", "exec")) == _facts(compile(other, "", "exec"))


def _facts(code: object) -> object:
    """What runs of a code object; where it stands in its file is left out."""
    if not hasattr(code, "co_code"):
        return type(code), code
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    constants = tuple(_facts(constant) for constant in code.co_consts)
    return code.co_code, code.co_name, names, counts, code.co_exceptiontable, constants
