"""What errors of libraries say, in one line."""

import pytest

from transept.host.reasons import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  it broke \nat a place"), "it broke "),
        (KeyError("it"), "'it'"),
        (OSError(" \n"), "OSError"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_the_first_line(error, line):
    assert first_line(error) == line
