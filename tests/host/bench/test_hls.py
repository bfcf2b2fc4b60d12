"""Blocks by high-level synthesis beside those in Amaranth: what is counted, the table in docs."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from transept.golden.config import HLS_BLOCKS
from transept.golden.layouts import pack_channel_parameters
from transept.golden.numerics.requantise import ONE, ChannelParameters, requantise
from transept.host.bench import avoiding, hls
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
        return {"dsp": 2, "lut": 300 + 71 * seen[-1][1], "ff": 50, "bram36": 0}

    monkeypatch.setattr(hls, "synthesise_block", count)
    monkeypatch.setattr(hls, "bench_avoiding", lambda: {"bytes": 1})
    told, required = [], []
    monkeypatch.setattr(hls.tools, "require", required.append)
    result = bench_hls(progress=told.append)
    assert required[0] == hls.TOOLS
    assert told == [*HLS_BLOCKS, "gemm"]
    assert result["product"] == {"bytes": 1}
    assert seen == [(name, twin) for name in HLS_BLOCKS for twin in (False, True)]
    assert (result["config"], set(result)) == ("pynq_z2", {"config", "tools", "rows", "product"})
    for row in result["rows"]:
        kept = {"latency", "interval", "lines", "lines_dslx", "lines_cpp"}
        assert {key: row[key] for key in kept} == {key: ROWS[row["block"]][key] for key in kept}
        assert (row["lut"], row["lut_hls"], row["ratio"]) == (300, 371, 1.237)


def test_figures_of_a_product_that_avoids_communication(monkeypatch):
    """Of its elements three are made to differ."""
    (m, n, k), asked = (32, 48, 300), []
    rng = np.random.default_rng(5)
    a, b = rng.integers(-127, 128, (m, k)), rng.integers(-127, 128, (k, n))
    channel = ChannelParameters(
        multiplier=rng.integers(1 << 14, 1 << 16, n),
        shift=rng.integers(14, 18, n),
        bias=rng.integers(-9999, 9999, n),
    )
    wanted = requantise(
        a @ b, channel, np.full(m, ONE), 0 * a[:, 0], pre=0, row_shift=19, out_shift=0, bits=8
    )

    def simulate(*told):
        asked.append(told)
        return np.append(wanted.ravel() + (np.arange(m * n) < 3), 100_000)

    monkeypatch.setattr(avoiding, "simulate_vitis", simulate)
    bound = 2 * m * n * k / (16 * 16 + 2 * 16) ** 0.5
    assert avoiding.bench_avoiding((m, n, k), 16, 5) == {
        **{"shape": "32x48x300", "side": 16, "elements": 16 * 16 + 2 * 16, "bytes": 100_000},
        **{"bound": round(bound), "ratio": round(100_000 / bound, 3), "mismatches": 3},
    }
    ((name, facts, *operands),) = asked
    assert (name, facts.tolist()) == ("gemm16", [m, n, k, 1 << 15, 19, 0])
    records = pack_channel_parameters(channel, 16).view("<i8")
    assert all(map(np.array_equal, operands, (a.T, b, records)))
    defaults = [p.default for p in inspect.signature(avoiding.bench_avoiding).parameters.values()]
    assert defaults == [(512, 512, 512), 64, 1]


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
