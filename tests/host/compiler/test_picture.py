"""The picture of a schedule shows every engine's work where it is."""

import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.isa import Engine
from transept.host.compiler.compile import schedule_of
from transept.host.compiler.cut import Shape
from transept.host.compiler.picture import MARGIN, WIDTH, draw, encoder_layer, main

RECT = "{http://www.w3.org/2000/svg}rect"


def test_every_bar_is_on_its_engine_and_within_the_picture():
    graph = encoder_layer(hidden=8, heads=2, inner=12, limit=16)
    schedule = schedule_of(graph, TINY, Shape(1, {"rows": 9}))
    svg = ElementTree.fromstring(draw(schedule, [op.name for op in graph.ops]))
    bars = [rect for rect in svg.iter(RECT) if len(rect)]
    assert len({rect.get("y") for rect in bars}) == len(Engine)
    for rect in bars:
        left, width = float(rect.get("x")), float(rect.get("width"))
        assert left >= MARGIN
        assert left + width <= WIDTH


def test_the_picture_of_the_page_is_the_schedule_of_today(tmp_path):
    main(str(tmp_path / "schedule.svg"))
    page = Path(__file__).parents[3] / "docs" / "schedule.svg"
    again = "run python -m transept.host.compiler.picture docs/schedule.svg"
    assert (tmp_path / "schedule.svg").read_text() == page.read_text(), again
    assert PYNQ_Z2.name in (page.parent / "compiler.md").read_text()


def test_the_command_writes_the_file_that_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["picture", str(tmp_path / "schedule.svg")])
    monkeypatch.delitem(sys.modules, main.__module__)
    runpy.run_module(main.__module__, run_name="__main__")
    assert [path.name for path in tmp_path.iterdir()] == ["schedule.svg"]
