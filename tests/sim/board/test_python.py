"""Which Python has pynq."""

import importlib.util
import sys

import pytest

from transept.sim.board import python
from transept.sim.tools import ToolMissing


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Nothing is anywhere."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(python, "_MADE", tmp_path / "made")
    monkeypatch.delenv(python.ENVIRONMENT, raising=False)
    return tmp_path


def test_nowhere(places):
    with pytest.raises(ToolMissing, match=r"^pynq missing; run: make board, or pip install 'trans"):
        python.board_python()


def test_the_one_that_make_made(places):
    (places / "made").touch()
    assert python.board_python() == str(places / "made")


def test_the_one_that_is_named(places, monkeypatch):
    (places / "made").touch()
    monkeypatch.setenv(python.ENVIRONMENT, str(places / "mine"))
    with pytest.raises(ToolMissing, match=r"^TRANSEPT_BOARD_PYTHON is .*mine, which is no file$"):
        python.board_python()
    (places / "mine").touch()
    assert python.board_python() == str(places / "mine")


def test_this_one(places, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert python.board_python() == sys.executable
