"""The pages derived from the tables are those in the repository."""

import runpy
import sys
from pathlib import Path

import pytest

from transept.golden import isa, registers
from transept.golden.config import PYNQ_Z2
from transept.golden.pages import PAGES, write_pages

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_up_to_date(name, tmp_path):
    write_pages(tmp_path)
    assert (DOCS / name).read_text() == (tmp_path / name).read_text(), "run: make docs"


def test_pages_are_made_by_their_module(tmp_path, monkeypatch):
    """As ``make docs`` does."""
    monkeypatch.delitem(sys.modules, write_pages.__module__)
    monkeypatch.setattr(sys, "argv", ["pages", str(tmp_path)])
    runpy.run_module(write_pages.__module__, run_name="__main__")
    assert {path.name for path in tmp_path.iterdir()} == set(PAGES)


def test_every_instruction_and_operand_is_described():
    text = (DOCS / "isa.md").read_text()
    for opcode, fmt in isa.FORMATS.items():
        assert f"## {opcode.name} " in text
        for field in fmt.fields:
            assert f"`{field.name}`" in text


def test_every_register_and_error_is_described():
    text = (DOCS / "registers.md").read_text()
    for register in registers.table(PYNQ_Z2):
        assert f"`{register.name}`" in text
    for code in registers.ErrorCode:
        assert f"| {code.value} | {code.name} |" in text


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for part in page.read_text().split("](")[1:]:
        target = part.split(")")[0].split("#")[0]
        if target and "://" not in target:
            assert (page.parent / target).exists(), target
