"""Reference pages derived from the tables: run ``python -m transept.golden.pages docs``."""

from __future__ import annotations

import enum
import sys
from pathlib import Path

from transept.golden import isa, registers
from transept.golden.config import PYNQ_Z2

__all__ = ["PAGES", "isa_page", "registers_page", "write_pages"]

_NOTE = "Derived from `{source}` by `make docs`; a test fails if the two differ.\n"


def _values(values: type[enum.IntEnum]) -> str:
    return ", ".join(f"{value.value} {value.name}" for value in values)


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(header: tuple[str, ...], rows: list[tuple]) -> list[str]:
    return [_row(*header), _row(*("---",) * len(header)), *(_row(*row) for row in rows), ""]


def isa_page() -> str:
    """docs/isa.md."""
    lines = ["# Instruction set", "", _NOTE.format(source="golden/isa.py"), ""]
    lines += [isa.__doc__ or "", "", "## Header", ""]
    low = 0
    rows = []
    for field in isa.HEADER:
        rows.append((f"{low}..{low + field.width - 1}", f"`{field.name}`", field.doc))
        low += field.width
    lines += _table(("bits", "field", "meaning"), rows)
    engines = ", ".join(f"bit {engine.value} {engine.name}" for engine in isa.Engine)
    lines += [f"Masks: {engines}.", ""]
    for opcode, fmt in isa.FORMATS.items():
        engine = fmt.engine.name if fmt.engine is not None else "fetch"
        lines += [f"## {opcode.name} ({opcode.value:#04x}), engine {engine}", "", fmt.doc, ""]
        rows = []
        for field, low in fmt.offsets():
            doc = field.doc + (f": {_values(field.enum)}" if field.enum else "")
            kind = ", signed" if field.signed else ""
            rows.append((f"{low}..{low + field.width - 1}{kind}", f"`{field.name}`", doc))
        if rows:
            lines += _table(("bits", "operand", "meaning"), rows)
    return "\n".join(lines)


def registers_page() -> str:
    """docs/registers.md."""
    lines = ["# Registers", "", _NOTE.format(source="golden/registers.py"), ""]
    lines += [registers.__doc__ or "", ""]
    rows = []
    for register in registers.table(PYNQ_Z2):
        fields = register.fields
        detail = register.doc
        if fields[0].name != "value":
            parts = []
            for field in fields:
                bits = f"{field.low}" + (f"..{field.low + field.width - 1}" * (field.width > 1))
                values = f" ({_values(field.enum)})" if field.enum else ""
                parts.append(f"{bits} `{field.name}`: {field.doc}{values}")
            detail += ": " + "; ".join(parts)
        last = f" to `{register.offsets[-1]:#05x}`" if register.count > 1 else ""
        place = f"`{register.offset:#05x}`{last}"
        access = register.access.value + (" while idle" if register.locked else "")
        rows.append((place, f"`{register.name}`", access, detail))
    lines += _table(("offset", "register", "access", "meaning"), rows)
    codes = [(code.value, code.name) for code in registers.ErrorCode]
    lines += ["## Error codes", "", *_table(("code", "name"), codes)]
    return "\n".join(lines)


PAGES = {"isa.md": isa_page, "registers.md": registers_page}


def write_pages(folder: Path) -> None:
    """Write every page into ``folder``."""
    for name, page in PAGES.items():
        (folder / name).write_text(page())


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
