"""The reports of runs and placements, line by line."""

from transept.golden.config import TINY
from transept.host import report

STALLS = {"TOKEN": 20, "ACCUMULATOR": 3, "FILTER": 2, "WEIGHTS": 40, "SCRATCHPAD": 5}
RUN = {
    **{"texts": ["one [a]", "two" * 40], "cosine": [0.99, 0.98765432], "cosine_min": 0.98},
    **{"similarity": [[1, 0.5], [0.5, 1]], "similarity_float32": [[1, 0.75], [0.75, 1]]},
    **{"mismatches_vs_emulator": 1, "mismatches_vs_golden": 2, "macs_share": 0.5, "regions": 3},
    **{"devices": ["cpu", "rtl"], "notes": ["cut [b]"], "cycles": 123456, "utilisation": 0.25},
    **{"bytes_read": 1234, "bytes_written": 5678, "wall_seconds": 1.26, "simulated_khz": 98.7},
    **{"array_cycles": 61728, "stalls": {"GEMM": STALLS}},
    "layers": [
        {"name": "e.0.attention", "device": "rtl", "cycles": 150, "macs": 1200, "reason": "r"},
        {"name": "e.1.attention", "device": "rtl", "cycles": 50, "macs": 1200, "reason": "r"},
        {"name": "fft", "device": "torch", "cycles": None, "macs": None, "reason": "op: [x]"},
    ],
}
#: Of a run, after its cosines.
COMPARED = [
    "mismatches: 1 against the emulator, 2 against the golden model",
    "50.0% of the multiply-accumulates in 3 regions or parts of them, on",
    "cpu, rtl",
    "note: cut [b]",
]
LAYERS = [
    "what ran where",
    " part      layers device cycles utilisation reason",
    " ─",
    " attention      2 rtl       200       75.0% r",
    " fft            1 torch       -           - op: [x]",
]


def test_the_report_of_a_run_of_texts(shown):
    report.show_model(RUN, TINY, "board")
    assert shown() == [
        "similarity",
        " accelerator 0      1 float32 0      1",
        " ─",
        "        1.0000 0.5000    1.0000 0.7500",
        "        0.5000 1.0000    0.7500 1.0000",
        "cosine to float32 0.99000  one [a]",
        f"cosine to float32 0.98765  {'two' * 14}",
        *COMPARED,
        "123,456 cycles = 1.23 ms at 100 MHz, 25.0% of the array's peak, memory",
        "board (6.4 bytes a cycle)",
        "1,234 bytes read, 5,678 written; simulated in 1.3 s (99 kHz)",
        "[60]",
        "█ GEMM 49.8%  █ attention 0.2%  █ vector 0.0%  █ memory 0.0%  █",
        "pipeline 49.9%",
        *LAYERS,
    ]


def test_the_report_of_a_run_of_something_else(terminal, shown):
    report.show_model(RUN | {"texts": [], "cycles": None}, TINY, "default")
    assert shown() == ["cosine to float32 0.98000 at least, of 2 rows", *COMPARED, *LAYERS]


def test_one_text_is_similar_to_no_other(terminal):
    lines = terminal(40)
    report.show_model(RUN | {"texts": ["two" * 40], "cosine": [1], "cycles": 0}, TINY, "default")
    found = lines()
    assert found[:2] == ["cosine to float32 1.00000", ("two" * 40)[:20]]


def test_memories_have_their_rates():
    """Bytes a cycle, of the figures that memory bounds."""
    assert report.RATES == {"wide": 25.6, "default": 12.8, "board": 6.4}


def test_without_a_simulation_there_is_no_speed(shown):
    report._show_cycles({**RUN, "simulated_khz": None}, TINY, "default")
    assert shown()[1:3] == [
        "default (12.8 bytes a cycle)",
        "1,234 bytes read, 5,678 written; simulated in 1.3 s",
    ]


def test_a_placement_has_its_parts_and_what_else_it_would_take(shown, monkeypatch):
    found = {
        **{"region": "r", "alone_ms": {"cpu": 3.0, "rtl": 12345.6}, "least": True},
        **{"predicted_ms": 1.5, "measured_ms": 2.5, "bound_ms": 0.5},
    }
    monkeypatch.setattr(report, "summary", lambda *asked: asked == ("region", 2e6) and found)
    monkeypatch.setattr(
        report, "part_rows", lambda *asked: asked == ("region", 2e6) and [{"elsewhere_ms": {}}]
    )
    monkeypatch.setattr(
        report, "with_columns", lambda rows: [{"part": "some operators", "ms": len(rows)}]
    )
    rows = ["placement of r", " part           ms", " ─", " some operators  1"]
    alone = "alone: cpu 3 ms, rtl 12,346 ms; no plan is below 0.5 ms"
    for least, more in ((True, " (no other parts take less)"), (False, "")):
        found["least"] = least
        report.show_placement(["region"], 2e6)
        assert shown() == [*rows, f"predicted 1.5 ms{more}, measured 2.5 ms", alone]
