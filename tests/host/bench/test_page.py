"""Tables of notebooks."""

import pytest

from transept.host.bench.page import markdown, table

ROWS = [{"what": "a|b", "count": 12345, "share": 0.51234}, {"what": "c", "count": 1, "share": 2.0}]


def test_numbers_are_on_the_right_and_bars_do_not_cut_a_row():
    assert markdown(ROWS).splitlines() == [
        "| what | count | share |",
        "| --- | --: | --: |",
        "| a\\|b | 12,345 | 0.5123 |",
        "| c | 1 | 2 |",
    ]


def test_a_table_of_one_row():
    assert markdown(ROWS[1:]).splitlines()[2:] == ["| c | 1 | 2 |"]


def test_a_notebook_shows_it():
    assert table(ROWS)._repr_markdown_() == markdown(ROWS)


def test_a_row_that_lacks_a_column():
    with pytest.raises(KeyError, match="share"):
        markdown([*ROWS, {"what": "d", "count": 1}])
