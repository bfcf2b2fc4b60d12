"""Blocks by high-level synthesis beside those in Amaranth: what is counted, the table in docs."""

import json
from pathlib import Path

import pytest

from transept.golden.config import HLS_BLOCKS
from transept.host.bench import hls
from transept.host.bench.hls import bench_hls
from transept.sim import tools

DOCS = Path(__file__).parents[3] / "docs"
TABLE = json.loads((DOCS / "measurements" / "hls.json").read_text())
COLUMNS = ("latency", "interval", "dsp", "lut", "ff", "dsp_hls", "lut_hls", "ff_hls", "ratio")
COLUMNS += ("lines", "lines_dslx", "lines_cpp")
ROWS = {row["block"]: row for row in TABLE["rows"]}
ABSENT = tools.missing(hls.TOOLS)


def test_the_table_has_every_block_within_a_fifth_of_the_hand_written_one():
    assert tuple(ROWS) == HLS_BLOCKS
    for row in ROWS.values():
        assert row["dsp_hls"] == row["dsp"]
        assert max(row["lut_hls"] / row["lut"], row["ff_hls"] / row["ff"]) <= 1.2
        assert row["ratio"] <= 1.2
        assert row["interval"] == 1
    assert TABLE["product"]["ratio"] <= 1.1
    assert TABLE["product"]["mismatches"] == 0
    assert [row["latency"] for row in ROWS.values()] == [8, 11, 8, 16, 1]


def test_the_page_has_the_table():
    page = (DOCS / "hls.md").read_text()
    product = TABLE["product"]
    assert f"moves {product['bytes']:,} bytes, {product['ratio']:.2f} of" in page
    for row in ROWS.values():
        cells = [f"{row[key]:,}" if key != "ratio" else f"{row[key]:.2f}" for key in COLUMNS]
        assert f"| {row['block']} | {' | '.join(cells)} |" in page


@pytest.mark.skipif(bool(ABSENT), reason=tools.absence(ABSENT))
def test_rows_are_made_of_both_blocks(monkeypatch):
    seen = []

    def count(text, top):
        seen.append((top, f"module hls_{top}(" in text))
        return {"dsp": 2, "lut": 100 + 30 * seen[-1][1], "ff": 50, "bram36": 0}

    monkeypatch.setattr(hls, "synthesise_block", count)
    monkeypatch.setattr(hls, "bench_avoiding", lambda: {"bytes": 1})
    told = []
    result = bench_hls(progress=told.append)
    assert told == [*HLS_BLOCKS, "gemm"]
    assert result["product"] == {"bytes": 1}
    assert seen == [(name, twin) for name in HLS_BLOCKS for twin in (False, True)]
    assert (result["config"], set(result)) == ("pynq_z2", {"config", "tools", "rows", "product"})
    for row in result["rows"]:
        kept = {"latency", "interval", "lines", "lines_dslx", "lines_cpp"}
        assert {key: row[key] for key in kept} == {key: ROWS[row["block"]][key] for key in kept}
        assert (row["lut"], row["lut_hls"], row["ratio"]) == (100, 130, 1.3)


def test_lines_are_those_of_code():
    assert hls._lines("// a\n\nfn f() {\n  1  // b\n}\n") == 3
    assert hls._python_lines(_Sample) == 3
    assert hls._ratio(3, 2) == 1.5
    assert hls._ratio(0, 0) == 1
    assert hls._ratio(2, 0) == 3


class _Sample:
    """Two lines of this
    are not counted."""

    # nor this
    x = 1

    def f(self):
        """Nor this."""


@pytest.mark.slow
@pytest.mark.skipif(bool(ABSENT), reason=tools.absence(ABSENT))
def test_the_table_is_that_of_today():
    """Exactly; what another release of a tool may count in another way, within 5 %."""
    found = bench_hls()
    counted = {"lut", "ff", "lut_hls", "ff_hls", "ratio"}
    assert found["product"] == TABLE["product"]
    for row in found["rows"]:
        for key, figure in ROWS[row["block"]].items():
            wanted = pytest.approx(figure, rel=0.05) if key in counted else figure
            assert row[key] == wanted, f"{row['block']}: {key}"
