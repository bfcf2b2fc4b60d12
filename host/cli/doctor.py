"""``transept doctor``."""

from __future__ import annotations

from transept.host import report
from transept.host.doctor import examine

__all__ = ["doctor"]


def doctor() -> None:
    """Check that everything Transept needs is installed, and say how to get the rest."""
    checks = examine()
    rows = [
        {"what": c.name, "for": c.purpose, "found": c.found, "remedy": c.remedy} for c in checks
    ]
    report.show_rows("transept doctor", rows)
    missing = [check for check in checks if not check.ok]
    if missing:
        raise ValueError("missing: " + "; ".join(f"{c.name} ({c.remedy})" for c in missing))
