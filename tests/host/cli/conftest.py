"""Stand-ins for what commands call."""

import pytest

from transept.host import report


@pytest.fixture
def stand_in(monkeypatch):
    """Replaces a function, told by its full name, with a result or another function; returns the
    calls of all that are replaced, in order."""
    calls = []

    def replace(name, result=None):
        short = name.rpartition(".")[2]

        def call(*arguments, **options):
            calls.append((short, *arguments, options) if options else (short, *arguments))
            return result(*arguments, **options) if callable(result) else result

        monkeypatch.setattr(name, call)
        return calls

    return replace


@pytest.fixture
def tables(monkeypatch):
    """What is shown as tables: pairs of title and rows."""
    shown = []
    monkeypatch.setattr(report, "show_rows", lambda title, rows: shown.append((title, rows)))
    return shown
