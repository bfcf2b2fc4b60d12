"""What is missing is named, with the command that brings it."""

import os

import pytest

from transept.sim import tools
from transept.sim.tools import Tool

ONE = Tool("one", "this", "apt-get install", "one", program="no-such-program")
TWO = Tool("two", "that", "apt-get install", "two", program="nor-this-one")
THREE = Tool("three", "more", "pip install", "'transept[sim]'", module="no_such_module")
FOUR = Tool("four", "more", "pip install", "'transept[sim]'", module="nor_this_one")
NUMPY = Tool("numpy", "all", "pip install", "transept", module="numpy")


def test_found():
    assert NUMPY.found[0].isdigit()
    assert not ONE.found
    assert not THREE.found
    assert Tool("numpy", "", "", "", module="numpy", program="no-such-program").found


def test_all_missing_are_named_with_as_few_commands_as_possible():
    with pytest.raises(tools.ToolMissing) as caught:
        tools.require([ONE, NUMPY, THREE, TWO, FOUR])
    assert str(caught.value) == (
        "one, three, two, four missing; run: apt-get install one two and "
        "pip install 'transept[sim]'"
    )
    tools.require([NUMPY])


def test_a_failing_tool_shows_its_last_lines():
    with pytest.raises(tools.BuildError, match=r"(?s)status 3:\n62\n.*100\nlast$"):
        tools.run(["sh", "-c", "seq 100; echo last; exit 3"], env=tools.environment())
    with pytest.raises(tools.ToolMissing, match="no-such-program missing"):
        tools.run(["no-such-program"], env=tools.environment())


def test_without_path(monkeypatch):
    monkeypatch.delenv("PATH")
    assert tools.environment()["PATH"]


def test_the_processor_is_described():
    assert len(tools.processor().splitlines()) > 1


def test_a_tool_that_does_not_end_is_stopped():
    with pytest.raises(tools.BuildError, match=r"sleep has not ended within 0.00333 minutes"):
        tools.run(["sleep", "60"], env=os.environ, limit_s=0.2)
