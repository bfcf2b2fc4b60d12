"""What the docstrings of components say of their ports is so."""

import importlib
import inspect
import pkgutil
import re
import warnings

import pytest
from amaranth.hdl import Elaboratable, Shape, UnusedElaboratable
from amaranth.lib import wiring
from unused import unused

import transept.rtl
from transept.golden.config import TINY

NAMES = r"[a-z_0-9]+(?:, [a-z_0-9]+)*"
MEMBER = re.compile(rf"(?:^|, )({NAMES}) : (In|Out)\((.*?)(?=, {NAMES} : (?:In|Out)\(|$)", re.M)


def components():
    """Every component that a configuration, or nothing, describes."""
    for found in pkgutil.walk_packages(transept.rtl.__path__, "transept.rtl."):
        module = importlib.import_module(found.name)
        for kind in vars(module).values():
            if not (inspect.isclass(kind) and issubclass(kind, wiring.Component)):
                continue
            taken = [*inspect.signature(kind.__init__).parameters][1:]
            if kind.__module__ == module.__name__ and taken in ([], ["cfg"]):
                yield pytest.param(kind, taken, id=kind.__name__)


def described(kind):
    """Direction and the rest of what is said of each port."""
    text = re.split(r"Members\n-+\n", inspect.getdoc(kind) or "")[-1]
    return {
        name: (flow, rest)
        for names, flow, rest in MEMBER.findall(text)
        for name in names.split(", ")
    }


@pytest.mark.parametrize(("kind", "taken"), [*components()])
def test_ports_are_as_described(kind, taken):
    with unused():
        members = kind(*[TINY] * len(taken)).signature.members
    for name, (flow, said) in described(kind).items():
        member = members[name]
        assert (name, member.flow.name) == (name, flow)
        if width := re.match(r"(\d+)\)", said):
            assert (name, Shape.cast(member.shape).width) == (name, int(width[1]))
        if member.is_signature:
            always = getattr(member.signature, "always_ready", False)
            assert (name, always) == (name, "always-ready" in said)


def test_amaranth_complains_of_nothing_that_is_unused(monkeypatch):
    """It would when the object is deleted, once anything has been elaborated."""
    monkeypatch.setattr(UnusedElaboratable, "_MustUse__silence", False)
    with unused(), warnings.catch_warnings(record=True) as told:
        Elaboratable().__del__()
    assert told == []
