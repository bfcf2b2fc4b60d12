"""Tables never cut what they show, and shares are shares."""

import pytest
import torch
from small_models import Stack

import transept
from transept.golden.config import TINY
from transept.golden.isa import Filter, Instruction, Opcode
from transept.host import report
from transept.host.bench.model import bench_model, layer_cycles
from transept.host.models import Prepared

NAMES = ("first", "second_of_many", "third_with_a_long_name", "fourth", "fifth_thing", "sixth_one")


def words(lines):
    return set(" ".join(lines).split())


@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_no_word_of_a_table_is_cut(terminal, width, count):
    lines = terminal(width)
    rows = [
        {"shape": f"{4000 + n}x4080x4080"} | dict.fromkeys(NAMES, 10**9 + n) for n in range(count)
    ]
    report.show_rows("numbers", rows)
    shown = words(lines())
    assert {row["shape"] for row in rows} <= shown
    assert {f"{10**9 + n:,}" for n in range(count)} <= shown
    assert set("_".join(NAMES).split("_")) <= shown


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_table_that_fits_turned_is_turned(terminal, rows):
    lines = terminal(60)
    report.show_rows("numbers", [{"key": "x"} | dict.fromkeys(NAMES, 10**9)] * rows)
    assert max(map(len, lines())) <= 60


def test_no_rows(terminal):
    lines = terminal(80)
    report.show_rows("cache", [])
    assert lines() == ["cache: nothing"]


def test_markup_in_cells_is_text(terminal):
    lines = terminal(80)
    report.show_rows("x", [{"name": "[red]a[/blue]"}])
    assert "[red]a[/blue]" in words(lines())


def test_a_table_of_rows(shown):
    """Numbers are on the right; the unit of a heading is in the words of its key."""
    common = {"ok": True, "none": None, "big": 10_000.0}
    report.show_rows(
        "numbers",
        [
            {"what_it_is": "a", "count": 12345, "share": 0.123456} | common,
            {"what_it_is": "long [x]", "count": 1, "share": -123456.7}
            | {"ok": False, "none": 2.0, "big": 9999.4},
        ],
    )
    assert shown() == [
        "numbers",
        " what it is  count    share  ok none    big",
        " ─",
        " a          12,345   0.1235 yes    - 10,000",
        " long [x]        1 -123,457  no    2   9999",
    ]


def test_a_turned_table(shown):
    report.show_rows("wide", [{"key": "x"} | {f"number_{n}": 10**9 for n in range(6)}])
    assert shown() == [
        *("wide", " key                  x", " ─"),
        *(f" number {n} 1,000,000,000" for n in range(6)),
    ]


def test_a_table_is_rather_wider_than_the_terminal_than_without_digits(terminal):
    lines = terminal(8)
    report.show_rows("wide", [{"a": 123456, "b": 1234567}, {"a": 1, "b": 2}])
    heading, rule = "       a         b", f" {'─' * 17}"
    assert lines()[2:6] == [heading, rule, " 123,456 1,234,567", "       1         2"]


def test_columns_are_widened_from_the_left_as_far_as_there_is_room():
    columns = [["a bb", "ccc"], ["", ""], ["dddd eeee", "f"]]
    assert report._fit(columns, 14) == ([4, 0, 6], True)
    assert report._fit(columns, 12) == ([4, 0, 4], True)
    assert report._fit(columns, 11) == ([3, 0, 4], True)
    assert report._fit(columns, 10) == ([3, 0, 4], False)
    assert report._fit(columns, 99) == ([4, 0, 9], True)


def test_two_matrices_are_side_by_side(shown):
    report.matrix("similar", [[1, 0.5], [0.25, 1]], [[1, 0.75], [0.125, 1]], ("one", "other"))
    assert shown() == [
        "similar",
        "  one 0      1 other 0      1",
        " ─",
        " 1.0000 0.5000  1.0000 0.7500",
        " 0.2500 1.0000  0.1250 1.0000",
    ]


def test_parts_of_a_bar_have_their_shares(shown):
    report.cycle_bar((("one", 50, "green"), ("two", 24, "red")), 100)
    report.cycle_bar((("none", 0, "green"),), 0)
    assert shown() == ["█" * (30 + 14), "█ one 50.0%  █ two 24.0%", "█ none 0.0%"]


def test_json_ends_with_a_line(tmp_path):
    report.write_json(tmp_path / "x", {"a": [1]})
    assert (tmp_path / "x").read_text() == '{\n  "a": [\n    1\n  ]\n}\n'
    report.write_json(None, 3)


def test_errors_are_one_line_on_standard_error(capsys):
    report.show_error("no  such\n [thing]")
    assert capsys.readouterr() == ("", "error: no such [thing]\n")


def test_parts_are_never_cut_and_what_is_long_wraps(terminal):
    lines = terminal(80)
    layer = {"device": "rtl", "cycles": 1_772_268, "macs": 10**8}
    layers = [
        layer
        | {"name": f"encoder.{n}.attention.output.dense", "reason": "part of a long reason " * 4}
        for n in range(6)
    ]
    report.show_layers(layers, 256)
    shown = lines()
    assert "attention.output.dense" in words(shown)
    assert max(map(len, shown)) <= 80
    assert "10,633,608" in words(shown)


def matmul(rows, k_tiles, halves=0):
    operands = {"rows": rows - 1, "k_tiles": k_tiles, "n_tiles": 1, "halves": halves}
    return Instruction(Opcode.MATMUL, operands)


def test_layers_have_the_cycles_of_their_work():
    """The second instruction streams while the first drains, and would get 10 of its 64 cycles."""
    program = [matmul(8, 8), matmul(8, 8), Instruction(Opcode.LOAD, {}), matmul(4, 4)]
    found = layer_cycles(["a", "b", "", "a"], program, TINY, [130, 140, 160])
    assert found == {"a": 76 + 20, "b": 64}
    assert sum(found.values()) == 160


def test_rows_in_halves_have_twice_the_cycles_of_rows():
    program = [matmul(4, 4, halves=1), matmul(4, 4)]
    assert layer_cycles(["a", "b"], program, TINY, [100, 150]) == {"a": 100, "b": 50}
    program = [matmul(8, 8, halves=1), matmul(8, 8)]
    assert layer_cycles(["a", "b"], program, TINY, [150, 200]) == {"a": 136, "b": 64}


def test_what_a_filter_keeps_is_not_assumed():
    operands = {"rows": 15, "keys": 63, "d_tiles": 8, "filter": Filter.CAUSAL}
    scores = Instruction(Opcode.SCORES, operands)
    context = Instruction(Opcode.CONTEXT, operands)
    program = [matmul(1, 1), scores, context]
    assert layer_cycles(["a", "b", "b"], program, TINY, [10, 20, 30]) == {"a": 10, "b": 20}
    dense = [matmul(1, 1), Instruction(Opcode.SCORES, operands | {"filter": Filter.DENSE}), context]
    found = layer_cycles(["a", "b", "b"], dense, TINY, [3000, 5000, 5030])
    assert found["b"] == 5030 - (5030 - 2 * 16 * 16 * 8)


def measured(layers, *inputs, device):
    torch.manual_seed(0)
    program = transept.compile(Stack(layers=layers), inputs, config=TINY)
    return bench_model(Prepared("stack", program, inputs), device=device)


def test_padding_is_no_work():
    """Attention shrinks with the square of the length, the rest with the length."""
    x = torch.randn(2, 16, 8)
    for lengths in ([16, 16], [5, 9], [1, 1]):
        mask = (torch.arange(16) < torch.tensor(lengths)[:, None]).long()
        found = measured(2, x, mask, device="emulator")
        linears = sum(lengths) * 2 * (4 * 8 * 8 + 2 * 8 * 12)
        assert found["macs"] == linears + 2 * sum(2 * n * n * 8 for n in lengths)
        assert found["macs"] == sum(layer["macs"] or 0 for layer in found["layers"])


def test_no_part_of_a_real_run_takes_more_than_all():
    found = measured(2, torch.randn(1, 16, 8), device="rtl")
    layers = [layer for layer in found["layers"] if layer["device"] == "rtl"]
    assert len(layers) == 2 * 7
    for layer in layers:
        assert 0 < layer["utilisation"] <= 1, layer
    assert sum(layer["cycles"] for layer in layers) <= found["cycles"]
    assert found["mismatches_vs_emulator"] == found["mismatches_vs_golden"] == 0
    assert found["launches"] == found["regions"] == 1
    assert found["simulated_khz"] > 0
    assert {"TOKEN", "ACCUMULATOR", "FILTER"} <= set(found["stalls"]["GEMM"])


def test_cycles_of_the_array_and_those_it_waits_are_all(monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "cycle_bar", lambda parts, whole: drawn.append((parts, whole)))
    monkeypatch.setattr(report.console, "print", lambda text: None)
    stalls = {"TOKEN": 20, "ACCUMULATOR": 3, "FILTER": 2, "WEIGHTS": 40, "SCRATCHPAD": 5}
    result = {
        **{"cycles": 1000, "array_cycles": 700, "utilisation": 0.7, "stalls": {"GEMM": stalls}},
        **{"bytes_read": 1, "bytes_written": 1, "wall_seconds": 1.0},
        "layers": [{"name": "a.attention", "cycles": 150}, {"name": "a.linear", "cycles": 800}],
    }
    report._show_cycles(result, TINY, "default")
    ((parts, whole),) = drawn
    assert whole == 1000
    assert [(name, cycles) for name, cycles, _ in parts] == [
        *(("GEMM", 550), ("attention", 150), ("vector", 25), ("memory", 45), ("pipeline", 230)),
    ]
